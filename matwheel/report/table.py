"""Results as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from matwheel.flywheel.results import ResultRow

_HEADER = ("arm", "predictor", "n_real", "n_synthetic", "test MAE", "test RMSE", "test R2", "val MAE", "seconds")


def format_results(rows: Sequence[ResultRow], unit: str = "") -> str:
    """A table of all arms and baselines, in the order they were run.

    Args:
        rows: Results of one data set and target.
        unit: Unit of the errors.
    """
    if not rows:
        return "no results yet"
    cells = [
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
    widths = [max(len(line[column]) for line in (_HEADER, *cells)) for column in range(len(_HEADER))]
    lines = [_line(_HEADER, widths), "  ".join("-" * width for width in widths), *(_line(c, widths) for c in cells)]
    first = rows[0]
    title = f"{first.dataset}, {first.target}{f' ({unit})' if unit else ''}, split {first.split}, seed {first.seed}"
    return "\n".join([title, *lines])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    # Names to the left, numbers to the right.
    parts = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()
