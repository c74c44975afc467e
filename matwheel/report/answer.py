"""The answer in words: did synthetic crystals help? Negative results are said as plainly as positive ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import groupby
from math import isfinite

from matwheel.report.comparison import Comparison, Difference
from matwheel.report.numbers import number, p_value, signed, with_unit


class Verdict(StrEnum):
    """What the differences on several splits show."""

    HELPED = "synthetic crystals helped"
    HURT = "synthetic crystals made the predictions worse"
    ONLY_SIZE = "no gain by synthetic crystals is shown beyond that of repeating the real ones"
    NO_CONTROL = "without the control it cannot be said whether synthetic crystals or more training steps helped"
    NOTHING = "neither a gain nor a loss is shown"
    FEW_SPLITS = "fewer than three splits give no interval, and say nothing about other splits"
    UNANSWERED = "no arm with synthetic crystals can be compared with real crystals alone"


def verdict(comparison: Comparison) -> Verdict:
    """What the paired differences of the mixture against real crystals alone and against the control show."""
    real, mixed, control, _ = comparison.roles
    against_real, against_control = comparison.difference(mixed, real), comparison.difference(mixed, control)
    if against_real is None:
        return Verdict.UNANSWERED
    if against_real.interval is None:
        return Verdict.FEW_SPLITS
    if against_real.shown >= 0:
        return Verdict.HURT if against_real.shown > 0 else Verdict.NOTHING
    if against_control is None:
        return Verdict.NO_CONTROL
    return Verdict.HELPED if against_control.shown < 0 else Verdict.ONLY_SIZE


def answer(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence for each setting, led by a count where there are several.

    Settings that differ in their predictor and have no synthetic crystals share a sentence.
    """
    sentences = []
    for _, alike in groupby(comparisons, key=_shares_a_sentence):
        several = list(alike)
        sentences.append(_sentence(several[0]) if len(several) == 1 else _predictors(several))
    if not comparisons:
        return ["No predictor was evaluated yet, only baselines."]
    if len(comparisons) == 1:
        return sentences
    verdicts = [verdict(comparison) for comparison in comparisons]
    counts = [f"{kind} ({verdicts.count(kind)})" for kind in Verdict if kind in verdicts]
    return [f"Of {len(comparisons)} settings: {'; '.join(counts)}.", *sentences]


def _shares_a_sentence(comparison: Comparison) -> tuple[Hashable, ...]:
    setting = comparison.setting
    unanswered = verdict(comparison) is Verdict.UNANSWERED
    return unanswered, replace(setting, predictor="" if unanswered else setting.predictor)


def _predictors(comparisons: Sequence[Comparison]) -> str:
    """Of several predictors of real crystals alone."""
    first = comparisons[0]
    levels = [
        f"{comparison.setting.predictor} {number(comparison.mean_error(comparison.roles.real))}"
        for comparison in comparisons
        if comparison.roles.real in comparison.arms
    ]
    return f"{_where(first)}: {Verdict.UNANSWERED}. {_levels(first, levels)}"


def _sentence(comparison: Comparison) -> str:
    setting = comparison.setting
    real, mixed, control, _ = comparison.roles
    where = _where(comparison)
    against_real, against_control = comparison.difference(mixed, real), comparison.difference(mixed, control)
    if against_real is None:
        return f"{where}: {verdict(comparison)}. {_levels(comparison)}"
    if against_real.paired.n == 1:
        where += ", on the one split measured"
    change = f"{_change(against_real, setting.unit)} against real crystals alone ({real})"
    repeated = f"the control ({control}: real crystals repeated to the same size)"
    if against_control is None:
        change += f"; {repeated} was not evaluated"
    else:
        change += f", and by {_change(against_control, setting.unit)} against {repeated}"
    return (
        f"{where}, adding synthetic crystals ({mixed}) changed the test MAE of {setting.predictor} by {change}: "
        f"{verdict(comparison)}. {_levels(comparison)}"
    )


def _where(comparison: Comparison) -> str:
    setting = comparison.setting
    axes = "".join(f", {name} {value}" for name, value in setting.axes)
    return f"On {setting.dataset} ({setting.target}{axes}; {_labels(setting.scenario)})"


def _labels(scenario: str) -> str:
    return "all training labels known" if scenario == "full" else "a part of the training labels known"


def _change(difference: Difference, unit: str) -> str:
    paired = difference.paired
    mean = with_unit(signed(paired.mean), unit)
    if paired.n == 1:
        return mean
    worse = sum(value > 0 for value in paired.differences)
    count = f"better on {paired.wins}" if paired.mean < 0 else f"worse on {worse}"
    parts = [f"{count} of {paired.n} splits"]
    if difference.interval is not None:
        parts.insert(0, f"95 % interval {signed(paired.low)} to {signed(paired.high)}")
    if isfinite(paired.p):
        parts.append(f"p {p_value(paired.p)}")
    return f"{mean} ({'; '.join(parts)})"


def _levels(comparison: Comparison, predictors: Sequence[str] = ()) -> str:
    """Where the errors of the main arms, or of several predictors, lie, so that a difference can be judged."""
    unit, shown = comparison.setting.unit, ("trees",) if predictors else ("trees", *comparison.roles[:3])
    levels = [f"{arm} {number(comparison.mean_error(arm))}" for arm in comparison.arms if arm in shown]
    return f"Test MAE{f' in {unit}' if unit else ''}: {', '.join([*levels, *predictors])}."
