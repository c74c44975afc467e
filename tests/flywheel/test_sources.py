import json
from collections.abc import Iterator
from string import ascii_letters

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.catalogue import load
from matwheel.data.crystal import Crystal, CrystalTable, IntArray
from matwheel.flywheel.filters import NoCrystalLeftError
from matwheel.flywheel.sources import CrystalSource, Derived, StrainJitter
from matwheel.flywheel.substitution import IonSubstitution
from matwheel.metrics.validity import composition_validity, structure_validity
from matwheel.writers import describe_samples
from tests.metrics.crystals import rock_salt, table_of

PARENTS = load("mp_poly_total").table.take(np.arange(0, 60))
CONDITIONS = ["poly_total", "band_gap"]
SOURCES = [StrainJitter(), IonSubstitution(), IonSubstitution(2)]


def _origins(table: CrystalTable) -> Iterator[dict]:
    return map(json.loads, table.origins)


@pytest.mark.parametrize("source", SOURCES)
def test_crystals_are_handled_like_samples_of_a_generator(source: CrystalSource) -> None:
    made = source.make(PARENTS, CONDITIONS, 90, seed=5, round=2)
    assert len(made) == 90
    assert structure_validity(made).valid.all()
    parents = {crystal.id: crystal for crystal in PARENTS}
    for index, (crystal, origin) in enumerate(zip(made, _origins(made), strict=True)):
        parent = parents[origin["parent"]]
        assert (origin["seed"], origin["index"], origin["round"]) == (5 + index, index, 2)
        assert origin["conditions"] == dict(crystal.properties) == {n: parent.properties[n] for n in CONDITIONS}
        assert crystal.num_atoms == parent.num_atoms
    table = describe_samples(made)
    assert table["id"].is_unique
    assert table["parent"].tolist() == [origin["parent"] for origin in _origins(made)]
    assert table["condition_poly_total"].tolist() == made.properties["poly_total"].tolist()


@pytest.mark.parametrize("source", SOURCES)
@given(seed=st.integers(0, 2**30), count=st.integers(1, 20))
@settings(max_examples=5, deadline=None)
def test_a_crystal_depends_on_its_seed_and_index_only(source: CrystalSource, seed: int, count: int) -> None:
    few, many = (source.make(PARENTS, CONDITIONS, n, seed) for n in (count, count + 7))
    same = many.take(np.arange(count))
    assert few.fingerprint() == same.fingerprint()
    assert few.origins.tolist() == same.origins.tolist()
    assert source.make(PARENTS, CONDITIONS, count, seed + 1).fingerprint() != few.fingerprint()


def test_every_parent_gets_its_turn() -> None:
    made = StrainJitter().make(PARENTS, CONDITIONS, 120, seed=0)
    assert [origin["parent"] for origin in _origins(made)] == 2 * PARENTS.ids.tolist()


def test_jitter_has_the_size_that_was_asked_for() -> None:
    parents = PARENTS.take(np.arange(20))
    still = StrainJitter(strain=0.0, displacement=0.0).make(parents, CONDITIONS, 20, seed=0)
    np.testing.assert_allclose(still.lattices, parents.lattices)
    np.testing.assert_allclose(still.frac_coords, parents.frac_coords, atol=1e-12)
    made = StrainJitter(strain=0.03, displacement=0.1).make(parents, CONDITIONS, 400, seed=0)
    rows = np.arange(400) % 20
    strain = np.linalg.solve(parents.lattices[rows], made.lattices) - np.eye(3)
    assert strain.std() == pytest.approx(0.03, rel=0.1)
    np.testing.assert_allclose(strain, strain.swapaxes(1, 2), atol=1e-12)
    shift = made.frac_coords - parents.take(rows).frac_coords
    shift = (shift - np.round(shift))[:, None] @ np.repeat(made.lattices, made.num_atoms, axis=0)
    assert shift.std() == pytest.approx(0.1, rel=0.1)


def test_ions_are_replaced_by_ions_of_the_same_charge() -> None:
    made = IonSubstitution().make(PARENTS, CONDITIONS, 60, seed=0)
    elements = set(PARENTS.atomic_numbers.tolist())
    assert composition_validity(made).mean() > 0.9
    for crystal, origin in zip(made, _origins(made), strict=True):
        (old, new), *others = origin["substituted"].items()
        assert not others
        assert old != new
        assert old.lstrip(ascii_letters) == new.lstrip(ascii_letters)
        parent = PARENTS[PARENTS.ids.tolist().index(origin["parent"])]
        assert (crystal.atomic_numbers != parent.atomic_numbers).any()
        assert len(set(crystal.atomic_numbers)) == len(set(parent.atomic_numbers))  # no two sites became one
        assert set(crystal.atomic_numbers.tolist()) <= elements
        np.testing.assert_array_equal(crystal.frac_coords, parent.frac_coords)


def test_the_cell_follows_the_ionic_radii() -> None:
    sodium, potassium = rock_salt(length=5.64), rock_salt(19, 17, 6.29)
    parents = table_of(sodium, potassium)
    parents = parents.with_properties(gap=np.ones(2))
    made = IonSubstitution().make(parents, ["gap"], 2, seed=0)
    assert [set(crystal.atomic_numbers.tolist()) for crystal in made] == [{19, 17}, {11, 17}]
    # Only alkali metals have a substitute here; the experimental cells are met to 2 %.
    np.testing.assert_allclose(np.linalg.norm(made.lattices[:, 0], axis=1) * 2**0.5, [6.29, 5.64], rtol=0.02)


def test_alloys_are_no_parents() -> None:
    alloy = Crystal("alloy", 3 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([29, 30]))
    alloys = table_of(alloy).with_properties(gap=np.ones(1))
    # What the wheel has done until then is shown (`Flywheel._spin`).
    message = "IonSubstitution made nothing of 100 crystals drawn .*: it needs ions whose charges balance"
    with pytest.raises(NoCrystalLeftError, match=message):
        IonSubstitution().make(alloys, ["gap"], 1, seed=0)


def test_parents_without_a_condition_are_left_out() -> None:
    gap = np.full(len(PARENTS), np.nan)
    gap[3] = 1.0
    made = StrainJitter().make(PARENTS.with_properties(gap=gap), ["gap"], 4, seed=0)
    assert {origin["parent"] for origin in _origins(made)} == {str(PARENTS.ids[3])}
    with pytest.raises(ValueError, match="no training crystal has all conditions"):
        StrainJitter().make(PARENTS.with_properties(gap=np.full(len(PARENTS), np.nan)), ["gap"], 4, seed=0)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="substitutions must be at least 1"):
        IonSubstitution(0)
    with pytest.raises(ValueError, match="displacement"):
        StrainJitter(displacement=-1)


class _Picky(CrystalSource):
    def derive(self, parent: Crystal, elements: IntArray, random: np.random.Generator) -> Derived | None:
        return Derived(parent) if parent.id == PARENTS.ids[7] else None


def test_another_parent_is_taken_where_one_allows_nothing() -> None:
    made = _Picky().make(PARENTS.take(np.arange(10)), CONDITIONS, 5, seed=0)
    assert {origin["parent"] for origin in _origins(made)} == {str(PARENTS.ids[7])}
