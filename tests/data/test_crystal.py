import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from matwheel.data.crystal import Crystal, CrystalTable, ragged_arange, wrap
from tests.data.test_graphs import make_table


def same(a: CrystalTable, b: CrystalTable) -> bool:
    columns = ("ids", "num_atoms", "lattices", "frac_coords", "atomic_numbers", "origins")
    return all(np.array_equal(getattr(a, c), getattr(b, c)) for c in columns) and all(
        np.array_equal(a.properties[p], b.properties[p], equal_nan=True) for p in {*a.properties, *b.properties}
    )


def test_rows_and_columns_agree():
    table = make_table()
    assert same(CrystalTable.from_crystals(table), table)
    assert table[-1].id == "c6"
    with pytest.raises(IndexError):
        table[7]


@given(st.lists(st.integers(0, 6), max_size=12))
def test_take(rows):
    table = make_table()
    taken = table.take(rows)
    assert [c.id for c in taken] == [f"c{r}" for r in rows]
    for crystal, row in zip(taken, rows, strict=True):
        assert np.array_equal(crystal.frac_coords, table[row].frac_coords)


def test_save_and_load(tmp_path):
    table = make_table().with_properties(hole=np.array([np.nan] * 7))
    table.save(tmp_path / "t.npz")
    assert same(CrystalTable.load(tmp_path / "t.npz"), table)


def test_concatenate_fills_missing_properties():
    left, right = make_table(2), make_table(3).with_properties(other=np.ones(3))
    both = CrystalTable.concatenate([left, right])
    assert np.isnan(both.properties["other"][:2]).all()
    assert both.fingerprint() != left.fingerprint()


def test_structure_round_trip():
    structure = Structure(Lattice.hexagonal(3, 5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, -0.25]])
    crystal = Crystal.from_structure(structure, "salt", {"gap": 5.0})
    assert crystal.atomic_numbers.tolist() == [11, 17]
    assert crystal.frac_coords[1, 2] == pytest.approx(0.75)
    assert crystal.volume == pytest.approx(structure.volume)
    assert crystal.to_structure().matches(structure)


def test_disordered_structure_is_refused():
    structure = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="partial occupancy"):
        Crystal.from_structure(structure, "x")


@given(st.floats(-1e6, 1e6))
def test_wrap_stays_below_one(x):
    assert 0 <= wrap(np.array([x]))[0] < 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_ragged_arange(pairs):
    starts, lengths = (np.array(c, dtype=np.int64) for c in (zip(*pairs, strict=True) if pairs else ([], [])))
    expected = [i for s, n in pairs for i in range(s, s + n)]
    assert ragged_arange(starts, lengths).tolist() == expected
