"""Distributions of one property in several sets of crystals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from matwheel.data.crystal import FloatArray
from matwheel.report.figures.style import DASHES, SERIES, literal, new_figure, quantity, spans_decades

_BINS = 24


def distribution_overlay(sets: Mapping[str, FloatArray], quantity_name: str, unit: str = "") -> Figure:
    """Outlines of histograms over common bins, each in per cent of its set.

    Args:
        sets: Values [n] by name; none of them empty.
        quantity_name: The property.
        unit: Its unit.
    """
    figure, axes = new_figure()
    values = np.concatenate(list(sets.values()))
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    logarithmic = spans_decades(values)
    bins = np.geomspace(low, high, _BINS + 1) if logarithmic else np.linspace(low, high, _BINS + 1)
    if logarithmic:
        axes.set_xscale("log")
    for number, (name, column) in enumerate(sets.items()):
        axes.hist(
            column,
            bins=bins.tolist(),
            weights=np.full(len(column), 100 / len(column)),
            histtype="step",
            color=SERIES[number % len(SERIES)],
            linestyle=DASHES[number % len(DASHES)],
            lw=1.6,
            label=literal(f"{name} ({len(column)})"),
        )
    axes.set_xlabel(quantity(quantity_name, unit), fontsize=9)
    axes.set_ylabel("crystals (%)", fontsize=9)
    axes.margins(y=0.25)
    axes.legend(fontsize=8, frameon=False)
    return figure
