"""Results as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from matwheel.flywheel.results import ResultRow
from matwheel.flywheel.rounds import RoundRow

_HEADER = ("arm", "predictor", "n_real", "n_synthetic", "test MAE", "test RMSE", "test R2", "val MAE", "seconds")
_ROUND_HEADER = (
    "round",
    "arm",
    "n_synthetic",
    "val MAE",
    "test MAE",
    "element drift",
    "label 5 %",
    "label 50 %",
    "label 95 %",
    "diversity",
    "nearest real",
)


def format_results(rows: Sequence[ResultRow], unit: str = "") -> str:
    """A table of all arms and baselines, in the order they were run; with the round, where there are several.

    Args:
        rows: Results of one data set and target.
        unit: Unit of the errors.
    """
    if not rows:
        return "no results yet"
    header: tuple[str, ...] = _HEADER
    cells: list[tuple[str, ...]] = [
        (
            row.arm,
            row.predictor,
            str(row.n_real),
            str(row.n_synthetic),
            f"{row.test_mae:.4g}",
            f"{row.test_rmse:.4g}",
            f"{row.test_r2:.3g}",
            f"{row.val_mae:.4g}",
            f"{row.seconds:.1f}",
        )
        for row in rows
    ]
    if any(row.round > 1 for row in rows):
        header = (*header, "round")
        cells = [(*line, str(row.round)) for line, row in zip(cells, rows, strict=True)]
    return f"{_title(rows[0], unit)}\n{align(header, cells, names=2)}"


def format_rounds(rows: Sequence[RoundRow], unit: str = "") -> str:
    """A table of the last arm and its synthetic crystals by round.

    Args:
        rows: Rounds of one run, the real crystals first.
        unit: Unit of errors and labels.
    """
    cells = [
        (
            str(row.round),
            row.arm,
            str(row.n_synthetic),
            f"{row.val_mae:.4g}",
            f"{row.test_mae:.4g}",
            f"{row.element_drift:.3f}",
            f"{row.label_q05:.4g}",
            f"{row.label_q50:.4g}",
            f"{row.label_q95:.4g}",
            f"{row.diversity:.3f}",
            f"{row.nearest_training:.3f}",
        )
        for row in rows
    ]
    return f"{_title(rows[0], unit)}, by round\n{align(_ROUND_HEADER, cells, names=2)}"


def _title(row: ResultRow | RoundRow, unit: str) -> str:
    return f"{row.dataset}, {row.target}{f' ({unit})' if unit else ''}, split {row.split}, seed {row.seed}"


def align(header: Sequence[str], cells: Sequence[Sequence[str]], names: int) -> str:
    """A table with columns of equal width.

    Args:
        header: Titles of the columns.
        cells: Lines, each with a text per column.
        names: Number of columns at the beginning that are aligned to the left; those after them are numbers.
    """
    widths = [max(len(line[column]) for line in (header, *cells)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
