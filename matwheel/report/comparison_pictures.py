"""Pictures of comparisons: paired differences, and errors over what a study varied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matwheel.report.comparison import Comparison, Difference, Setting
from matwheel.report.figures.forest import ForestRow, forest_plot
from matwheel.report.figures.learning_curve import learning_curve
from matwheel.report.numbers import signed
from matwheel.report.picture import Picture

_Point = tuple[float, Comparison]
"""A value on the axis of a learning curve and what was measured there."""


def forest_picture(comparison: Comparison) -> Picture | None:
    """All paired differences of a setting; None if there are none."""
    rows = [_row(difference) for difference in comparison.differences]
    return _forest(comparison.setting.title, rows, comparison.setting) if rows else None


def summary_pictures(comparisons: Sequence[Comparison]) -> list[Picture]:
    """For each property with several settings, whether synthetic crystals helped in each of them."""
    pictures = []
    for dataset, target in dict.fromkeys((c.setting.dataset, c.setting.target) for c in comparisons):
        same = [c for c in comparisons if (c.setting.dataset, c.setting.target) == (dataset, target)]
        rows = []
        for comparison in same if len(same) > 1 else []:
            setting, (real, mixed, control, _) = comparison.setting, comparison.roles
            where = ", ".join([setting.predictor, *(f"{name} {value}" for name, value in setting.axes)])
            found = (comparison.difference(mixed, reference) for reference in (real, control))
            rows += [_row(difference, where) for difference in found if difference is not None]
        if rows:
            pictures.append(_forest(f"{dataset}, {target}", rows, same[0].setting))
    return pictures


def curve_pictures(comparisons: Sequence[Comparison]) -> list[Picture]:
    """A learning curve for each numeric axis with several values, and for each combination of the other settings."""
    pictures = []
    for axis in dict.fromkeys(name for comparison in comparisons for name, _ in comparison.setting.axes):
        families: dict[tuple[object, ...], list[_Point]] = {}
        for comparison in comparisons:
            value = _number(dict(comparison.setting.axes).get(axis, ""))
            if value is not None:
                families.setdefault(_family(comparison.setting, axis), []).append((value, comparison))
        for family in (one for either in families.values() for one in _split_by_scenario(either)):
            if len({value for value, _ in family}) > 1:
                pictures.append(_curve(axis, family))
    return pictures


def _row(difference: Difference, where: str = "") -> ForestRow:
    paired = difference.paired
    name = f"{difference.arm} against {difference.reference}"
    return ForestRow(name, paired.differences, paired.mean, difference.interval, where)


def _forest(title: str, rows: Sequence[ForestRow], setting: Setting) -> Picture:
    has_intervals = any(row.interval is not None for row in rows)
    how = (
        "Circles: splits; diamonds and bars: mean and 95 % interval."
        if has_intervals
        else "Too few splits for intervals."
    )
    values = "; ".join(f"{f'{row.where}, ' if row.where else ''}{row.name}: {signed(row.mean)}" for row in rows)
    return Picture(
        f"differences {title}",
        f"{title}. {how}",
        f"Forest plot of {title}: {values}",
        forest_plot(rows, setting.target, setting.unit),
    )


def _curve(axis: str, family: Sequence[_Point]) -> Picture:
    curves: dict[str, dict[float, list[float]]] = {}
    for value, comparison in family:
        for arm in comparison.arms:
            if arm != "dummy":  # so far above all others that these could not be told apart
                errors = comparison.errors(arm).values()
                curves.setdefault(_role(comparison, arm), {}).setdefault(value, []).extend(errors)
    arrays = {name: {x: np.array(errors) for x, errors in curve.items()} for name, curve in curves.items()}
    setting = family[0][1].setting
    others = [f"{name} {value}" for name, value in setting.axes if name != axis]
    scenarios = {comparison.setting.scenario for _, comparison in family}
    known = [setting.dataset, setting.target, *(scenarios if len(scenarios) == 1 else ()), setting.predictor]
    title = ", ".join([*known, *others])
    alt = f"Test MAE over {axis} for {title}: " + "; ".join(
        f"{name}: " + ", ".join(f"{x:g}: {errors.mean():.4g}" for x, errors in sorted(curve.items()))
        for name, curve in arrays.items()
    )
    caption = f"{title}. Mean over splits, with their range."
    return Picture(f"curve {axis} {title}", caption, alt, learning_curve(arrays, axis, setting.unit))


def _family(setting: Setting, axis: str) -> tuple[object, ...]:
    """All but the axis and the scenario, which changes where all labels are known."""
    others = tuple(item for item in setting.axes if item[0] != axis)
    return setting.dataset, setting.target, setting.predictor, others


def _split_by_scenario(family: list[_Point]) -> list[list[_Point]]:
    """Points of both scenarios are one curve where the axis leads from one to the other, else two."""
    by_scenario: dict[str, list[_Point]] = {}
    for value, comparison in family:
        by_scenario.setdefault(comparison.setting.scenario, []).append((value, comparison))
    values = [{value for value, _ in points} for points in by_scenario.values()]
    return [family] if sum(map(len, values)) == len(set().union(*values)) else list(by_scenario.values())


def _role(comparison: Comparison, arm: str) -> str:
    """Name of an arm that is the same in both scenarios."""
    real, mixed, control, synthetic = comparison.roles
    names = {real: "real alone", mixed: "real + synthetic", control: "real repeated", synthetic: "synthetic alone"}
    return names.get(arm, arm)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
