"""Runs what is missing of a study and keeps its table."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from matwheel.files import replaced_when_complete
from matwheel.flywheel.ledger import Ledger
from matwheel.progress import progress_bar
from matwheel.studies.cell_run import CellRun
from matwheel.studies.command import Finished
from matwheel.studies.engine import Engine
from matwheel.studies.sharing import leaders, take_stages
from matwheel.studies.study_file import Study

RESULTS = "results.csv"


def cell_runs(study: Study, folder: Path) -> list[CellRun]:
    """The runs of all cells in the folder of a study."""
    return [CellRun(cell, folder.absolute() / cell.name) for cell in study.cells]


def run_study(study: Study, folder: Path, engine: Engine) -> list[Finished]:
    """Run all cells that are not finished; `results.csv` has the rows of those that are, at any time.

    Cells that may use the stages of others come after these.

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
        table = _Table(folder, runs)
        leader = leaders(study.cells, study.share)
        missing = [name for name in runs if name not in table.rows]
        first = [name for name in missing if leader[name] == name]
        others = [name for name in missing if leader[name] != name]
        failed = []
        with progress_bar(study.name, len(runs), "cell", initial=len(table.rows)) as bar:
            for wave in filter(None, (first, others)):
                for name in wave:
                    runs[name].discard_results()
                    if leader[name] in table.rows:
                        take_stages(runs[leader[name]].folder, runs[name].folder)
                identities = {name: runs[name].identity() for name in wave}
                with closing(engine.run([runs[name].command() for name in wave])) as ended:
                    for ending in ended:
                        name = ending.command.name
                        finished = runs[name].conclude(ending, identities[name])
                        if finished.problem:
                            failed.append(finished)
                            bar.write(f"failed: {name}: {finished.problem}")
                        else:
                            table.add(name)
                        bar.update()
    return failed


class _Table:
    """The results of all finished cells, on disk at any time."""

    def __init__(self, folder: Path, runs: dict[str, CellRun]) -> None:
        self._path = folder / RESULTS
        self._runs = runs
        self.rows: dict[str, list[dict[str, Any]]] = {
            name: run.rows() for name, run in runs.items() if run.is_finished()
        }
        self._write()

    def add(self, name: str) -> None:
        """Add a cell that is finished."""
        self.rows[name] = self._runs[name].rows()
        self._write()

    def _write(self) -> None:
        """In the order of the grid, whatever the order of the runs."""
        known = [row for name in self._runs for row in self.rows.get(name, ())]
        if not known:
            self._path.unlink(missing_ok=True)  # of an earlier version of the study
            return
        with replaced_when_complete(self._path) as temporary:
            pd.DataFrame(known).to_csv(temporary, index=False)
