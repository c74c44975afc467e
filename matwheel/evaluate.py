"""Metrics of generated crystals: `python -m matwheel.evaluate --help`."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jsonargparse import ArgumentParser, Namespace

from matwheel.command import command
from matwheel.data.catalogue import load
from matwheel.data.rows import LoadedTable
from matwheel.files import METRICS, check_output, check_writable, replaced_when_complete, write_text_atomically
from matwheel.metrics.checks import SpaceGroup
from matwheel.metrics.coverage import CoverageCutoffs
from matwheel.metrics.evaluation import Evaluation, Judge, Settings, evaluate
from matwheel.metrics.figures import format_figures
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.metrics.generated import read_generated
from matwheel.metrics.matching import MatchTolerances
from matwheel.metrics.pool import Pool
from matwheel.metrics.potential import CHGNet
from matwheel.metrics.relaxation import RelaxationSettings
from matwheel.models.trained import model_file
from matwheel.predictors.saved import SavedPredictor
from matwheel.report.numbers import unit_in_text

log = logging.getLogger(__name__)

STRUCTURES = "structures.csv"
_CONDITION_PREFIX = "condition_"
_LOG_FOLDER = re.compile(r"checkpoints|version_\d+")
"""Folders that a run has of its own."""
_PACKAGES = ("matwheel", "pymatgen", "matminer", "smact", "spglib", "torch")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.
    """
    with command(_parser(), args) as options:
        _run(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m matwheel.evaluate",
        description="Judge generated crystals: validity, coverage, uniqueness, novelty, memorisation, symmetry, with a "
        "potential stability and, with a predictor, whether they meet the conditions that were asked for. Prints a "
        f"table and writes {STRUCTURES} (one row per crystal) and {METRICS}.",
    )
    parser.add_argument(
        "generated",
        type=str,
        help="Generated crystals: extended XYZ, CSV, JSON, Parquet, a folder of CIFs, or the name of a data set.",
    )
    parser.add_argument(
        "--reference",
        type=str,
        required=True,
        help="Crystals to compare with, the training set as a rule: name of a data set or path of a table.",
    )
    parser.add_argument("--out", type=Path | None, default=None, help="Folder to write to; NAME-evaluation by default.")
    parser.add_argument(
        "--data_dir", type=Path | None, default=None, help="Folder with further data sets; $MATWHEEL_DATA by default."
    )
    parser.add_argument(
        "--cache_dir",
        type=Path | None,
        default=None,
        help="Where fingerprints are cached; $MATWHEEL_CACHE or the user's cache folder by default.",
    )
    parser.add_argument(
        "--predictor",
        type=Path,
        nargs="+",
        default=[],
        help="Predictors that judge conditions, checkpoints or folders as for 'python -m matwheel.predict'; at best "
        "trained on crystals the generator has not seen.",
    )
    parser.add_argument(
        "--predictor_config",
        type=Path | None,
        default=None,
        help="config.yaml of the run of predictors that are networks; found beside each checkpoint by default.",
    )
    parser.add_argument(
        "--condition",
        type=str | None,
        default=None,
        help=f"Column with the values asked for; by default the one that begins with {_CONDITION_PREFIX}.",
    )
    parser.add_argument(
        "--potential",
        type=Literal["chgnet"] | None,
        default=None,
        help="Pretrained potential that says how stable the crystals are; about 1 s per crystal and processor.",
    )
    parser.add_class_arguments(RelaxationSettings, "relaxation")
    parser.add_argument("--min_distance", type=float, default=0.5, help="A; a closer pair of atoms is invalid.")
    parser.add_class_arguments(CoverageCutoffs, "cutoffs")
    parser.add_class_arguments(MatchTolerances, "tolerances")
    parser.add_class_arguments(SpaceGroup, "symmetry")
    parser.add_class_arguments(Pool, "pool", default={"progress": True})
    return parser


