"""The figures of an evaluation, each with the number of crystals behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matwheel.data.crystal import BoolArray

_HEADER = ("metric", "value", "count", "of", "")


@dataclass(frozen=True)
class Figure:
    """One aggregate number.

    Attributes:
        name: What it is.
        value: The number; for a share the fraction, 0 to 1.
        total: Crystals it is computed from.
        of: Which crystals these are.
        count: For a share: how many of them.
        unit: Empty for shares and pure numbers.
    """

    name: str
    value: float
    total: int
    of: str
    count: int | None = None
    unit: str = ""


def share(name: str, passed: BoolArray, of: str, total: int | None = None) -> Figure:
    """The fraction that passed.

    Args:
        name: What it is.
        passed: [n].
        of: What the denominator counts.
        total: The denominator; n by default.
    """
    total = len(passed) if total is None else total
    count = int(passed.sum())
    return Figure(name, count / total if total else math.nan, total, of, count)


def format_figures(figures: Sequence[Figure]) -> str:
    """A table for the terminal; fractions are shown in per cent."""
    cells = [_HEADER, *(figure_cells(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines = [_line(line, widths) for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths[:4]), *lines[1:]])


def figure_cells(figure: Figure) -> tuple[str, ...]:
    """Name, value with unit, count, total, and what the total is, as text."""
    if figure.count is None:
        value = f"{figure.value:.4g}" + (f" {figure.unit}" if figure.unit else "")
        return (figure.name, value, "", str(figure.total), figure.of)
    return (figure.name, f"{100 * figure.value:.2f} %", str(figure.count), str(figure.total), figure.of)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    # Words to the left, numbers to the right.
    parts = [
        cell.rjust(width) if column in (1, 2, 3) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()
