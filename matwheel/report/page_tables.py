"""Tables of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

import numpy as np

from matwheel.flywheel.results import ResultRow
from matwheel.metrics.paired import interval_coverage
from matwheel.report.comparison import Comparison
from matwheel.report.folders import Measurement
from matwheel.report.numbers import NONE, number, p_value, signed
from matwheel.report.page import in_words

_ERRORS = ("test_mae", "test_rmse", "test_r2", "val_mae")
_ERROR_HEADER = ("test MAE", "test RMSE", "test R²", "val MAE")


@dataclass(frozen=True)
class PageTable:
    """Cells as text.

    Attributes:
        header: Names of the columns.
        lines: The cells, line by line.
        names: Leading columns that hold words; those after them hold numbers.
        caption: What the table shows.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    names: int = 1
    caption: str = ""


def arms_table(comparison: Comparison) -> PageTable:
    """A line per arm and baseline: mean over splits, with the standard deviation where there are several."""
    lines = []
    for arm in comparison.arms:
        rows = comparison.of(arm)
        sizes = [_range([getattr(row, name) for row in rows]) for name in ("n_real", "n_synthetic")]
        lines.append((arm, rows[0].predictor, str(len(rows)), *sizes, *(_spread(rows, name) for name in _ERRORS)))
    several = len(comparison.splits) > 1
    unit = f"Errors in {comparison.setting.unit}. " if comparison.setting.unit else ""
    caption = (
        f"{unit}{'Mean ± standard deviation over splits; seeds of a split are averaged first.' if several else ''}"
    )
    header = ("arm", "predictor", "models", "real", "synthetic", *_ERROR_HEADER)
    return PageTable(header, lines, names=2, caption=caption.strip())


def differences_table(comparison: Comparison) -> PageTable:
    """A line per pair of arms: difference of the test MAE on each split, mean, interval, p value and splits won."""
    splits = comparison.splits
    lines = []
    for difference in comparison.differences:
        paired = difference.paired
        by_split = dict(zip(difference.splits, paired.differences, strict=True))
        cells = [signed(by_split[split]) if split in by_split else NONE for split in splits]
        if len(splits) > 1:
            interval = f"{signed(paired.low)} to {signed(paired.high)}" if difference.interval is not None else NONE
            p = p_value(paired.p).removeprefix("= ")
            cells = [signed(paired.mean), interval, p, f"{paired.wins} of {paired.n}", *cells]
        lines.append((f"{difference.arm} against {difference.reference}", *cells))
    summary = ("mean", "95 % interval", "p", "better on") if len(splits) > 1 else ()
    caption = "Differences of the test MAE, split by split; below zero, the first one is better."
    counts = sorted({difference.paired.n for difference in comparison.differences if difference.interval is not None})
    if counts:
        covered = in_words([f"{100 * interval_coverage(n):.0f} % with {n} splits" for n in counts])
        caption += (
            " The interval, a percentile bootstrap, is too narrow for few splits: it holds the true mean with a "
            f"probability of about {covered}, and less where splits share training rows."
        )
    return PageTable(("comparison", *summary, *splits), lines, caption=caption)


def rows_table(measurements: Sequence[Measurement]) -> PageTable:
    """All rows of results as they are in the files."""
    axes = list(dict.fromkeys(name for measurement in measurements for name, _ in measurement.axes))
    columns = [field.name for field in fields(ResultRow)]
    lines = [
        (
            *(dict(measurement.axes).get(axis, NONE) for axis in axes),
            *(_cell(getattr(measurement.row, column)) for column in columns),
        )
        for measurement in measurements
    ]
    return PageTable((*axes, *columns), lines, names=len(axes) + columns.index("seed"))


def _spread(rows: Sequence[ResultRow], name: str) -> str:
    splits = dict.fromkeys(row.split for row in rows)
    values = np.array([fmean(getattr(row, name) for row in rows if row.split == split) for split in splits])
    text = number(float(values.mean()))
    if len(values) < 2:
        return text
    spread = float(values.std(ddof=1)) if np.ptp(values) else 0.0  # equal values differ by rounding from their mean
    return f"{text} ± {number(spread, 2)}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
