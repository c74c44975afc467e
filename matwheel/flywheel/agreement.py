"""Whether the teaching predictors agree on the label of a synthetic crystal, with each other and with its condition."""

from __future__ import annotations

import numpy as np
import torch

from matwheel.data.crystal import BoolArray, CrystalTable, FloatArray
from matwheel.data.targets import ScaleKind, TargetTransform, check_scale
from matwheel.flywheel.filters import FilterResult, FilterStep
from matwheel.flywheel.labels import Teacher


class LabelAgreement:
    """Keeps synthetic crystals on whose label the teaching predictors agree.

    Differences are in standard deviations of the labelled real crystals' target, transformed. The teachers learned from
    the same crystals as the generator and share some of its errors: agreement makes a label more plausible, it does not
    make it right.

    Args:
        max_spread: Largest standard deviation of the teachers' predictions; None for any. Needs two teachers at least.
        max_deviation: Largest difference of the teachers' mean from the condition that the crystal was generated under;
            None for any.
        transform: Scale of the target; `log` suits properties with a heavy tail.
    """

    def __init__(
        self, max_spread: float | None = 0.5, max_deviation: float | None = 1.0, transform: ScaleKind = "log"
    ) -> None:
        if max_spread is None and max_deviation is None:
            raise ValueError("agreement needs max_spread or max_deviation: leave the agreement out instead")
        for name, value in (("max_spread", max_spread), ("max_deviation", max_deviation)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        check_scale(transform)
        self.max_spread = max_spread
        self.max_deviation = max_deviation
        self.transform = transform

    def check(self, num_teachers: int, target: str, conditions: list[str]) -> None:
        """Refuse a wheel that this cannot be used in.

        Raises:
            ValueError: If there is a single teacher, or the target is no condition.
        """
        if self.max_spread is not None and num_teachers < 2:
            raise ValueError("a single teacher has no spread: set num_teachers to 2 or more, or max_spread to null")
        if self.max_deviation is not None and target not in conditions:
            raise ValueError(
                f"synthetic crystals are compared with their condition: add the target {target!r} to the conditions "
                f"{conditions}, or set max_deviation to null"
            )

    def apply(self, crystals: CrystalTable, teacher: Teacher) -> FilterResult:
        """Choose crystals; steps: spread, deviation.

        Args:
            crystals: Synthetic crystals with the conditions they were generated under as properties.
            teacher: Predicts.
        """
        transform = TargetTransform(self.transform)
        transform.fit(torch.from_numpy(teacher.labelled.properties[teacher.target]))
        members = _scaled(transform, teacher.members(crystals))  # [k, n]
        steps = []
        passed = np.ones(len(crystals), dtype=np.bool_)

        def keep(name: str, difference: FloatArray, limit: float) -> None:
            nonlocal passed
            good: BoolArray = difference <= limit  # NaN is not
            steps.append(FilterStep.of(name, good[passed], numbers={"median": float(np.median(difference))}))
            passed = passed & good

        if self.max_spread is not None:
            keep("spread", members.std(axis=0, ddof=1), self.max_spread)
        if self.max_deviation is not None:
            asked = _scaled(transform, crystals.properties[teacher.target])
            keep("deviation", np.abs(members.mean(axis=0) - asked), self.max_deviation)
        return FilterResult(crystals.take(np.flatnonzero(passed)), tuple(steps))


def _scaled(transform: TargetTransform, values: FloatArray) -> FloatArray:
    scaled: FloatArray = transform(torch.from_numpy(np.ascontiguousarray(values))).numpy()
    return scaled
