"""What a person sees at the end of a fit: the results, where everything lies, and what can be done next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from lightning.pytorch.callbacks import ModelCheckpoint

from matwheel.data.catalogue import unit_of
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.ledger import STAGES
from matwheel.flywheel.names import BASELINE, fitted_stage, predictor_stage, round_suffix
from matwheel.flywheel.references import REUSED, Baseline
from matwheel.flywheel.results import ResultRow
from matwheel.flywheel.trainers import BEST
from matwheel.flywheel.wheel import RESULTS, ROUNDS, Wheel
from matwheel.metrics.calibration import can_calibrate
from matwheel.models.trained import FITTED
from matwheel.report.table import format_results, format_rounds

SYNTHETIC = "synthetic.extxyz"
"""The synthetic crystals of the last arm in its best round, with the labels it was trained on."""
_COVERAGE = 0.9


def end_screen(wheel: Wheel, log_dir: Path | None) -> str:
    """Tables, paths and commands; of what is there.

    Args:
        wheel: It may have ended early.
        log_dir: Where the trainer that it is attached to logs.
    """
    known, folder = wheel.scenario.known, wheel.run.ledger.folder
    unit = unit_of(known.dataset, known.target)
    tables = [format_results(wheel.results, unit)]
    if wheel.rounds > 1 and wheel.round_rows:
        tables.append(format_rounds(wheel.round_rows, unit))
    best = _best_predictor(folder, wheel.results, wheel.own_predictor)
    paths = {
        "results": folder / RESULTS,
        "rounds": folder / ROUNDS,
        "synthetic crystals": folder / SYNTHETIC,
        "best predictor": best,
        "log and config": log_dir,
    }
    commands = {"report": _command("report", folder, "--out", folder / "report.html")}
    if best is not None:
        commands["predict"] = _predict(best, known)
    prior = folder / STAGES / f"prior{wheel.best.suffix if wheel.turns else ''}" / BEST
    if prior.is_file():
        commands["sample"] = _command("sample", prior, "--values", wanted_values(known.conditions), "--n", 64)
    there = {name: str(path) for name, path in paths.items() if path is not None and path.exists()}
    return "\n\n".join([*tables, _screen(there, commands)])


def predictor_screen(checkpoints: ModelCheckpoint, data: CrystalDataModule, log_dir: str | None) -> str:
    """The same of a fit of one predictor without a wheel.

    Args:
        checkpoints: Knows the best one.
        data: What it was fitted to.
        log_dir: Where its trainer logs.
    """
    best, score = Path(checkpoints.best_model_path), checkpoints.best_model_score
    unit = unit_of(data.dataset, data.target)
    lines = {f"best {checkpoints.monitor}": f"{float(score):.4g} {unit}".rstrip()} if score is not None else {}
    lines |= {"best predictor": str(best), "log and config": str(log_dir)}
    return _screen(lines, {"predict": _predict(best, data)})


def _screen(lines: dict[str, str], commands: dict[str, str]) -> str:
    return "\n".join([*_aligned(lines), "next:", *(f"  {line}" for line in _aligned(commands))])


def _predict(best: Path, data: CrystalDataModule) -> str:
    interval = ("--interval", _COVERAGE) if can_calibrate(len(data.val_rows), _COVERAGE) else ()
    return _command("predict", best, "NEW.cif", *interval)


def wanted_values(conditions: Sequence[str]) -> str:
    """What a person replaces by the values that crystals shall have, as `--values` takes them."""
    return "VALUE" if len(conditions) == 1 else f"[{', '.join(map(str.upper, conditions))}]"


def _command(name: str, *arguments: object) -> str:
    """A command that can be pasted into a shell, whatever a run is called."""
    return shlex.join(["python", "-m", f"matwheel.{name}", *map(str, arguments)])


def _best_predictor(folder: Path, results: Sequence[ResultRow], own: str) -> Path | None:
    """File of the predictor with the lowest validation error of all that can be used; None without one."""
    found = {folder / STAGES / _file(row, own): row.val_mae for row in results if row.predictor not in REUSED.values()}
    kept = [path for path in found if path.is_file()]
    return min(kept, key=lambda path: found[path], default=None)


def _file(row: ResultRow, own: str) -> Path:
    """What the stage of a row has left, within the folder of stages."""
    suffix = round_suffix(row.round)
    if row.arm in get_args(Baseline):
        return Path(BASELINE.format(row.arm), FITTED)
    if row.predictor == own:
        return Path(predictor_stage(row.arm, suffix), BEST)
    return Path(fitted_stage(row.arm, row.predictor, suffix), FITTED)


def _aligned(lines: dict[str, str]) -> list[str]:
    width = max(map(len, lines))
    return [f"{name.ljust(width)}  {text}" for name, text in lines.items()]
