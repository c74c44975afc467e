"""What a study says: the error of each arm over the splits, and paired differences to its references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from matwheel.flywheel.arms import ARMS, roles_of
from matwheel.flywheel.references import is_reference
from matwheel.metrics.paired import Errors, paired_by_split

REFERENCES = {roles.real: roles.control for roles in map(roles_of, ARMS)}
"""The arm of real crystals alone and, as a control, the one that repeats them; the first of each that there is."""
REPLICATES = ("split", "seed")
"""Axes over which is averaged."""
_Model = tuple[str, str, int]
"""Predictor, arm and round."""


def statistics(results: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Summarise the results of a study over its splits.

    Seeds of the same split are no independent evidence: their errors are averaged first, and for a difference those of
    the seeds that both arms have.

    Args:
        results: Table of a study, a row per model with the columns of `ResultRow`, those of the axes, and `train_rows`
            and `test_rows`, the sizes of the split.
        axes: Names of the axes.

    Returns:
        A row for each arm, predictor and round of each combination of data set, target, scenario and axes other than
        split and seed: `splits`, mean and standard deviation over splits of `test_mae`, and the difference to the arm
        of real crystals alone (`vs_real`) and to the oversampled control of the same round (`vs_control`), each with
        the ends of its 95 % interval, p-value, wins and number of splits (see `Paired`); empty where there is no
        reference. Arms are compared within their predictor; baselines and what takes from a generator, with the arms of
        the first one, the trainer's own model.
    """
    names = [name for name in dict.fromkeys(("dataset", "target", "scenario", *axes)) if name not in REPLICATES]
    rows: list[dict[str, Any]] = []
    for _, group in results.groupby(names, sort=False, dropna=False):
        same = {name: group[name].iloc[0] for name in names}
        overlap = float((group["test_rows"] / group["train_rows"]).mean())
        errors = _errors(group)
        own = next((predictor for predictor, arm, round in errors if not is_reference(arm, round)), "")
        real = next((arm for arm in REFERENCES if (own, arm, 0) in errors), "")
        for (predictor, arm, round), found in errors.items():
            values = pd.Series({split: fmean(of_seeds.values()) for split, of_seeds in found.items()})
            row = {"arm": arm, "predictor": predictor, "round": round, "splits": len(found)}
            row |= {"test_mae": values.mean(), "test_mae_std": values.std()}
            by = own if is_reference(arm, round) else predictor
            references = {"vs_real": (by, real, 0), "vs_control": (by, REFERENCES.get(real, ""), round)}
            for name, reference in references.items():
                others = errors.get(reference, {}) if reference != (predictor, arm, round) else {}
                row |= _difference(name, found, others, overlap)
            rows.append(same | row)
    return pd.DataFrame(rows)


def _errors(group: pd.DataFrame) -> dict[_Model, dict[str, dict[int, float]]]:
    """Test errors of each model."""
    errors: dict[_Model, dict[str, dict[int, float]]] = {}
    columns = ["predictor", "arm", "round", "split", "seed", "test_mae"]
    for predictor, arm, round, split, seed, error in group[columns].itertuples(index=False):
        errors.setdefault((predictor, arm, round), {}).setdefault(split, {})[seed] = error
    return errors


def _difference(name: str, errors: Errors, reference: Errors, overlap: float) -> dict[str, float]:
    """Columns of the paired difference of two models."""
    columns = [name, *(f"{name}_{part}" for part in ("low", "high", "p", "wins", "n"))]
    compared = paired_by_split(errors, reference, overlap)
    if compared is None:
        return dict.fromkeys(columns, math.nan)
    _, found = compared
    return dict(zip(columns, (found.mean, found.low, found.high, found.p, found.wins, found.n), strict=True))
