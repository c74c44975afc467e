"""Every figure can be drawn from ordinary and from awkward numbers, whatever the names in it."""

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from matwheel.flywheel.rounds import RoundRow
from matwheel.report.figures.distributions import distribution_overlay
from matwheel.report.figures.drift import drift_plot
from matwheel.report.figures.elements import element_bars
from matwheel.report.figures.forest import ForestRow, forest_plot
from matwheel.report.figures.learning_curve import learning_curve
from matwheel.report.figures.parity import parity_plot
from matwheel.report.figures.style import literal, spans_decades
from matwheel.report.picture import Picture

ROUND = RoundRow("d", "gap", "full", "F", "split-0", 0, 0, 0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 1.0, 0.3)
FIGURES: dict[str, Callable[[str], Figure]] = {
    "forest": lambda name: forest_plot(
        [ForestRow(name, [0.1, -0.2, 0.3], 0.07, (-0.2, 0.3)), ForestRow(name, [1.0], 1.0, None)], name, name
    ),
    "curve": lambda name: learning_curve(
        {name: {0.05: np.array([2.0, 3.0]), 1.0: np.array([1.0])}, "other": {0.05: np.array([1.0])}}, name, name
    ),
    "parity": lambda name: parity_plot(np.array([0.0, 1.0]), np.array([0.5, 0.5]), name, name, name),
    "parity over decades": lambda name: parity_plot(np.array([1.0, 900.0]), np.array([2.0, 5.0]), name, name),
    "one point": lambda name: parity_plot(np.array([1.0]), np.array([1.0]), name, name),
    "distributions": lambda name: distribution_overlay({name: np.array([1.0, 2.0]), "b": np.array([-1.0])}, name, name),
    "equal values": lambda name: distribution_overlay({name: np.array([2.0, 2.0])}, name),
    "elements": lambda name: element_bars({name: np.eye(100)[8], "real": np.full(100, 0.01)}),
    "drift": lambda name: drift_plot([replace(ROUND, target=name), replace(ROUND, round=1, val_mae=np.nan)], name),
}


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("name", ["$x$ \\frac{ $ <script>&\"'", "_a\x00b\nc", ""])
def test_figures_are_valid_and_the_same_each_time(figure: str, name: str) -> None:
    first, second = (Picture(name, "", "", FIGURES[figure](name)).svg for _ in range(2))
    assert first == second
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(first).iter()}
    assert "script" not in tags


@pytest.mark.parametrize("interval", [(-0.2, 0.3), None])
def test_differences_have_a_key_and_name_the_property(interval: tuple[float, float] | None) -> None:
    figure = forest_plot([ForestRow("F against G", [0.1, -0.2], -0.05, interval)], "gap", "eV")
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["mean, better", "mean, worse", "one split", *(["95 % interval"] if interval else [])]
    assert "gap (eV)" in figure.axes[0].get_xlabel()


@given(st.text(max_size=80))
def test_names_are_shown_as_they_are(name: str) -> None:
    shown = literal(name)
    assert shown.isprintable()
    assert "$" not in shown.replace(r"\$", "")
    if name.isprintable() and "$" not in name and len(name) < 40 and not name.startswith("_"):
        assert shown == name


def test_logarithmic_axes_are_for_positive_values_that_span_decades() -> None:
    assert spans_decades(np.array([1.0, 100.0]))
    assert not spans_decades(np.array([0.0, 100.0]))
    assert not spans_decades(np.array([10.0, 100.0]))
    assert not spans_decades(np.zeros(0))
