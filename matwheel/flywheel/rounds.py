"""What each round of the wheel brought: one row per round, in `rounds.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from matwheel.flywheel.results import read_rows, write_rows


@dataclass(frozen=True)
class RoundRow:
    """One round: the last arm and the synthetic crystals it was trained on.

    Attributes:
        dataset: Name or path of the data set.
        target: The property.
        scenario: `full` or `semi`.
        arm: The last arm; in round 0 the one on real crystals alone.
        split: How the data were divided.
        seed: Seed of the run.
        round: Turn of the wheel, from 1. For comparison, round 0 describes the real training crystals.
        n_synthetic: Synthetic training crystals.
        val_mae: Mean absolute error of the arm on the validation rows, in the target's unit; NaN if it was not among
            the arms.
        test_mae: Mean absolute error on the test rows.
        element_drift: See `matwheel.metrics.drift.SetStatistics`, also for those below.
        label_q05: 5 % quantile of the labels.
        label_q50: Median of the labels.
        label_q95: 95 % quantile of the labels.
        diversity: Mean distance of the crystals from each other.
        nearest_training: Mean distance to the nearest real training crystal.
    """

    dataset: str
    target: str
    scenario: str
    arm: str
    split: str
    seed: int
    round: int
    n_synthetic: int
    val_mae: float
    test_mae: float
    element_drift: float
    label_q05: float
    label_q50: float
    label_q95: float
    diversity: float
    nearest_training: float


def write_rounds(path: Path, rows: Sequence[RoundRow]) -> None:
    """Write `rounds.csv` as a whole."""
    write_rows(path, RoundRow, rows)


def read_rounds(path: Path) -> list[RoundRow]:
    """Read what `write_rounds` wrote.

    Raises:
        ValueError: If columns are missing.
    """
    return read_rows(path, RoundRow)


def best_round(val_mae: Sequence[float]) -> int:
    """Position of the round with the lowest validation error, the first of equal ones; one that is NaN never wins."""
    return int(np.argmin(np.nan_to_num(val_mae, nan=np.inf)))


def is_exhausted(val_mae: Sequence[float], patience: int | None) -> bool:
    """Whether the wheel should stop: the last `patience` rounds brought no lower validation error.

    Args:
        val_mae: Of all rounds so far, in order.
        patience: Rounds; None to go on for ever.
    """
    return patience is not None and len(val_mae) - 1 - best_round(val_mae) >= patience
