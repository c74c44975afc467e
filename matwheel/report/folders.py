"""Run folders and study folders: what was measured there, and where its files lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pandas as pd

from matwheel.data.row_finder import read_json_object
from matwheel.data.splits import PARTS
from matwheel.files import latest_log_folder, log_folders
from matwheel.flywheel.ledger import STAGES
from matwheel.flywheel.names import BASELINE, fitted_stage, predictor_stage, reuse_stage, round_suffix
from matwheel.flywheel.references import REUSED, Baseline, is_reference
from matwheel.flywheel.results import COLUMNS, ResultRow, read_results
from matwheel.flywheel.wheel import RESULTS

RUN_AXIS = "run"
"""Axis that tells runs apart which the columns of results do not."""
SPLIT = "split.json"
"""The split that a command saves in its log folder: ids of the crystals in each part."""
_SHOWN = 3  # folders that a message names
_SIZES = ("train_rows", "test_rows")  # what a study adds to the columns of a run


@dataclass(frozen=True)
class Measurement:
    """A row of results.

    Attributes:
        row: What was measured.
        axes: Names and values of what a study varied beyond the columns of `row`, as text.
        overlap: Test rows per training row of the split; None if unknown.
    """

    row: ResultRow
    axes: tuple[tuple[str, str], ...] = ()
    overlap: float | None = None


def reference_name(row: ResultRow) -> str | None:
    """Name of a predictor of the real crystals that arms are held against; None for an arm."""
    if not is_reference(row.arm, row.round):
        return None
    return row.arm if row.arm in get_args(Baseline) else row.predictor


@dataclass(frozen=True)
class RunFolder:
    """A folder with one turn of the wheel or several.

    Attributes:
        path: The folder.
        rows: Its results; may be empty where the run is not finished.
    """

    path: Path
    rows: tuple[ResultRow, ...]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    def stage(self, name: str, round: int = 1) -> Path:
        """Folder of a stage of a round; it may be missing."""
        return self.path / STAGES / f"{name}{round_suffix(round)}"

    def predictions(self, row: ResultRow) -> Path:
        """Folder with the test predictions behind a row of results."""
        stages, suffix = self.path / STAGES, round_suffix(row.round)
        if row.arm in get_args(Baseline):
            return stages / BASELINE.format(row.arm)
        for kind, name in REUSED.items():
            if row.predictor == name:
                return stages / reuse_stage(kind, suffix)
        beside = stages / fitted_stage(row.arm, row.predictor, suffix)
        return beside if beside.is_dir() else stages / predictor_stage(row.arm, suffix)

    @property
    def split_folder(self) -> Path | None:
        """The latest log folder that holds the split; None if no command saved one."""
        return latest_log_folder(self.path, SPLIT)

    @property
    def versions(self) -> list[Path]:
        """Log folders of the commands that worked here, in order."""
        return log_folders(self.path)


@dataclass(frozen=True)
class Folders:
    """All that a report is about.

    Attributes:
        measurements: Rows of results.
        runs: Run folders with their artifacts.
    """

    measurements: tuple[Measurement, ...]
    runs: tuple[RunFolder, ...]


def read_folders(paths: Sequence[Path]) -> Folders:
    """Read run folders, and study folders with the run folders below them.

    Where rows of several runs differ in nothing but the folder, the folder becomes an axis, so that they are never
    averaged.

    Raises:
        ValueError: If a folder holds no results, or rows cannot be told apart.
    """
    runs: list[RunFolder] = []
    measurements: list[Measurement] = []
    for path in paths:
        if not (path / RESULTS).is_file():
            raise ValueError(f"{path} has no {RESULTS}: name the folder of a flywheel or of a study{_instead_of(path)}")
        if (path / STAGES).is_dir():
            run = RunFolder(path, tuple(read_results(path / RESULTS)))
            runs.append(run)
            rows = [Measurement(row, (), split_overlap(run.split_folder)) for row in run.rows]
        else:
            runs.extend(_cells(path))
            rows = _read_study(path / RESULTS)
        measurements.extend(replace(m, axes=(*m.axes, (RUN_AXIS, path.resolve().name))) for m in rows)
    if not measurements:
        raise ValueError(f"there are no results yet in {', '.join(map(str, paths))}: wait until a run has some")
    return Folders(tuple(_without_idle_run_axis(measurements)), tuple(runs))


def _instead_of(path: Path) -> str:
    """What to give in place of a path without results."""
    if path.is_file() and path.name != RESULTS:
        return f"; a page of the crystals in a file: python -m matwheel.report structures {path}"
    inside = [path.parent] if path.is_file() else [file.parent for file in sorted(path.glob(f"*/{RESULTS}"))]
    return f"; did you mean {' or '.join(map(str, inside[:_SHOWN]))}?" if inside else ", such as runs/NAME"


def split_overlap(folder: Path | None) -> float | None:
    """Test rows per training row of the split saved in a folder; None without one.

    Raises:
        ValueError: If the file is damaged.
    """
    if folder is None:
        return None
    ids = read_json_object(folder / SPLIT)
    train, _, test = (len(ids[part]) for part in PARTS)
    return test / train


def _cells(study: Path) -> list[RunFolder]:
    """The runs of a study."""
    found = sorted(stages.parent for stages in study.glob(f"*/{STAGES}"))
    return [RunFolder(p, tuple(read_results(p / RESULTS)) if (p / RESULTS).is_file() else ()) for p in found]


def _read_study(path: Path) -> list[Measurement]:
    """Rows of a study: columns in addition to those of a run are axes, or the sizes of the split."""
    rows = read_results(path)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    axes = [str(name) for name in frame.columns if name not in (*COLUMNS, *_SIZES)]
    overlaps: Sequence[float | None] = [None] * len(rows)
    if set(_SIZES) <= set(frame.columns):
        train, test = (frame[name].astype(float) for name in _SIZES)
        overlaps = (test / train).tolist()
    lines = frame[axes].to_numpy().tolist()
    return [
        Measurement(row, tuple(zip(axes, line, strict=True)), overlap)
        for row, line, overlap in zip(rows, lines, overlaps, strict=True)
    ]


def _without_idle_run_axis(measurements: list[Measurement]) -> list[Measurement]:
    """Drop the axis of runs where the other columns tell all rows apart."""
    bare = [replace(m, axes=tuple(axis for axis in m.axes if axis[0] != RUN_AXIS)) for m in measurements]
    if not _repeated(bare):
        return bare
    if repeated := _repeated(measurements):
        raise ValueError(
            f"two rows of results cannot be told apart: {', '.join(map(str, repeated))}; name each folder once, and "
            "give folders different names"
        )
    return measurements


def _repeated(measurements: Sequence[Measurement]) -> tuple[object, ...]:
    """What names the first row that is not the only one of its name; nothing where all are."""
    counts = Counter(_name(measurement) for measurement in measurements)
    return next((name for name, count in counts.items() if count > 1), ())


def _name(measurement: Measurement) -> tuple[object, ...]:
    row = measurement.row
    axes = tuple(f"{name} {value}" for name, value in measurement.axes)
    return *axes, row.dataset, row.target, row.scenario, row.arm, row.predictor, row.split, row.seed, row.round
