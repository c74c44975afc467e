"""What changes from round to round."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from matwheel.flywheel.rounds import RoundRow
from matwheel.report.figures.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION, quantity, tidy


def drift_plot(rows: Sequence[RoundRow], unit: str = "") -> Figure:
    """Errors, labels, elements and distances by round, below each other; round 0 are the real crystals.

    Args:
        rows: Rounds of one run.
        unit: Unit of errors and labels.
    """
    figure = Figure((4.6, 6.4), layout="constrained")
    errors, labels, distances = panels = figure.subplots(3, 1, sharex=True)
    rounds = [row.round for row in rows]
    _line(errors, rounds, [row.test_mae for row in rows], "test", VERMILION, "s")
    _line(errors, rounds, [row.val_mae for row in rows], "validation", BLUE, "o")
    errors.set_ylabel(quantity("MAE", unit), fontsize=9)
    labels.fill_between(
        rounds, [row.label_q05 for row in rows], [row.label_q95 for row in rows], color=ORANGE, alpha=0.3, lw=0
    )
    _line(labels, rounds, [row.label_q50 for row in rows], "median, 5 to 95 % shaded", ORANGE, "o")
    labels.set_ylabel(quantity(rows[0].target, unit), fontsize=9)
    _line(distances, rounds, [row.element_drift for row in rows], "element drift", GREEN, "o")
    _line(distances, rounds, [row.nearest_training for row in rows], "distance to nearest real", PURPLE, "s")
    _line(distances, rounds, [row.diversity for row in rows], "diversity", BLUE, "D")
    distances.set_ylim(bottom=0)
    distances.set_ylabel("distance", fontsize=9)
    distances.set_xlabel("round", fontsize=9)
    distances.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels:
        tidy(axes)
        axes.legend(fontsize=8, frameon=False)
    return figure


def _line(axes: Axes, x: list[int], y: list[float], label: str, colour: str, marker: str) -> None:
    axes.plot(x, y, f"{marker}-", color=colour, ms=5, label=label)
