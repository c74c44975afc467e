"""Synthetic crystals without a trained generator: the baselines that one must beat."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from matwheel.data.crystal import Crystal, CrystalTable, FloatArray, IntArray, wrap
from matwheel.flywheel.filters import NoCrystalLeftError
from matwheel.metrics.validity import structure_validity

_ATTEMPTS = 100
"""Parents tried for one crystal."""


@dataclass(frozen=True)
class Derived:
    """A crystal made from another one.

    Attributes:
        crystal: Its structure.
        record: What was done, for the crystal's origin.
    """

    crystal: Crystal
    record: dict[str, Any] = field(default_factory=dict)


class CrystalSource(ABC):
    """Makes crystals from the training crystals, each from one parent.

    They are handled as samples of a generator: their conditions are the values of their parent, so that they may be
    labelled by these (`ConditionLabels`) or, as others, by a predictor. Each depends on the parents and its own seed
    only, and its origin names both.

    Attributes:
        requirement: What parents must be like, for the message when none is.
    """

    requirement: str = "its parents allow none"

    def make(
        self, parents: CrystalTable, conditions: Sequence[str], count: int, seed: int, round: int = 0
    ) -> CrystalTable:
        """Make crystals.

        Args:
            parents: Training crystals; those without a value of one of the conditions are not used.
            conditions: Properties that a crystal takes over from its parent.
            count: How many.
            seed: Crystal i has the seed `seed + i`; its parent is row i, counted round and round, or a random one where
                nothing can be made from that row.
            round: Round of the flywheel, for names and origins.

        Raises:
            ValueError: If no parent has all conditions.
            NoCrystalLeftError: If nothing can be made from the parents.
        """
        values = np.array([parents.properties[name] for name in conditions])
        parents = parents.take(np.flatnonzero(np.isfinite(values).all(0)))
        if not len(parents):
            raise ValueError("no training crystal has all conditions: remove a condition that is mostly missing")
        parents.properties = {name: parents.properties[name] for name in conditions}
        elements = np.unique(parents.atomic_numbers)
        made = []
        for index in range(count):
            random = np.random.default_rng(seed + index)
            rows = [index % len(parents), *random.integers(len(parents), size=_ATTEMPTS - 1).tolist()]
            derivations = ((parents[row], self.derive(parents[row], elements, random)) for row in rows)
            found = next(((parent, derived) for parent, derived in derivations if derived is not None), None)
            if found is None:
                raise NoCrystalLeftError(
                    f"{type(self).__name__} made nothing of {_ATTEMPTS} crystals drawn from the training set, such as "
                    f"{parents.ids[rows[0]]}: {self.requirement}; choose another source"
                )
            made.append(self._named(*found, seed + index, index, round))
        return CrystalTable.from_crystals(made)

    @abstractmethod
    def derive(self, parent: Crystal, elements: IntArray, random: np.random.Generator) -> Derived | None:
        """Make one crystal from a parent; None where this parent allows none.

        Args:
            parent: The crystal.
            elements: Atomic numbers that occur among the training crystals, sorted.
            random: Source of randomness.
        """

    def _named(self, parent: Crystal, derived: Derived, seed: int, index: int, round: int) -> Crystal:
        origin = {
            "generator": type(self).__name__,
            "parent": parent.id,
            **derived.record,
            "seed": seed,
            "index": index,
            "conditions": dict(parent.properties),
            "round": round,
        }
        name = f"syn-{round}-{seed}-{index}"
        return replace(derived.crystal, id=name, properties=parent.properties, origin=json.dumps(origin))


class StrainJitter(CrystalSource):
    """Training crystals with a random strain of the cell and a random displacement of every atom.

    The copies stay near their parents: a filter that removes duplicates would remove them.

    Args:
        strain: Standard deviation of each component of the symmetric strain.
        displacement: A, standard deviation of each Cartesian component of the displacements.
    """

    def __init__(self, strain: float = 0.02, displacement: float = 0.05) -> None:
        if not 0 <= strain < 0.3 or displacement < 0:
            raise ValueError(
                f"the strain ({strain}) must be from 0 to 0.3, the displacement ({displacement}) not negative"
            )
        self.strain = strain
        self.displacement = displacement

    def derive(self, parent: Crystal, elements: IntArray, random: np.random.Generator) -> Derived | None:
        """See `CrystalSource`; None where atoms would be too close."""
        strain = np.triu(random.normal(scale=self.strain, size=(3, 3)))
        lattice = parent.lattice @ (np.eye(3) + (strain + np.triu(strain, 1).T))
        shift = random.normal(scale=self.displacement, size=parent.frac_coords.shape)
        moved = replace(parent, lattice=lattice, frac_coords=_shifted(parent.frac_coords, shift, lattice))
        is_valid = structure_validity(CrystalTable.from_crystals([moved])).valid[0]
        return Derived(moved) if is_valid else None


def _shifted(frac_coords: FloatArray, shift: FloatArray, lattice: FloatArray) -> FloatArray:
    """Fractional coordinates after Cartesian displacements [n, 3], A."""
    return wrap(frac_coords + np.linalg.solve(lattice.T, shift.T).T)
