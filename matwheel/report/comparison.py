"""Arms that can be compared: same data set, target, scenario, predictor and setting, on the same splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

import numpy as np

from matwheel.flywheel.arms import ARMS, Roles, roles_of
from matwheel.flywheel.results import ResultRow
from matwheel.flywheel.rounds import best_round
from matwheel.metrics.paired import Errors, Paired, paired_by_split
from matwheel.report.folders import Measurement, reference_name
from matwheel.report.numbers import unit_in_text

LEVEL = 0.05
"""p-value below which a difference counts as shown."""


@dataclass(frozen=True)
class Setting:
    """What all models of a comparison have in common."""

    dataset: str
    target: str
    scenario: str
    predictor: str
    axes: tuple[tuple[str, str], ...]

    @property
    def unit(self) -> str:
        """Unit of the errors; empty where it is not known or there is none."""
        return unit_in_text(self.dataset, self.target)

    @property
    def title(self) -> str:
        """What tells it from other settings."""
        axes = "".join(f", {name} {value}" for name, value in self.axes)
        return f"{self.dataset}, {self.target}, {self.scenario}, {self.predictor}{axes}"


class Difference(NamedTuple):
    """Test MAE of an arm minus that of another, split by split; below zero, the arm is better.

    Attributes:
        arm: The arm.
        reference: The other one.
        splits: Names of the splits on which both were tested.
        paired: The differences in the target's unit, and their statistics.
    """

    arm: str
    reference: str
    splits: list[str]
    paired: Paired

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % interval of the mean; None where the splits are too few for one."""
        return (self.paired.low, self.paired.high) if np.isfinite(self.paired.low) else None

    @property
    def shown(self) -> int:
        """-1 where the arm is shown to be better, 1 where it is shown to be worse, else 0.

        The interval must exclude 0, and the corrected test, where its p-value is known, must agree: an interval from a
        few splits alone is too narrow.
        """
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1] or self.paired.p >= LEVEL:
            return 0
        return 1 if self.paired.mean > 0 else -1


@dataclass(frozen=True)
class Comparison:
    """The rows of one setting.

    Where there are several rounds, those of the round are used whose last arm has the lowest validation error in its
    run; test errors choose nothing.

    Attributes:
        setting: What they have in common.
        rows: All of them, baselines included.
        overlap: Test rows per training row, for the corrected test; None if unknown.
    """

    setting: Setting
    rows: tuple[ResultRow, ...]
    overlap: float | None = None

    @property
    def roles(self) -> Roles:
        """The arms that answer the question.

        Raises:
            ValueError: If the results name a scenario that is not known.
        """
        if self.setting.scenario not in ARMS:
            known = " or ".join(ARMS)
            raise ValueError(f"results of {self.setting.dataset} have the scenario {self.setting.scenario!r}: {known}")
        return roles_of("full" if self.setting.scenario == "full" else "semi")

    @cached_property
    def chosen(self) -> list[ResultRow]:
        """One row for each arm, split and seed."""
        chosen: list[ResultRow] = []
        for split, seed in dict.fromkeys((row.split, row.seed) for row in self.rows):
            run = [row for row in self.rows if (row.split, row.seed) == (split, seed)]
            best = chosen_round([row for row in run if row.predictor == self.setting.predictor])
            for arm in dict.fromkeys(row.arm for row in run):
                rows = [row for row in run if row.arm == arm]
                chosen.append(next((row for row in rows if row.round == best), rows[0]))
        return chosen

    @property
    def has_rounds(self) -> bool:
        """Whether there are rows of more than one round."""
        return any(row.round > 1 for row in self.rows)

    @property
    def arms(self) -> list[str]:
        """Names of arms and baselines in the order in which they were first evaluated."""
        return list(dict.fromkeys(row.arm for row in self.chosen))

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return list(dict.fromkeys(row.split for row in self.chosen))

    def of(self, arm: str) -> list[ResultRow]:
        """The chosen rows of an arm."""
        return [row for row in self.chosen if row.arm == arm]

    def errors(self, arm: str) -> dict[str, float]:
        """Test MAE by split; several seeds of a split count as one, since they share its test rows."""
        return {split: fmean(of_seeds.values()) for split, of_seeds in self.by_seed(arm).items()}

    def difference(self, arm: str, reference: str) -> Difference | None:
        """Compare two arms on the splits and seeds they share; None if there is none."""
        compared = paired_by_split(self.by_seed(arm), self.by_seed(reference), self.overlap)
        return None if compared is None else Difference(arm, reference, *compared)

    def by_seed(self, arm: str) -> Errors:
        """Test MAE by split and seed."""
        errors: dict[str, dict[int, float]] = {}
        for row in self.of(arm):
            errors.setdefault(row.split, {})[row.seed] = row.test_mae
        return errors

    @property
    def differences(self) -> list[Difference]:
        """Every arm and baseline against real crystals alone, and the mixture against its control."""
        real, mixed, control, _ = self.roles
        pairs = [(arm, real) for arm in self.arms if arm not in (real, "dummy")]
        found = (self.difference(*pair) for pair in (*pairs, (mixed, control)))
        return [difference for difference in found if difference is not None]


def chosen_round(rows: Sequence[ResultRow]) -> int:
    """The round of a run whose last arm has the lowest validation error, by the trainer's own model.

    Args:
        rows: Results of one run in the order in which they were made, that model's before those of other predictors.
    """
    arms = [row for row in rows if reference_name(row) is None]
    if not arms:
        return 0
    arms = [row for row in arms if row.predictor == arms[0].predictor]
    last = [row for row in arms if row.arm == arms[-1].arm]
    return last[best_round([row.val_mae for row in last])].round


def compare(measurements: Sequence[Measurement]) -> list[Comparison]:
    """Group measurements; the references of a setting, such as baselines, belong to each of its predictors."""
    arms: dict[Setting, list[Measurement]] = {}
    references: dict[Setting, list[ResultRow]] = {}
    for measurement in measurements:
        row, axes = measurement.row, measurement.axes
        setting = Setting(row.dataset, row.target, row.scenario, row.predictor, axes)
        reference = reference_name(row)
        if reference is not None:
            references.setdefault(replace(setting, predictor=""), []).append(replace(row, arm=reference))
        else:
            arms.setdefault(setting, []).append(measurement)
    return [
        Comparison(
            setting,
            (*references.get(replace(setting, predictor=""), []), *(measurement.row for measurement in own)),
            _mean_overlap(own),
        )
        for setting, own in arms.items()
    ]


def _mean_overlap(measurements: Sequence[Measurement]) -> float | None:
    known = [measurement.overlap for measurement in measurements if measurement.overlap is not None]
    return float(np.mean(known)) if known else None
