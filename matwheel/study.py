"""Many runs of the wheel from one file: `python -m matwheel.study --help`."""

from __future__ import annotations

import logging
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from matwheel.command import command
from matwheel.files import RUNS, replaced_when_complete
from matwheel.processors import available_processors
from matwheel.signals import handled
from matwheel.studies.engine import Engine
from matwheel.studies.local import LocalEngine
from matwheel.studies.ray_cluster import RayEngine
from matwheel.studies.runner import RESULTS, cell_runs, run_study
from matwheel.studies.slurm import SlurmEngine
from matwheel.studies.statistics import statistics
from matwheel.studies.study_file import Study, read_study
from matwheel.studies.summary import format_statistics

log = logging.getLogger(__name__)

STATISTICS = "statistics.csv"
_LAST_LINES = 5


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.

    Raises:
        SystemExit: With status 1 if a cell failed, 130 or 143 when told to end by SIGINT or SIGTERM.
    """
    with command(_parser(), args) as options:
        _run(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m matwheel.study",
        description="Run the grid of a study, a run of the flywheel per cell, skipping what is finished, and compare "
        f"arms over splits. Writes {RESULTS} (one row per model) after every cell and {STATISTICS} at the end.",
    )
    parser.add_argument("study", type=Path, help="Study file (YAML).")
    parser.add_argument(
        "--folder", type=Path | None, default=None, help=f"Folder of the study; {RUNS}/NAME by default."
    )
    parser.add_argument("--jobs", type=int, default=1, help="Cells run at a time.")
    parser.add_argument(
        "--threads", type=int | None, default=None, help="Threads of each; by default the processors divided by jobs."
    )
    parser.add_argument(
        "--gpus",
        type=int | None,
        default=None,
        help="GPUs of each; by default those of this machine are divided among the jobs, and Ray and SLURM are asked "
        "for none.",
    )
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="Show all cells and run none.")
    parser.add_argument(
        "--engine",
        type=Literal["local", "ray", "slurm"],
        default="local",
        help='Processes of this machine, a Ray cluster (pip install "matwheel[ray]") or a SLURM job array '
        '("matwheel[slurm]").',
    )
    parser.add_class_arguments(SlurmEngine, "slurm", skip={"jobs", "threads", "gpus", "folder"})
    return parser


def _run(options: Namespace) -> None:
    study = read_study(options.study)
    folder = options.folder if options.folder is not None else RUNS / study.name
    if options.dry_run:
        _show(study, folder)
        return
    engine = _engine(options, folder)
    with handled({signal.SIGTERM: _terminate, signal.SIGINT: _terminate}):
        failed = run_study(study, folder, engine)
    _conclude(study, folder)
    for finished in failed:
        command = finished.command
        log.error("\n%s: %s\n%s\n(%s)", command.name, finished.problem, command.last_lines(_LAST_LINES), command.log)
    if failed:
        log.error("\n%d of %d cells failed; the same command runs them again", len(failed), len(study.cells))
        raise SystemExit(1)


def _engine(options: Namespace, folder: Path) -> Engine:
    jobs = options.jobs
    threads = options.threads if options.threads is not None else max(available_processors() // max(jobs, 1), 1)
    if min(jobs, threads) < 1:
        raise ValueError(f"jobs ({jobs}) and threads ({threads}) must be at least 1")
    gpus = options.gpus
    if gpus is not None and gpus < 0:
        raise ValueError(f"gpus ({gpus}) must be at least 0")
    match options.engine:
        case "ray":
            return RayEngine(jobs, threads, gpus or 0)
        case "slurm":
            return SlurmEngine(jobs, threads, gpus or 0, folder / "slurm", **vars(options.slurm))
        case _:
            return LocalEngine(jobs, threads, gpus)


def _show(study: Study, folder: Path) -> None:
    """Print the state and the command of each cell."""
    runs = cell_runs(study, folder)
    for run in runs:
        print(f"{'finished' if run.is_finished() else 'to run'}: {run.cell.name}")
        print(f"  {shlex.join(run.command().arguments)}")
    print(f"{sum(not run.is_finished() for run in runs)} of {len(runs)} cells to run in {folder}")


def _conclude(study: Study, folder: Path) -> None:
    """Write and print the statistics of what is finished."""
    if not (folder / RESULTS).is_file():
        return
    names = {axis: str for axis in (*study.axes, "split")}
    results = pd.read_csv(
        folder / RESULTS,
        dtype=names,
        keep_default_na=False,  # an axis may have the value None
        na_values=[""],
        float_precision="round_trip",
    )
    table = statistics(results, study.axes)
    with replaced_when_complete(folder / STATISTICS) as temporary:
        table.convert_dtypes().to_csv(temporary, index=False)  # 2 wins, not 2.0, beside empty cells
    print(f"\n{format_statistics(table)}\n\nResults: {folder / RESULTS}, {folder / STATISTICS}")


def _terminate(signum: int, _: FrameType | None) -> None:
    """End; the engine ends what it runs."""
    log.warning("received %s: the study ends here, the same command continues it", signal.Signals(signum).name)
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    main()
