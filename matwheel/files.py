"""Files of a run: written completely or not at all, and read with a message where they are damaged."""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Any

import pandas as pd

RUNS = Path("runs")
"""Where the folders of runs are by default."""
STAGE = "stage.json"
"""Record of a stage of a flywheel, written into its folder when all its work is done."""
LEDGER = "ledger.json"
"""Record of the stages of a run, or of the cells of a study, in its folder."""
RUN_RECORD = "run.json"
"""Record of a command, in its log folder."""
PREDICTIONS = "predictions.csv"
VALIDATION_PREDICTIONS = "validation_predictions.csv"
"""Predictions of the validation rows, by which intervals are calibrated."""
SKIPPED_ROWS = "skipped_rows.csv"
"""Rows of a training's table that could not be used, with reasons; those of a prediction: `skipped_beside`."""
METRICS = "metrics.json"
"""What an evaluation of generated crystals found, in a folder beside them."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk, a spent quota and a limit on the size of files."""

NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG})
"""Error numbers of missing rights, a file system only read, a file in place of a folder and a name that is too long."""

_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
"""What numpy says of a write that the disk took a part of only; its error has no number."""
_SIMILAR = 0.8
"""Of two names that differ by a slip; the endings of files alone make many alike."""


class WriteError(OSError):
    """A file could not be written; the message names it and what to do."""


@contextmanager
def replaced_when_complete(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error.

    Args:
        path: The file to write; its folder is created if missing.
        sync: Wait until the disk has it, so that not even a power cut leaves half of it. That takes some milliseconds.

    Raises:
        WriteError: If the file cannot be written, for example because the disk is full; `path` is as it was.
    """
    # Random and not the process's number, which on another node that writes the same file may be the same.
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    with clear_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if sync:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def clear_write_errors(path: Path, advice: str = "choose a folder that you may write to") -> Iterator[None]:
    """Turn errors of the operating system in a block that writes into a message that says what to do.

    Args:
        path: What is written.
        advice: What to do where it may not be written.

    Raises:
        WriteError: Names the path.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        is_cut_short = _CUT_SHORT.match(str(error)) is not None
        if error.errno in NO_SPACE or is_cut_short:
            advice = "free some space and run the same command again; what was finished before is kept"
        reason = "the disk took a part only" if is_cut_short else error.strerror or error
        raise WriteError(f"cannot write {path}: {reason}; {advice}") from error


def skipped_beside(predictions: Path) -> Path:
    """Where the rows are listed that a table of predictions has not, since they could not be used."""
    return predictions.with_name(f"{predictions.stem}_skipped.csv")


def check_no_file(folder: Path) -> None:
    """Refuse a file where a folder is to be written.

    Raises:
        ValueError: If it is one.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file: name a folder as --out")


def check_writable(folder: Path) -> None:
    """Make sure, before hours of work, that its results can be written.

    Args:
        folder: Where to; created if missing.

    Raises:
        WriteError: If nothing can be written there.
    """
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Make sure that a file to be written replaces neither an input nor a result of a training.

    Args:
        path: The file.
        inputs: What is read.

    Raises:
        ValueError: If it is an input, or its folder is that of a stage, a log folder, a run or a study; says where to
            write instead.
    """
    path = path.resolve()
    if replaced := [given for given in inputs if given.resolve() == path]:
        raise ValueError(f"{replaced[0]} is an input and would be replaced: name another --out")
    if _holds_results(path.parent):
        outermost = [folder for folder in path.parents if _holds_results(folder)][-1]
        raise ValueError(
            f"{path.parent} holds the results of a training, among which nothing else is written: name another --out, "
            f"such as {outermost.parent / path.name}"
        )


def _holds_results(folder: Path) -> bool:
    return any((folder / record).is_file() for record in (STAGE, LEDGER, RUN_RECORD))


def log_folders(run: Path) -> list[Path]:
    """Log folders `version_K` of the commands that worked in the folder of a run, in order."""
    numbers = {path: path.name.removeprefix("version_") for path in run.glob("version_*")}
    return sorted((path for path, number in numbers.items() if number.isdecimal()), key=lambda path: int(numbers[path]))


def latest_log_folder(run: Path, file: str) -> Path | None:
    """The latest log folder of a run that holds a file of this name; None if there is none."""
    return next((folder for folder in reversed(log_folders(run)) if (folder / file).is_file()), None)


def similar_file(path: Path) -> str | None:
    """Path of the file or folder beside one that is not there which is called nearly like it; None if there is none."""
    try:
        names = [beside.name for beside in path.parent.iterdir()]
    except (OSError, ValueError):  # no such folder either, or no path at all
        return None
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=_SIMILAR)
    return str(path.with_name(close[0])) if close else None


def remove_temporaries(folder: Path) -> None:
    """Remove what `replaced_when_complete` left in a folder and below it when the program was killed."""
    for temporary in folder.rglob(".*.tmp"):
        temporary.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file as a whole."""
    with replaced_when_complete(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a record that a run wrote.

    Raises:
        ValueError: If it is not there or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON that can be read: {error}") from error


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table that a run wrote.

    Raises:
        ValueError: If it is not there or damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # those of pyarrow among them
        raise ValueError(
            f"{path} is not a table that can be read: {error}. Delete the folder {path.parent} and run the same "
            "command again: it is then made again"
        ) from error
