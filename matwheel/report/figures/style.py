"""The look of all figures: sizes that stay readable on a phone, and colours that colour-blind people can tell apart."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matwheel.data.crystal import FloatArray

# Okabe and Ito, "Color universal design" (2008), without yellow, which is too pale on white.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#767676"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX"
"""Differ between series together with the colours, for print in black and white."""
_LONGEST = 48
_DECADES = 30.0


def new_figure(width: float = 4.6, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; sizes in inches."""
    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Keep only the lines that carry information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def literal(text: str) -> str:
    """A text from outside as it is: not read as a formula, on one line, without what cannot be printed, shortened."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    short = printable if len(printable) <= _LONGEST else f"{printable[: _LONGEST - 1]}…"
    shown = f" {short}" if short.startswith("_") else short  # legends leave out what begins with an underscore
    return shown.replace("$", r"\$")


def quantity(name: str, unit: str) -> str:
    """Label of an axis."""
    return literal(f"{name} ({unit})" if unit else name)


def spans_decades(values: FloatArray) -> bool:
    """Whether values [n] are positive and so different that they need a logarithmic axis."""
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > _DECADES)
