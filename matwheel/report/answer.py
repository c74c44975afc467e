"""The answer in words: did synthetic crystals help? Negative results are said as plainly as positive ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import groupby
from math import isfinite
from statistics import fmean

from matwheel.metrics.paired import Errors, shared_splits
from matwheel.report.comparison import LEVEL, Comparison, Difference
from matwheel.report.numbers import number, p_value, signed, with_unit
from matwheel.report.page import in_words

_FEW = 3
"""Settings up to which chance alone is no matter."""


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
    return [f"Of {len(comparisons)} settings: {'; '.join(counts)}.", *_chance(verdicts), *sentences]


def _chance(verdicts: Sequence[Verdict]) -> list[str]:
    """What many tests find where there is nothing to be found."""
    tests = sum(kind not in (Verdict.FEW_SPLITS, Verdict.UNANSWERED) for kind in verdicts)
    if tests <= _FEW:
        return []
    return [
        f"These are {tests} tests: if synthetic crystals changed nothing, {number(LEVEL * tests)} of them would, on "
        f"average, still have p < {LEVEL:g} against real crystals alone, half of these as a gain and half as a loss."
    ]


def _shares_a_sentence(comparison: Comparison) -> tuple[Hashable, ...]:
    setting = comparison.setting
    unanswered = verdict(comparison) is Verdict.UNANSWERED
    return unanswered, replace(setting, predictor="" if unanswered else setting.predictor)


def _predictors(comparisons: Sequence[Comparison]) -> str:
    """Of several predictors of real crystals alone."""
    first = comparisons[0]
    errors = {
        comparison.setting.predictor: comparison.by_seed(comparison.roles.real)
        for comparison in comparisons
        if comparison.roles.real in comparison.arms
    }
    trees = {"trees": first.by_seed("trees")} if "trees" in first.arms else {}
    return f"{_where(first)}: {Verdict.UNANSWERED}. {_levels(trees | errors, first.setting.unit)}"


def _sentence(comparison: Comparison) -> str:
    setting = comparison.setting
    real, mixed, control, _ = comparison.roles
    where = _where(comparison)
    shown = [arm for arm in comparison.arms if arm in ("trees", real, mixed, control)] or comparison.arms
    levels = _levels({arm: comparison.by_seed(arm) for arm in shown}, setting.unit)
    against_real, against_control = comparison.difference(mixed, real), comparison.difference(mixed, control)
    if against_real is None:
        return f"{where}: {verdict(comparison)}. {levels}"
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
        f"{verdict(comparison)}. {levels}"
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


def _levels(models: Mapping[str, Errors], unit: str) -> str:
    """Where the errors of arms or predictors lie, so that a difference can be judged: on the splits that all have."""
    splits, errors = shared_splits(list(models.values()))
    if not splits:
        return f"No split has test errors of all of {in_words(list(models))}."
    measured = {split for of_splits in models.values() for split in of_splits}
    where = "" if len(splits) == len(measured) else f" on the {len(splits)} of {len(measured)} splits that all have"
    levels = ", ".join(f"{name} {number(fmean(values))}" for name, values in zip(models, errors, strict=True))
    return f"Test MAE{f' in {unit}' if unit else ''}{where}: {levels}."
