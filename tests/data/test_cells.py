import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from matwheel.data.catalogue import load
from matwheel.data.cells import niggli_reduce
from matwheel.data.crystal import Crystal, CrystalTable
from tests.data.samples import SKEWED

UNIMODULAR = st.lists(
    st.tuples(st.sampled_from([(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]), st.integers(-2, 2)), max_size=4
)


def table_of(*crystals: Crystal) -> CrystalTable:
    return CrystalTable.from_crystals(crystals)


@settings(deadline=None, max_examples=40)
@given(UNIMODULAR, st.booleans())
def test_every_cell_of_a_crystal_gives_the_same_reduced_cell(steps, mirrored):
    change = np.eye(3)
    for (row, other), factor in steps:
        change[row] += factor * change[other]
    if mirrored:
        change = -change
    crystal = Crystal.from_structure(SKEWED, "a")
    frac = crystal.frac_coords @ np.linalg.inv(change)
    other_cell = Crystal("b", change @ crystal.lattice, frac % 1, crystal.atomic_numbers)
    one, two = niggli_reduce(table_of(crystal, other_cell))
    np.testing.assert_allclose(Lattice(one.lattice).parameters, Lattice(two.lattice).parameters, atol=1e-6)
    for reduced in (one, two):
        assert np.linalg.det(reduced.lattice) == pytest.approx(SKEWED.volume)
        np.testing.assert_allclose(reduced.to_structure().distance_matrix, SKEWED.distance_matrix, atol=1e-6)
        assert ((reduced.frac_coords >= 0) & (reduced.frac_coords < 1)).all()


def test_properties_ids_and_order_are_kept():
    table = load("mp_poly_total").table.take(np.arange(0, 1056, 40))
    reduced = niggli_reduce(table)
    assert reduced.ids.tolist() == table.ids.tolist()
    np.testing.assert_array_equal(reduced.properties["n"], table.properties["n"])
    np.testing.assert_array_equal(reduced.atomic_numbers, table.atomic_numbers)
    for before, after in zip(table, reduced, strict=True):
        expected = before.to_structure().get_reduced_structure("niggli")
        np.testing.assert_allclose(Lattice(after.lattice).parameters, expected.lattice.parameters, atol=1e-5)
    again = niggli_reduce(reduced)
    np.testing.assert_allclose(again.lattices, reduced.lattices, atol=1e-8)


def test_a_cell_that_cannot_be_reduced_is_kept_and_counted(caplog):
    flat = Crystal("flat", np.array([[4.0, 0, 0], [4.0, 0, 0], [0, 0, 4.0]]), np.zeros((1, 3)), np.array([6]))
    good = Crystal.from_structure(SKEWED, "good")
    with caplog.at_level(logging.WARNING):
        reduced = niggli_reduce(table_of(flat, good))
    np.testing.assert_array_equal(reduced[0].lattice, flat.lattice)
    assert "1 of 2 cells could not be reduced and are used as they are: flat" in caplog.text
