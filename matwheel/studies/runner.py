"""Runs what is missing of a study and keeps its table."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from matwheel.files import replaced_when_complete
from matwheel.flywheel.ledger import Ledger
from matwheel.studies.cell_run import CellRun
from matwheel.studies.command import Finished
from matwheel.studies.engine import Engine
from matwheel.studies.study_file import Study

log = logging.getLogger(__name__)

RESULTS = "results.csv"


def cell_runs(study: Study, folder: Path) -> list[CellRun]:
    """The runs of all cells in the folder of a study."""
    return [CellRun(cell, folder.absolute() / cell.name) for cell in study.cells]


def run_study(study: Study, folder: Path, engine: Engine) -> list[Finished]:
    """Run all cells that are not finished; `results.csv` has the rows of those that are, at any time.

    Args:
        study: What to run.
        folder: Folder of the study; the cells are folders inside it.
        engine: What runs them.

    Returns:
        The cells that failed.

    Raises:
        RunLockedError: If another process works in the folder.
    """
    with Ledger(folder):  # for its lock: the stages are in the ledgers of the cells
        runs = {run.cell.name: run for run in cell_runs(study, folder)}
        rows: dict[str, list[dict[str, Any]]] = {}
        waiting = []
        for run in runs.values():
            if run.is_finished():
                rows[run.cell.name] = run.rows()
            else:
                waiting.append(run.command())
        _write(folder, runs, rows)
        failed = []
        bar = tqdm(total=len(runs), initial=len(rows), desc=study.name, unit="cell", smoothing=0)
        with bar, closing(engine.run(waiting)) as ended:
            for ending in ended:
                run = runs[ending.command.name]
                finished = run.conclude(ending)
                if finished.problem:
                    failed.append(finished)
                    bar.write(f"failed: {run.cell.name}: {finished.problem}")
                else:
                    rows[run.cell.name] = run.rows()
                    _write(folder, runs, rows)
                bar.update()
    return failed


def _write(folder: Path, runs: dict[str, CellRun], rows: dict[str, list[dict[str, Any]]]) -> None:
    """Write the table in the order of the grid, whatever the order of the runs."""
    known = [row for name in runs for row in rows.get(name, ())]
    if known:
        with replaced_when_complete(folder / RESULTS) as temporary:
            pd.DataFrame(known).to_csv(temporary, index=False)
