"""The run of one cell: its command, its folder and what it left there."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from matwheel.files import RUNS, latest_log_folder, write_text_atomically
from matwheel.flywheel.ledger import RESULTS_REVISION
from matwheel.flywheel.results import read_results
from matwheel.studies.command import Command, Finished
from matwheel.studies.grid import Cell, Option

LOG = "log.txt"
_DONE = "cell.json"
"""Written when a cell is finished: what it was."""
_RESULTS = "results.csv"
_SPLIT = "split.json"
_QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
"""Before the options of a study, which may say otherwise: bars would fill the log."""


@dataclass(frozen=True)
class CellRun:
    """A cell in the folder of a study.

    Attributes:
        cell: The cell.
        folder: Its folder, absolute.
    """

    cell: Cell
    folder: Path

    def command(self) -> Command:
        """The wheel with the settings of the cell; run again, it goes on where it was interrupted."""
        fit = (sys.executable, "-m", "matwheel.fit", "fit")
        runs = RUNS.absolute()
        name = self.folder.relative_to(runs) if self.folder.is_relative_to(runs) else self.folder
        arguments = (*fit, *_QUIET, *self.cell.arguments(), "--name", str(name))
        return Command(self.cell.name, arguments, self.folder / LOG, Path.cwd())

    def is_finished(self) -> bool:
        """Whether it was finished with the settings that it has now."""
        path = self.folder / _DONE
        is_whole = path.is_file() and (self.folder / _RESULTS).is_file()
        return is_whole and path.read_text(encoding="utf-8") == self.identity()

    def discard_results(self) -> None:
        """Before it is run again: results of settings that have changed are no reason for the wheel to stop."""
        (self.folder / _RESULTS).unlink(missing_ok=True)

    def conclude(self, finished: Finished, identity: str) -> Finished:
        """Note that the cell is finished if its command ended well and left results.

        Args:
            finished: How the command ended.
            identity: What the cell was when it began: a config may have been edited since.

        Returns:
            How it ended.
        """
        if finished.problem:
            return finished
        if not (self.folder / _RESULTS).is_file():
            return replace(finished, problem="no results: one of its configs must contain a Flywheel callback")
        write_text_atomically(self.folder / _DONE, identity)
        return finished

    def rows(self) -> list[dict[str, Any]]:
        """Its results, with the labels of the cell in front and the sizes of its split behind.

        A label takes the place of a column of the same name.

        Raises:
            ValueError: If the run has no record of its split.
        """
        labels, sizes = self.cell.labels, self._split_sizes()
        return [{**labels, **asdict(row), **labels, **sizes} for row in read_results(self.folder / _RESULTS)]

    def identity(self) -> str:
        """What decides its results, the content of configs and of files that they name rather than their names."""
        settings = self.cell.settings
        options = [*map(_read_config, settings.configs), *(option for _, option in settings.options)]
        named = {text: Path(text) for option in options for text in _texts(option)}
        content = {
            "revision": RESULTS_REVISION,
            "cell": dict(self.cell.labels),
            "configs": [_hash(path) for path in settings.configs],
            "options": settings.options,
            "files": {text: _hash(path) for text, path in named.items() if _is_file(path)},
        }
        return json.dumps(content, indent=1)

    def _split_sizes(self) -> dict[str, int]:
        """Rows to train on, labelled or not, and to test on, by the last record of the run."""
        latest = latest_log_folder(self.folder, _SPLIT)
        if latest is None:
            raise ValueError(f"{self.folder} has no version_K/{_SPLIT}: leave the folder of the CSVLogger as it is")
        parts = json.loads((latest / _SPLIT).read_text(encoding="utf-8"))
        return {"train_rows": len(parts["train"]), "test_rows": len(parts["test"])}


def _read_config(path: Path) -> Option:
    try:
        content: Option = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not a config that can be read: {error}") from error
    return content


def _texts(option: Option) -> Iterator[str]:
    """Every text in the value of an option."""
    if isinstance(option, str):
        yield option
    elif isinstance(option, list | dict):
        for part in option.values() if isinstance(option, dict) else option:
            yield from _texts(part)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # an option's value that cannot be a name, being too long or with a null character
        return False


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
