"""The split that a run saved: ids of the crystals in each part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from matwheel.data.row_finder import read_json_object
from matwheel.data.splits import PARTS
from matwheel.report.folders import RunFolder

SPLIT = "split.json"


def split_folder(run: RunFolder) -> Path | None:
    """The latest log folder of a run that holds its split; None if no command saved one."""
    return next((path for path in reversed(run.versions) if (path / SPLIT).is_file()), None)


def split_overlap(runs: Iterable[RunFolder], dataset: str) -> float | None:
    """Test rows per training row in the runs on a data set; None if none of them saved its split.

    Raises:
        ValueError: If a file is damaged.
    """
    for run in runs:
        folder = split_folder(run)
        if folder is not None and run.rows and run.rows[0].dataset == dataset:
            ids = read_json_object(folder / SPLIT)
            train, _, test = (len(ids[part]) for part in PARTS)
            return test / train
    return None
