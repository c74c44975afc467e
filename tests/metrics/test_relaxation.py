"""Relaxation and energies, with a potential of springs."""

from dataclasses import replace

import numpy as np
import pytest

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.metrics.pool import CRASH, TIME_OUT, Pool
from matwheel.metrics.potential import energies
from matwheel.metrics.relaxation import RelaxationSettings, relax
from matwheel.metrics.stability import UsualEnergies
from tests.metrics.crystals import POOL, caesium_chloride, moved, rock_salt, table_of
from tests.metrics.toy_potential import DIES, FAILS, RESTS, STALLS, Springs

SPRINGS = Springs()


def _strained(seed: int) -> Crystal:
    rng = np.random.default_rng(seed)
    salt = rock_salt(length=5.0)
    lattice = salt.lattice @ (np.eye(3) + rng.normal(scale=0.05, size=(3, 3)))
    return replace(salt, lattice=lattice, frac_coords=(salt.frac_coords + rng.normal(scale=0.03, size=(2, 3))) % 1)


def test_relaxation_goes_downhill_to_rest_whatever_the_orientation() -> None:
    crystals = [_strained(seed) for seed in range(2)]
    crystals += [moved(crystal, np.random.default_rng(7)) for crystal in crystals]
    table = table_of(*crystals)
    settings = RelaxationSettings(max_steps=150, max_force=0.02)
    relaxed = [outcome.value for outcome in relax(table, SPRINGS, settings, POOL)]
    assert all(one is not None and one.force < 0.02 and 0 < one.steps < 150 for one in relaxed)
    before = energies(table, SPRINGS, POOL).per_atom
    after = energies(CrystalTable.from_crystals([one.crystal for one in relaxed]), SPRINGS, POOL).per_atom
    drop = np.array([one.energy_drop for one in relaxed])
    assert (drop > 0.005).all()
    np.testing.assert_allclose(before - after, drop, atol=1e-9)
    np.testing.assert_allclose(drop[:2], drop[2:], atol=1e-3)
    assert [one.crystal.id for one in relaxed] == table.ids.tolist()


def test_a_fixed_cell_stays_and_so_does_a_crystal_at_rest() -> None:
    crystals = table_of(_strained(0), rock_salt(RESTS, 17))
    settings = RelaxationSettings(max_steps=20, fixed_cell=True)
    first, second = (outcome.value for outcome in relax(crystals, SPRINGS, settings, POOL))
    np.testing.assert_allclose(first.crystal.lattice, crystals.lattices[0])
    assert first.energy_drop > 0
    assert np.abs(first.crystal.frac_coords - crystals.frac_coords[:2]).max() > 1e-3
    assert (second.steps, second.energy_drop) == (0, 0.0)
    np.testing.assert_allclose(second.crystal.frac_coords, crystals.frac_coords[2:], atol=1e-12)
    (as_it_was,) = relax(crystals.take([0]), SPRINGS, RelaxationSettings(max_steps=0), POOL)
    assert as_it_was.value.steps == 0
    np.testing.assert_allclose(as_it_was.value.crystal.lattice, crystals.lattices[0])


def test_only_the_crystal_to_blame_is_lost() -> None:
    troubles = [rock_salt(11, number, 5.0) for number in (17, FAILS, STALLS, 35, DIES)]
    thin = Crystal("thin", np.diag([3.0, 3.0, 0.1]), np.zeros((1, 3)), np.array([11]))
    outcomes = relax(table_of(*troubles, thin), SPRINGS, RelaxationSettings(max_steps=2), Pool(1, timeout=1.0))
    assert [outcome.failure for outcome in outcomes] == ["", "no neon", TIME_OUT, "", CRASH, "the cell collapsed"]
    found = energies(table_of(*troubles[:2]), SPRINGS, POOL)
    assert found.failures == ("", "no neon")
    assert found.known.tolist() == [True, False]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="max_steps"):
        RelaxationSettings(max_steps=-1)


def test_excess_is_what_composition_does_not_explain() -> None:
    numbers = [3, 11, 19, 37, 55, 4, 12, 20]
    real = table_of(*[rock_salt(cation, anion) for cation in numbers for anion in (9, 17, 35, 53)])
    rng = np.random.default_rng(0)
    smooth = real.atomic_numbers.reshape(-1, 2).sum(1) * 0.01
    known = energies(real.take([0, 1]), SPRINGS, POOL)
    found = replace(known, per_atom=smooth + rng.normal(scale=0.01, size=32), failures=("",) * 32)
    usual = UsualEnergies.fit(real, found)
    assert usual.excess.std() < 0.5 * found.per_atom.std()
    assert usual.threshold(0.5) == pytest.approx(0, abs=0.05)
    higher = replace(found, per_atom=found.per_atom + 0.5)
    np.testing.assert_allclose(usual.excess_of(real, higher) - usual.excess_of(real, found), 0.5, rtol=1e-9)
    unknown = replace(found, per_atom=np.where(np.arange(32) == 3, np.nan, found.per_atom))
    assert np.flatnonzero(np.isnan(usual.excess_of(real, unknown))).tolist() == [3]


def test_leave_one_out_agrees_with_leaving_one_out() -> None:
    real = table_of(*[rock_salt(cation, 17) for cation in (3, 11, 19, 37, 55)], caesium_chloride(12, 8))
    values = np.array([0.1, 0.2, 0.15, 0.3, 0.25, -0.4])
    found = replace(energies(real.take([0]), SPRINGS, POOL), per_atom=values, failures=("",) * 6)
    usual = UsualEnergies.fit(real, found)
    kernel = np.exp(-np.abs(usual.points[:, None] - usual.points).sum(2) / usual.width)
    for row in range(6):
        rest = np.delete(np.arange(6), row)
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + 0.01 * np.eye(5), values[rest] - values.mean())
        assert usual.excess[row] == pytest.approx(values[row] - values.mean() - kernel[row, rest] @ weights)


def test_something_must_be_known_of_real_crystals() -> None:
    with pytest.raises(ValueError, match="1 of 2 real crystals have an energy"):
        UsualEnergies.of(table_of(rock_salt(), rock_salt(FAILS, 17)), SPRINGS, POOL)
