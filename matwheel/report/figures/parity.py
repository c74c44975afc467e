"""Predicted against true values."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from matwheel.data.crystal import FloatArray
from matwheel.report.figures.style import BLUE, GREY, literal, new_figure, quantity, spans_decades

_RASTER = 1500  # points beyond which a vector graphic gets too large


def parity_plot(
    target: FloatArray,
    predicted: FloatArray,
    name: str,
    quantity_name: str,
    unit: str = "",
    logarithmic: bool | None = None,
) -> Figure:
    """A point per crystal, with the line of perfect predictions.

    Args:
        target: [n], true values.
        predicted: [n].
        name: Whose predictions, for the title.
        quantity_name: The property.
        unit: Its unit.
        logarithmic: Whether axes are; by default where values are positive and span decades. Plots that are to be
            compared need the same.
    """
    figure, axes = new_figure(3.1, 3.1)
    values = np.concatenate([target, predicted])
    if spans_decades(values) if logarithmic is None else logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.plot(target, predicted, "o", ms=3, alpha=0.5, mec="none", color=BLUE, rasterized=len(target) > _RASTER)
    ends = [values.min(), values.max()]
    axes.plot(ends, ends, "-", color=GREY, lw=1)
    axes.set_aspect("equal")
    axes.set_title(literal(name), fontsize=10)
    axes.set_xlabel(quantity(f"{quantity_name}, true", unit), fontsize=9)
    axes.set_ylabel(quantity("predicted", unit), fontsize=9)
    return figure
