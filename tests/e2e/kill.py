"""Kills a short wheel with SIGKILL at random moments, starts it again, and compares what comes out.

    python -m tests.e2e.kill --kills 20

Every attempt is a process of its own, forked from this one to spare the imports, in a process group that is killed as a
whole. A wheel that ends before all kills are spent is compared, and another one begun.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping

from matwheel.flywheel.latest import LAST
from matwheel.flywheel.ledger import Ledger, StageResult
from matwheel.flywheel.stages import FitSettings
from matwheel.models.checkpoints import WholeCheckpoints
from matwheel.writers import StructureWriter
from tests.e2e.toy_wheel import spin
from tests.small_data import write_small_table

WORK = "work.log"
"""A line for every epoch, chunk of samples and stage that was finished."""


def _turn(folder: Path, table: Path) -> None:
    """The wheel that is killed: rounds, weight averaging, early stopping, a prior, samples, all kinds of stages."""
    spin(
        folder,
        table,
        epochs=5,
        labelled_fraction=0.5,
        rounds=2,
        arms=("S", "S+P", "G_S then S", "S+G_S"),
        callbacks=[EarlyStopping("val/mae", patience=2)],
        generator_fit=FitSettings(max_epochs=4, batch_size=8, ema_decay=0.9),
        prior_fit=FitSettings(max_epochs=4, batch_size=8, check_val_every_n_epoch=2),
    )


def _note_work(log: Path) -> None:
    """Write down what is finished, after it is on disk: what occurs twice was done twice."""

    def noting(owner: type, name: str, describe: Callable[..., str | None]) -> None:
        original = getattr(owner, name)

        def noted(self: Any, *args: Any, **options: Any) -> Any:
            result = original(self, *args, **options)
            line = describe(result, *args)
            if line is not None:
                with log.open("a") as file:
                    file.write(f"{line}\n")
            return result

        setattr(owner, name, noted)

    def epoch(_: None, checkpoint: dict[str, Any], path: str) -> str | None:
        stage = Path(path).parent.name.partition(".partial-")[0]
        return f"epoch {checkpoint['epoch']} of {stage}" if Path(path).name == LAST else None

    def chunk(_: None, trainer: Any, __: Any, ___: Any, ____: Any, batch: Any, *_____: Any) -> str:
        return f"samples from {int(batch.index[0])} of {Path(trainer.default_root_dir).name.partition('.partial-')[0]}"

    def stage(result: StageResult, name: str, *_: Any) -> str | None:
        return None if result.skipped else f"stage {name}"

    noting(WholeCheckpoints, "save_checkpoint", epoch)
    noting(StructureWriter, "write_on_batch_end", chunk)
    noting(Ledger, "run", stage)


def _attempt(folder: Path, table: Path, pieces: int | None = None, seconds: float = 0) -> bool:
    """Turn the wheel in a new process; returns whether it came to its end.

    Args:
        folder: Of the wheel.
        table: The crystals.
        pieces: Kill it when so many more pieces of work are finished; never by default.
        seconds: Kill it so much later.
    """
    before = len(_work(folder))
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        status = 1
        try:
            _note_work(folder.with_suffix(f".{WORK}"))
            with folder.with_suffix(".out").open("a") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                _turn(folder, table)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    with contextlib.suppress(OSError):  # whichever of the two comes first
        os.setpgid(child, child)
    deadline: float | None = None
    while deadline is None or time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if status:
                raise RuntimeError(f"an attempt failed: {folder.with_suffix('.out').read_text()[-4000:]}")
            return True
        if deadline is None and pieces is not None and len(_work(folder)) - before >= pieces:
            deadline = time.monotonic() + seconds
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _work(folder: Path) -> list[str]:
    """What was finished of a wheel, in order."""
    log = folder.with_suffix(f".{WORK}")
    return log.read_text().splitlines() if log.is_file() else []


def _outcome(folder: Path) -> dict[str, Any]:
    """All results of a finished wheel that do not depend on time."""
    outcome: dict[str, Any] = {"rounds.csv": (folder / "rounds.csv").read_text()}
    outcome["results.csv"] = pd.read_csv(folder / "results.csv").drop(columns="seconds").to_csv()
    for name, record in json.loads((folder / "ledger.json").read_text())["stages"].items():
        outcome[f"{name}: status"] = record["status"]
        outcome[f"{name}: key"] = record["key"]
        outcome[f"{name}: metrics"] = {k: repr(v) for k, v in record["metrics"].items() if k != "fit_seconds"}
    for path in sorted((folder / "stages").rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".parquet", ".npz", ".extxyz", ".cif") or path.name.endswith("predictions.csv"):
            outcome[name] = path.read_bytes()
        elif path.name == "best.ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            outcome[name] = {
                key: value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
                for key, value in state.items()
            }
        elif path.name.endswith(".tmp") or ".partial-" in name:
            outcome[name] = "left over"
    return outcome


def kill(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill wheels and compare each with one that was left alone.

    Args:
        kills: How often.
        seed: Decides the moments.
        folder: Where all is written.

    Returns:
        Numbers of `kills`, finished `wheels`, results `compared`; what was `repeated` and what is `different`; the
        stages that the wheel was killed in.
    """
    torch.set_num_threads(1)
    table = write_small_table(folder / "small.xyz")
    _attempt(folder / "warm", table)  # fills the cache of graphs
    clock = time.monotonic()
    _attempt(folder / "unbroken", table)
    duration = time.monotonic() - clock
    expected, work = _outcome(folder / "unbroken"), _work(folder / "unbroken")
    generator = random.Random(seed)
    spent, wheels, repeated, different, killed_in = 0, 0, Counter[str](), Counter[str](), Counter[str]()
    while spent < kills:
        run = folder / f"killed-{wheels}"
        while True:
            pieces = generator.randint(0, 2 * len(work) // kills) if spent < kills else None
            if _attempt(run, table, pieces, generator.uniform(0, 2 * duration / len(work))):
                break
            spent += 1
            killed_in[_running(run)] += 1
        wheels += 1
        outcome, done = _outcome(run), Counter(_work(run))
        different.update(name for name in expected | outcome if expected.get(name) != outcome.get(name))
        different.update(f"work: {line}" for line in set(done) - set(work))
        repeated.update({line: count - 1 for line, count in done.items() if count > 1})
        shutil.rmtree(run)
    return {
        "seconds": round(duration, 1),
        "pieces of work": len(work),
        "kills": spent,
        "wheels": wheels,
        "compared": len(expected),
        "repeated": dict(repeated),
        "different": dict(different),
        "killed in": dict(killed_in),
    }


def _running(folder: Path) -> str:
    """The stage at work according to the ledger."""
    ledger = folder / "ledger.json"
    stages = json.loads(ledger.read_text())["stages"] if ledger.is_file() else {}
    return next((name for name, record in stages.items() if record["status"] == "running"), "between stages")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report = kill(options.kills, options.seed, Path(temporary))
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["repeated"] or report["different"]))
