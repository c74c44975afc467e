import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from matwheel.data.crystal import Crystal, FloatArray
from matwheel.metrics.checks import SpaceGroup, StructureCheck, run_check
from matwheel.metrics.figures import Figure
from matwheel.metrics.pool import CRASH
from tests.metrics.crystals import POOL, caesium_chloride, doubled, moved, rock_salt, table_of


@dataclass(frozen=True)
class AtomsUpTo(StructureCheck):
    """Number of atoms; fails, then crashes, on larger cells."""

    limit: int
    column: ClassVar[str] = "atoms"

    def __call__(self, crystal: Crystal) -> float:
        if crystal.num_atoms > 2 * self.limit:
            os._exit(1)
        if crystal.num_atoms > self.limit:
            raise ValueError("too many")
        return crystal.num_atoms

    def summary(self, generated: FloatArray, reference: FloatArray) -> list[Figure]:
        return [Figure("atoms", float(generated.mean()), len(generated), "known")]


def test_a_check_of_ones_own() -> None:
    table = table_of(rock_salt(), doubled(rock_salt()), doubled(doubled(rock_salt())), caesium_chloride())
    found = run_check(AtomsUpTo(2), table, POOL)
    np.testing.assert_array_equal(found.values, [2, np.nan, np.nan, 2])
    assert found.failures == ("", "ValueError: too many", CRASH, "")


def test_space_groups() -> None:
    blurred = moved(rock_salt(), np.random.default_rng(0))
    blurred.frac_coords[0] += 0.001
    collided = Crystal("x", 4 * np.eye(3), np.array([[0, 0, 0], [0, 0, 0.001]]), np.array([11, 11]))
    table = table_of(rock_salt(), doubled(rock_salt()), caesium_chloride(), blurred, collided)
    found = run_check(SpaceGroup(symprec=0.1), table, POOL)
    np.testing.assert_array_equal(found.values[:4], [225, 225, 221, 225])
    assert np.isnan(found.values[4])
    assert found.failures[4]
    assert run_check(SpaceGroup(symprec=1e-4), table.take([3]), POOL).values[0] < 225


def test_summary_of_space_groups() -> None:
    figures = SpaceGroup().summary(np.array([1.0, 1, 225]), np.array([225.0, 225]))
    assert [figure.value for figure in figures] == pytest.approx([2 / 3, 2, 2 / 3])
    assert [(figure.count, figure.total) for figure in figures] == [(2, 3), (None, 3), (None, 3)]
