"""Errors over something that was varied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from matwheel.data.crystal import FloatArray
from matwheel.report.figures.style import DASHES, MARKERS, SERIES, literal, new_figure, quantity, spans_decades

Curve = Mapping[float, FloatArray]
"""By position on the axis: [n], errors on the splits."""


def learning_curve(curves: Mapping[str, Curve], axis: str, unit: str = "") -> Figure:
    """Mean error of each arm with the range over splits.

    Args:
        curves: By name of the arm.
        axis: What was varied.
        unit: Unit of the errors.
    """
    figure, axes = new_figure(height=3.0 + 0.1 * len(curves))
    for number, (name, curve) in enumerate(curves.items()):
        x = sorted(curve)
        means = np.array([curve[value].mean() for value in x])
        low, high = (np.array([end(curve[value]) for value in x]) for end in (np.min, np.max))
        axes.errorbar(
            x,
            means,
            yerr=[means - low, high - means],
            color=SERIES[number % len(SERIES)],
            linestyle=DASHES[number % len(DASHES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            capsize=2,
            elinewidth=0.8,
            label=literal(name),
        )
    positions = np.unique([value for curve in curves.values() for value in curve])
    if spans_decades(positions) or (positions[0] > 0 and positions[-1] / positions[0] >= 8):
        axes.set_xscale("log")
    axes.set_xticks(positions, [f"{value:g}" for value in positions])
    axes.minorticks_off()
    axes.set_xlabel(literal(axis), fontsize=9)
    axes.set_ylabel(quantity("test MAE", unit), fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure
