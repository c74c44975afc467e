"""The results of a run: one row per model evaluated, in `results.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from matwheel.files import replaced_when_complete


@dataclass(frozen=True)
class ResultRow:
    """One model, evaluated.

    Attributes:
        dataset: Name or path of the data set.
        target: The property.
        scenario: `full` or `semi`.
        arm: What the model was trained on: `F` the real crystals, `G_F` the synthetic ones, `F+G_F` both, `F x k` the
            real ones repeated to the same number; or a baseline, `dummy` or `trees`.
        predictor: Kind of model.
        split: How the data were divided.
        seed: Seed of the run.
        round: Turn of the wheel, from 1; 0 for models that used no synthetic crystal.
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
    frame = pd.DataFrame([[getattr(row, name) for name in COLUMNS] for row in rows], columns=list(COLUMNS))
    with replaced_when_complete(path) as temporary:
        frame.to_csv(temporary, index=False)


def read_results(path: Path) -> list[ResultRow]:
    """Read what `write_results` wrote.

    Raises:
        ValueError: If columns are missing.
    """
    frame = pd.read_csv(path, dtype={"split": str, "dataset": str, "target": str})
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"{path} is not a table of results: it has no column {', '.join(missing)}")
    records: list[dict[str, Any]] = [{str(k): v for k, v in r.items()} for r in frame[list(COLUMNS)].to_dict("records")]
    return [ResultRow(**record) for record in records]
