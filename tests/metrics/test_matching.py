from typing import Any

import numpy as np
import pytest

from matwheel.data.crystal import Crystal
from matwheel.metrics.matching import MatchTolerances, find_groups, find_matches
from matwheel.metrics.pool import TIME_OUT, Pool
from tests.metrics.crystals import POOL, caesium_chloride, doubled, moved, rock_salt, table_of


def test_copies_are_recognised_in_any_cell() -> None:
    rng = np.random.default_rng(0)
    salt = rock_salt()
    table = table_of(salt, caesium_chloride(), doubled(salt), moved(salt, rng), rock_salt(3, 9), rock_salt(length=5.5))
    groups = find_groups(table, pool=POOL)
    assert groups.first.tolist() == [0, 1, 0, 0, 4, 0]
    assert groups.unique.tolist() == [True, True, False, False, True, False]
    matches = find_matches(table, table_of(caesium_chloride(), moved(salt, rng)), pool=POOL)
    assert matches.row.tolist() == [1, 0, 1, 1, -1, 1]
    np.testing.assert_allclose(matches.rms[[0, 1, 2, 3, 5]], 0, atol=1e-6)
    assert matches.novel.tolist() == [False, False, False, False, True, False]


def test_the_best_counterpart_is_named() -> None:
    def shifted(shift: float) -> Crystal:
        cell = np.diag([4.0, 5.0, 6.0])
        return Crystal("x", cell, np.array([[0, 0, 0], [0.5, 0.5, 0.5 + shift]]), np.array([11, 17]))

    matches = find_matches(table_of(shifted(0.02)), table_of(shifted(0.06), shifted(0.03), shifted(0.1)), pool=POOL)
    assert matches.row.tolist() == [1]
    assert 0 < matches.rms[0] < 0.05


def test_a_crystal_has_the_time_of_all_its_references() -> None:
    class Recording(Pool):
        def map(self, function: Any, items: Any, label: str = "", sizes: Any = None) -> Any:
            recorded.append(sizes)
            return super().map(function, items, label, sizes)

    recorded: list[list[int]] = []
    reference = table_of(doubled(rock_salt()), rock_salt(3, 9), caesium_chloride(), caesium_chloride())
    matches = find_matches(table_of(rock_salt(), rock_salt(3, 9)), reference, pool=Recording(1, 120.0))
    assert recorded == [[3, 1]]
    assert matches.row.tolist() == [0, 1]


def test_order_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    crystals = []
    for _ in range(8):  # a chain of distortions, of which neighbours match
        frac = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.2 + 0.04 * len(crystals)]])
        crystals.append(Crystal("x", np.diag([4.0, 4.5, 5.0]), frac, np.array([11, 17, 8])))
    tolerances = MatchTolerances(site=0.05)
    first = find_groups(table_of(*crystals), tolerances, POOL).first
    assert 1 <= len(set(first)) < 8
    order = rng.permutation(8)
    permuted = find_groups(table_of(*(crystals[row] for row in order)), tolerances, POOL).first
    groups = {frozenset(np.flatnonzero(first == name)) for name in set(first)}
    assert {frozenset(order[permuted == name]) for name in set(permuted)} == groups


def test_tolerances_decide() -> None:
    table = table_of(rock_salt(), Crystal("x", rock_salt().lattice * [[1], [1], [1.1]], *_atoms(rock_salt())))
    assert find_groups(table, MatchTolerances(length=0.3, angle=10), POOL).unique.sum() == 1
    assert find_groups(table, MatchTolerances(length=0.01, angle=0.5), POOL).unique.sum() == 2
    with pytest.raises(ValueError, match="site tolerance must be above 0"):
        MatchTolerances(site=0)


def test_what_takes_too_long_is_neither_unique_nor_novel() -> None:
    table = table_of(*[rock_salt()] * 3, caesium_chloride(3, 9))
    hurried = Pool(processes=1, timeout=1e-9)
    groups = find_groups(table, pool=hurried)
    assert groups.failures == (TIME_OUT, TIME_OUT, TIME_OUT, "")
    assert groups.unique.tolist() == [False, False, False, True]
    matches = find_matches(table, table_of(rock_salt()), pool=hurried)
    assert matches.failures == (TIME_OUT, TIME_OUT, TIME_OUT, "")
    assert matches.novel.tolist() == [False, False, False, True]


def _atoms(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    return crystal.frac_coords, crystal.atomic_numbers
