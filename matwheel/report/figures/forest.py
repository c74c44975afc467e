"""Paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from matwheel.report.figures.style import BLUE, GREY, VERMILION, literal, new_figure, quantity

_SPLIT: dict[str, Any] = {"linestyle": "", "marker": "o", "ms": 3.5, "mfc": "none", "mec": GREY, "mew": 0.8}
_MEAN: dict[str, Any] = {"linestyle": "", "marker": "D", "ms": 5}
_INTERVAL: dict[str, Any] = {"linestyle": "-", "lw": 2}


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest plot.

    Attributes:
        name: What is compared.
        values: Difference on each split.
        mean: Mean difference.
        interval: Ends of the 95 % interval; None where there is none.
        where: In which setting; a second line of the name.
    """

    name: str
    values: Sequence[float]
    mean: float
    interval: tuple[float, float] | None
    where: str = ""


def forest_plot(rows: Sequence[ForestRow], target: str, unit: str = "") -> Figure:
    """A line per comparison: the splits as small circles, mean and 95 % interval above them.

    Args:
        rows: From top to bottom.
        target: The property whose errors are compared.
        unit: Unit of the differences.
    """
    figure, axes = new_figure(height=1.7 + (0.5 if any(row.where for row in rows) else 0.42) * len(rows))
    for position, row in enumerate(rows):
        axes.plot(row.values, [position + 0.18] * len(row.values), **_SPLIT)
        colour = BLUE if row.mean < 0 else VERMILION
        if row.interval is not None:
            axes.plot(row.interval, [position, position], color=colour, **_INTERVAL)
        axes.plot([row.mean], [position], color=colour, **_MEAN)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"difference of test MAE, below 0 is better\n{quantity(target, unit)}", fontsize=9)
    has_intervals = any(row.interval is not None for row in rows)
    key = {
        "mean, better": Line2D([], [], color=BLUE, **_MEAN),
        "mean, worse": Line2D([], [], color=VERMILION, **_MEAN),
        "one split": Line2D([], [], **_SPLIT),
        **({"95 % interval": Line2D([], [], color=GREY, **_INTERVAL)} if has_intervals else {}),
    }
    figure.legend(list(key.values()), list(key), loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


def _label(row: ForestRow) -> str:
    return f"{literal(row.where)}\n{literal(row.name)}" if row.where else literal(row.name)
