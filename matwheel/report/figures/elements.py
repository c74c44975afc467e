"""How often elements occur."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from pymatgen.core import Element

from matwheel.data.crystal import FloatArray
from matwheel.report.figures.style import SERIES, literal, new_figure

_SHOWN = 20


def element_bars(sets: Mapping[str, FloatArray]) -> Figure:
    """Bars of the elements that are most frequent in any of the sets.

    Args:
        sets: By name: [100], mean fraction of atoms of each element (`matwheel.metrics.drift.element_frequencies`).
    """
    highest = np.max(list(sets.values()), axis=0)
    shown = np.argsort(-highest, kind="stable")[:_SHOWN]
    shown = shown[highest[shown] > 0]
    figure, axes = new_figure(4.6, 1.0 + 0.2 * len(shown))
    height = 0.8 / len(sets)
    for number, (name, frequencies) in enumerate(sets.items()):
        positions = np.arange(len(shown)) + (number - (len(sets) - 1) / 2) * height
        axes.barh(
            positions,
            100 * frequencies[shown],
            height,
            color=SERIES[number % len(SERIES)],
            hatch="" if number == 0 else "////",
            edgecolor="white",
            linewidth=0,
            label=literal(name),
        )
    axes.set_yticks(range(len(shown)), [Element.from_Z(int(index) + 1).symbol for index in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("mean fraction of atoms (%)", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
