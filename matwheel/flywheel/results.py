"""The results of a run: one row per model evaluated, in `results.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from matwheel.files import replaced_when_complete

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True)
class ResultRow:
    """One model, evaluated.

    Attributes:
        dataset: Name or path of the data set.
        target: The property.
        scenario: `full` or `semi` (part of the training crystals has no label).
        arm: What the model was trained on (see `matwheel.flywheel.arms`); or a baseline, `dummy` or `trees`.
        predictor: Kind of model.
        split: How the data were divided.
        seed: Seed of the run.
        round: Turn of the wheel that the training set belongs to, from 1; 0 where no turn is needed to make it.
        n_real: Real training crystals, repeats counted.
        n_synthetic: Synthetic training crystals.
        test_mae: Mean absolute error on the test rows, in the target's unit.
        test_rmse: Root mean square error on the test rows.
        test_r2: Coefficient of determination on the test rows.
        val_mae: Mean absolute error on the validation rows.
        seconds: Time of training and evaluation.
    """

    dataset: str
    target: str
    scenario: str
    arm: str
    predictor: str
    split: str
    seed: int
    round: int
    n_real: int
    n_synthetic: int
    test_mae: float
    test_rmse: float
    test_r2: float
    val_mae: float
    seconds: float


COLUMNS = tuple(field.name for field in fields(ResultRow))


def write_results(path: Path, rows: Sequence[ResultRow]) -> None:
    """Write `results.csv` as a whole."""
    write_rows(path, ResultRow, rows)


def read_results(path: Path) -> list[ResultRow]:
    """Read what `write_results` wrote.

    Raises:
        ValueError: If columns are missing.
    """
    return read_rows(path, ResultRow)


def write_rows(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Write a table with a column for each field of a dataclass, as a whole."""
    columns = [field.name for field in fields(kind)]
    frame = pd.DataFrame([[getattr(row, name) for name in columns] for row in rows], columns=columns)
    with replaced_when_complete(path) as temporary:
        frame.to_csv(temporary, index=False)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what `write_rows` wrote.

    Raises:
        ValueError: If columns are missing.
    """
    columns = [field.name for field in fields(kind)]
    frame = pd.read_csv(path, dtype={"split": str, "dataset": str, "target": str}, float_precision="round_trip")
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(f"{path} is not a table of results: it has no column {', '.join(missing)}")
    records: list[dict[str, Any]] = [{str(k): v for k, v in r.items()} for r in frame[columns].to_dict("records")]
    return [kind(**record) for record in records]
