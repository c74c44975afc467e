"""Pictures of comparisons: paired differences, and errors over what a study varied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matwheel.report.comparison import Comparison, Setting
from matwheel.report.figures.forest import ForestRow, forest_plot
from matwheel.report.figures.learning_curve import learning_curve
from matwheel.report.numbers import signed
from matwheel.report.picture import Picture


def forest_pictures(comparisons: Sequence[Comparison]) -> list[Picture]:
    """A forest plot for each setting."""
    pictures = []
    for comparison in comparisons:
        rows = [
            ForestRow(
                f"{d.arm} against {d.reference}",
                d.paired.differences,
                d.paired.mean,
                d.interval,
            )
            for d in comparison.differences
        ]
        if not rows:
            continue
        title = comparison.setting.title
        has_intervals = any(row.interval is not None for row in rows)
        how = (
            "Circles: splits; diamonds and bars: mean and 95 % interval."
            if has_intervals
            else "Too few splits for an interval."
        )
        alt = f"Forest plot of {title}: " + "; ".join(f"{row.name}: {signed(row.mean)}" for row in rows)
        figure = forest_plot(rows, comparison.setting.unit)
        pictures.append(Picture(f"differences {title}", f"{title}. {how}", alt, figure))
    return pictures


def curve_pictures(comparisons: Sequence[Comparison]) -> list[Picture]:
    """A learning curve for each numeric axis with several values, and for each combination of the other settings."""
    pictures = []
    for axis in dict.fromkeys(name for comparison in comparisons for name, _ in comparison.setting.axes):
        families: dict[tuple[object, ...], list[tuple[float, Comparison]]] = {}
        for comparison in comparisons:
            value = _number(dict(comparison.setting.axes).get(axis, ""))
            if value is not None:
                families.setdefault(_family(comparison.setting, axis), []).append((value, comparison))
        for family in families.values():
            if len({value for value, _ in family}) > 1:
                pictures.append(_curve(axis, family))
    return pictures


def _curve(axis: str, family: Sequence[tuple[float, Comparison]]) -> Picture:
    curves: dict[str, dict[float, list[float]]] = {}
    for value, comparison in family:
        for arm in comparison.arms:
            if arm != "dummy":  # so far above all others that these could not be told apart
                errors = comparison.errors(arm).values()
                curves.setdefault(_role(comparison, arm), {}).setdefault(value, []).extend(errors)
    arrays = {name: {x: np.array(errors) for x, errors in curve.items()} for name, curve in curves.items()}
    setting = family[0][1].setting
    others = ", ".join(f"{name} {value}" for name, value in setting.axes if name != axis)
    title = f"{setting.dataset}, {setting.target}, {setting.predictor}{f', {others}' if others else ''}"
    alt = f"Test MAE over {axis} for {title}: " + "; ".join(
        f"{name}: " + ", ".join(f"{x:g}: {errors.mean():.4g}" for x, errors in sorted(curve.items()))
        for name, curve in arrays.items()
    )
    caption = f"{title}. Mean over splits, with their range."
    return Picture(f"curve {axis} {title}", caption, alt, learning_curve(arrays, axis, setting.unit))


def _family(setting: Setting, axis: str) -> tuple[object, ...]:
    """All but the axis; nor does the scenario count, which changes where all labels are known."""
    others = tuple(item for item in setting.axes if item[0] != axis)
    return setting.dataset, setting.target, setting.predictor, others


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
