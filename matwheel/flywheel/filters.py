"""Which synthetic crystals are good enough to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from matwheel.data.crystal import BoolArray, CrystalTable, FloatArray
from matwheel.metrics.matching import MatchTolerances, find_groups, find_matches
from matwheel.metrics.validity import composition_validity, structure_validity

_DEFAULT_TOLERANCES = MatchTolerances()


class NoCrystalLeftError(ValueError):
    """The generator made nothing that passes the filter."""


@dataclass(frozen=True)
class FilterStep:
    """What one step of a filter did.

    Attributes:
        name: What was asked for.
        before: Crystals that came in.
        after: Crystals that passed.
        failures: Why crystals could not be judged, with how many; they do not pass.
        numbers: What else is worth knowing, such as the threshold.
    """

    name: str
    before: int
    after: int
    failures: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, passed: BoolArray, failures: Sequence[str] = (), numbers: Mapping[str, float] | None = None
    ) -> FilterStep:
        """Count.

        Args:
            name: What was asked for.
            passed: [n], of the crystals that came in.
            failures: Why each could not be judged; empty texts are none.
            numbers: See the class.
        """
        counts = dict(Counter(failure for failure in failures if failure).most_common())
        return cls(name, len(passed), int(passed.sum()), counts, numbers or {})

    @property
    def rate(self) -> float:
        """Fraction that passed; NaN where nothing came in."""
        return self.after / self.before if self.before else float("nan")

    def __str__(self) -> str:
        return f"{self.name} {self.after}/{self.before}"


@dataclass(frozen=True)
class FilterResult:
    """What passed.

    Attributes:
        crystals: The crystals that passed all steps, as they are to be used: with ids and properties of the samples.
        steps: Each step in order.
    """

    crystals: CrystalTable
    steps: tuple[FilterStep, ...]

    def __str__(self) -> str:
        return ", ".join(str(step) for step in self.steps)

    def require_any(self) -> None:
        """Refuse an empty result.

        Raises:
            NoCrystalLeftError: If nothing passed, with the rate of each step.
        """
        if not len(self.crystals):
            raise NoCrystalLeftError(
                f"no generated crystal passed the filter ({self}): train the generator longer, sample more, "
                "or relax the step where they fail"
            )


class Filter(ABC):
    """Decides which synthetic crystals are used, and in which shape."""

    @abstractmethod
    def apply(self, samples: CrystalTable, training: CrystalTable) -> FilterResult:
        """Choose crystals.

        Args:
            samples: Generated crystals.
            training: Crystals the generator was trained on, and synthetic ones that are in use already.
        """


class BasicFilter(Filter):
    """Valid crystals that are neither copies of each other nor of the training crystals.

    Args:
        structure: Require that no two atoms are closer than `min_distance` and the cell larger than `min_volume`.
        composition: Require a neutral composition (SMACT; single elements and alloys pass).
        duplicates: Remove copies of earlier samples and of training crystals.
        min_distance: A, least distance of two atoms.
        min_volume: A^3, least volume of a cell.
        max_length: A, longest edge of a cell.
        min_angle: Degrees; cell angles must lie between this and 180 minus this.
        tolerances: When one crystal is a copy of another.
    """

    def __init__(
        self,
        structure: bool = True,
        composition: bool = True,
        duplicates: bool = True,
        min_distance: float = 0.5,
        min_volume: float = 0.1,
        max_length: float = 100.0,
        min_angle: float = 20.0,
        tolerances: MatchTolerances = _DEFAULT_TOLERANCES,
    ) -> None:
        self.structure = structure
        self.composition = composition
        self.duplicates = duplicates
        self.min_distance = min_distance
        self.min_volume = min_volume
        self.max_length = max_length
        self.min_angle = min_angle
        self.tolerances = tolerances

    def apply(self, samples: CrystalTable, training: CrystalTable) -> FilterResult:
        """See `Filter.apply`; steps: cell, structure, composition, unique, novel."""
        steps = []

        def keep(name: str, passed: BoolArray, failures: Sequence[str] = ()) -> None:
            nonlocal samples
            steps.append(FilterStep.of(name, passed, failures))
            samples = samples.take(np.flatnonzero(passed))

        keep("cell", self._sane_cells(samples.lattices))
        if self.structure:
            keep("structure", structure_validity(samples, self.min_distance, self.min_volume).valid)
        if self.composition:
            keep("composition", composition_validity(samples))
        if self.duplicates:
            groups = find_groups(samples, self.tolerances)
            keep("unique", groups.unique, groups.failures)
            matches = find_matches(samples, training, self.tolerances)
            keep("novel", matches.novel, matches.failures)
        return FilterResult(samples, tuple(steps))

    def _sane_cells(self, lattices: FloatArray) -> BoolArray:
        finite: BoolArray = np.asarray(np.isfinite(lattices).all(axis=(1, 2)))
        lengths = np.linalg.norm(np.where(finite[:, None, None], lattices, 0.0), axis=2)
        units = lattices / np.maximum(lengths, 1e-12)[:, :, None]
        cosines = np.stack([(units[:, i] * units[:, j]).sum(1) for i, j in ((1, 2), (0, 2), (0, 1))], 1)
        angles_good = np.abs(cosines) <= np.cos(np.deg2rad(self.min_angle))
        sane: BoolArray = finite & (lengths <= self.max_length).all(1) & (lengths > 0).all(1) & angles_good.all(1)
        return sane