def _run(options: Namespace) -> None:
    started = time.perf_counter()
    folder = options.out if options.out is not None else _default_folder(options.generated)
    given = [Path(options.generated).expanduser(), Path(options.reference).expanduser()]
    for name in (STRUCTURES, METRICS):
        check_output(folder / name, given)
    if any(path.is_dir() and path.resolve() == folder.resolve() for path in given):
        raise ValueError(f"{STRUCTURES} in {folder} would be taken for the names of its crystals: name another --out")
    potential = CHGNet() if options.potential == "chgnet" else None  # may lack its package, which is said at once
    generated = read_generated(options.generated, options.data_dir)
    if generated.report.bad:
        log.warning("%s\n  rows that cannot be read count as failures", generated.report.summary())
    reference = load(options.reference, options.data_dir, keep_repeated_ids=True)
    if reference.report.bad:
        log.warning("%s\n  they are missing where crystals are compared", reference.report.summary())
    judges = _judges(options, generated)
    cutoffs, tolerances = CoverageCutoffs(**vars(options.cutoffs)), MatchTolerances(**vars(options.tolerances))
    symmetry, pool = SpaceGroup(**vars(options.symmetry)), Pool(**vars(options.pool))
    check_writable(folder)
    fingerprints = Fingerprints.cached(reference.table, pool, options.cache_dir)
    relaxation = RelaxationSettings(**vars(options.relaxation))
    settings = Settings(cutoffs, tolerances, options.min_distance, (symmetry,), potential, relaxation)
    evaluation = evaluate(generated, reference.table, fingerprints, settings, pool, judges)
    record = {
        "generated": {
            "source": options.generated,
            "rows": generated.report.total,
            "fingerprint": generated.table.fingerprint(),
        },
        "reference": {
            "source": options.reference,
            "rows": len(reference),
            "skipped": len(reference.report.bad),
            "fingerprint": reference.table.fingerprint(),
        },
        "settings": {
            "cutoffs": asdict(cutoffs),
            "tolerances": asdict(tolerances),
            "symmetry": asdict(symmetry),
            "min_distance": options.min_distance,
            "timeout": pool.timeout,
            "potential": None if potential is None else {"chgnet": potential.version, **asdict(relaxation)},
            "predictors": [str(path) for path in options.predictor],
        },
        "versions": {name: version(name) for name in _PACKAGES},
        "seconds": round(time.perf_counter() - started, 1),
    }
    _print(evaluation, record)
    _write(evaluation, record, folder)


def _judges(options: Namespace, generated: LoadedTable) -> list[Judge]:
    if not options.predictor:
        return []
    condition = options.condition or _find_condition(generated)
    generated.check_property(condition)
    names = [_judge_name(path) if len(options.predictor) == 1 else str(path) for path in options.predictor]
    saved = [SavedPredictor.load(model_file(path), options.predictor_config) for path in options.predictor]
    for path, judge in zip(options.predictor, saved, strict=True):
        if not options.condition and judge.target not in (None, condition.removeprefix(_CONDITION_PREFIX)):
            raise ValueError(
                f"{path} predicts {judge.target}, and the crystals were asked for by {condition}: give a predictor of "
                "that property, or name the column to compare with as --condition"
            )
    unit = unit_in_text(options.reference, condition.removeprefix(_CONDITION_PREFIX))
    return [Judge(name, judge.predict, condition, unit) for name, judge in zip(names, saved, strict=True)]


def _judge_name(path: Path) -> str:
    """Name of the run, the stage or the exported folder that a predictor is from."""
    folders = [path.resolve(), *path.resolve().parents][0 if path.is_dir() else 1 :]
    return next(folder.name for folder in folders if not _LOG_FOLDER.fullmatch(folder.name))


def _find_condition(generated: LoadedTable) -> str:
    found = [name for name in generated.table.properties if name.startswith(_CONDITION_PREFIX)]
    if len(found) != 1:
        raise ValueError(
            f"{generated.name} has {len(found)} columns that begin with '{_CONDITION_PREFIX}': name the one with the "
            f"values asked for as --condition; numeric columns: {', '.join(generated.table.properties) or 'none'}"
        )
    return found[0]


def _default_folder(source: str) -> Path:
    path = Path(source)
    path = path if path.name not in ("", "..") else path.resolve()  # of "." the name of the folder
    name = path.name if path.is_dir() else path.name.removesuffix(".gz").removesuffix(".zip")
    return path.with_name(f"{name if path.is_dir() else Path(name).stem}-evaluation")


def _print(evaluation: Evaluation, record: dict[str, Any]) -> None:
    settings = record["settings"]
    print(f"{record['generated']['source']} against {record['reference']['source']}, {record['seconds']:g} s")
    for name in ("cutoffs", "tolerances", "symmetry"):
        print(f"  {name}: " + ", ".join(f"{key} {value:g}" for key, value in settings[name].items()))
    print(format_figures(evaluation.figures))
    for step, counts in evaluation.failures.items():
        print(f"failures in {step}: " + "; ".join(f"{count} x {what}" for what, count in counts.items()))


def _write(evaluation: Evaluation, record: dict[str, Any], folder: Path) -> None:
    with replaced_when_complete(folder / STRUCTURES) as temporary:
        finite = evaluation.structures.replace([np.inf, -np.inf], np.nan)
        finite.convert_dtypes().to_csv(temporary, index=False)  # 6, not 6.0, beside empty cells
    content = {
        **record,
        "figures": [_plain(asdict(figure)) for figure in evaluation.figures],
        "failures": evaluation.failures,
        "histograms": evaluation.histograms,
    }
    write_text_atomically(folder / METRICS, json.dumps(content, indent=1, allow_nan=False))
    log.info("wrote %s and %s to %s", STRUCTURES, METRICS, folder)


def _plain(figure: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {**figure, "value": figure["value"] if math.isfinite(figure["value"]) else None}


if __name__ == "__main__":
    main()
