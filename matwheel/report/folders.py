"""Run folders and study folders: what was measured there, and where its files lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from matwheel.flywheel.ledger import LEDGER
from matwheel.flywheel.names import BASELINE, predictor_stage, round_suffix
from matwheel.flywheel.results import COLUMNS, ResultRow, read_results
from matwheel.flywheel.wheel import RESULTS

RUN_AXIS = "run"
"""Axis that tells runs apart which the columns of results do not."""


@dataclass(frozen=True)
class Measurement:
    """A row of results.

    Attributes:
        row: What was measured.
        axes: Names and values of what a study varied beyond the columns of `row`, as text.
    """

    row: ResultRow
    axes: tuple[tuple[str, str], ...] = ()


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
        return self.path / "stages" / f"{name}{round_suffix(round)}"

    def predictions(self, row: ResultRow) -> Path:
        """Folder with the test predictions behind a row of results."""
        if row.arm == row.predictor:  # a baseline
            return self.path / "stages" / BASELINE.format(row.arm)
        return self.path / "stages" / predictor_stage(row.arm, round_suffix(row.round))

    @property
    def versions(self) -> list[Path]:
        """Log folders of the commands that worked here, in order."""
        return sorted(self.path.glob("version_*"), key=lambda path: (len(path.name), path.name))


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
        ValueError: If a folder holds no results.
    """
    runs: list[RunFolder] = []
    measurements: list[Measurement] = []
    for path in paths:
        if not (path / RESULTS).is_file():
            raise ValueError(f"{path} has no {RESULTS}: name the folder of a run or of a study, such as runs/NAME")
        rows = _read_measurements(path / RESULTS)
        if (path / LEDGER).is_file():
            runs.append(RunFolder(path, tuple(measurement.row for measurement in rows)))
        else:
            runs.extend(_cells(path))
        measurements.extend(replace(m, axes=(*m.axes, (RUN_AXIS, path.resolve().name))) for m in rows)
    if not measurements:
        raise ValueError(f"there are no results yet in {', '.join(map(str, paths))}: wait until a run has some")
    return Folders(tuple(_without_idle_run_axis(measurements)), tuple(runs))


def _cells(study: Path) -> list[RunFolder]:
    """The runs of a study."""
    found = sorted(ledger.parent for ledger in study.rglob(LEDGER))
    return [RunFolder(p, tuple(read_results(p / RESULTS)) if (p / RESULTS).is_file() else ()) for p in found]


def _read_measurements(path: Path) -> list[Measurement]:
    """Rows of a table of results; columns in addition to those of a run are axes."""
    rows = read_results(path)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = [str(name) for name in frame.columns if name not in COLUMNS]
    values = frame[names].to_numpy().tolist() if names else [[]] * len(rows)
    return [Measurement(row, tuple(zip(names, line, strict=True))) for row, line in zip(rows, values, strict=True)]


def _without_idle_run_axis(measurements: list[Measurement]) -> list[Measurement]:
    """Drop the axis of runs where the other columns tell all rows apart."""
    bare = [replace(m, axes=tuple(axis for axis in m.axes if axis[0] != RUN_AXIS)) for m in measurements]
    keys = {(m.axes, m.row.dataset, m.row.target, m.row.scenario, *_of_model(m.row)) for m in bare}
    return bare if len(keys) == len(bare) else measurements


def _of_model(row: ResultRow) -> tuple[object, ...]:
    return row.arm, row.predictor, row.split, row.seed, row.round
