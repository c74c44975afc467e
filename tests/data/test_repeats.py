from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from matwheel.data.catalogue import load
from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.data.repeats import without_repeats
from matwheel.data.rows import LoadedTable, Reason, RowReport
from tests.data.samples import CAESIUM_CHLORIDE, ROCK_SALT, SKEWED, cif, poscar, write_csv
from tests.data.test_graphs import make_table


def loaded_of(*crystals: Crystal, y: list[float] | None = None) -> LoadedTable:
    table = CrystalTable.from_crystals(replace(c, id=f"id-{row}") for row, c in enumerate(crystals))
    table = table.with_properties(y=np.array(y if y is not None else [0.0] * len(table)))
    return LoadedTable("sample", table, np.arange(len(table)) + 5, RowReport("sample", len(table) + 5))


def test_a_crystal_is_known_again_in_any_orientation_and_order_of_sites():
    crystal = Crystal.from_structure(SKEWED, "a")
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    order = [2, 0, 1]
    same = replace(
        crystal,
        lattice=crystal.lattice @ turn,
        frac_coords=(crystal.frac_coords[order] - 1e-7) % 1.0,  # a zero becomes nearly one
        atomic_numbers=crystal.atomic_numbers[order],
    )
    others = [
        replace(crystal, lattice=crystal.lattice * 1.01),
        replace(crystal, frac_coords=crystal.frac_coords + np.diag([0.01, 0, 0])),
        replace(crystal, atomic_numbers=crystal.atomic_numbers[order]),
    ]
    once = without_repeats(loaded_of(crystal, *others, same))
    assert once.source_rows.tolist() == [5, 6, 7, 8]
    assert [(bad.row, bad.id, bad.reason, bad.detail) for bad in once.report.bad] == [
        (9, "id-4", Reason.REPEATED, "row 5 (id-0) has the same crystal")
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_cell_origin_and_digits_are_free(seed: int) -> None:
    """Each crystal once more as a supercell along one axis, in another setting, with another origin, rounded."""
    rng = np.random.default_rng(seed)
    again = []
    for structure in (ROCK_SALT, CAESIUM_CHLORIDE, SKEWED):
        other = structure * rng.permutation([1, 1, 2]).tolist()
        other.make_supercell(np.eye(3, dtype=int)[rng.permutation(3)])
        other = Structure(np.round(other.lattice.matrix, 3), other.species, other.frac_coords + rng.random(3))
        again.append(replace(Crystal.from_structure(other, ""), frac_coords=np.round(other.frac_coords % 1, 4) % 1))
    once = without_repeats(loaded_of(*(Crystal.from_structure(s, "") for s in (ROCK_SALT, SKEWED)), *again))
    assert once.source_rows.tolist() == [5, 6, 8]


@pytest.mark.parametrize(("first", "others"), [(0.0, 0.02), (0.02, 0.003)], ids=["alloys", "snapshots"])
def test_arrangements_of_the_same_composition_are_told_apart_without_comparing_all_pairs(
    monkeypatch: pytest.MonkeyPatch, first: float, others: float
) -> None:
    compared = 0
    fit = StructureMatcher.fit

    def counted(self: StructureMatcher, one: Structure, other: Structure, **options: bool) -> bool:
        nonlocal compared
        compared += 1
        return fit(self, one, other, **options)

    monkeypatch.setattr(StructureMatcher, "fit", counted)
    rng, sites = np.random.default_rng(0), Crystal.from_structure(ROCK_SALT * 2, "")
    start = sites.frac_coords + rng.normal(0, first, (64, 3))
    crystals = [replace(sites, frac_coords=(start + rng.normal(0, others, (64, 3))) % 1) for _ in range(40)]
    assert len(without_repeats(loaded_of(*crystals))) == 40
    assert compared < 40


def test_a_distorted_supercell_is_another_crystal():
    sites = Crystal.from_structure(ROCK_SALT * 2, "")
    moved = np.random.default_rng(0).normal(0, 0.02, (5, 64, 3)) @ np.linalg.inv(sites.lattice)
    crystals = [replace(sites, frac_coords=(sites.frac_coords + shift) % 1) for shift in (0, *moved)]
    assert len(without_repeats(loaded_of(*crystals)).table) == 6


def test_another_value_of_the_same_crystal_is_told():
    one, other = (Crystal.from_structure(s, "") for s in (ROCK_SALT, CAESIUM_CHLORIDE))
    once = without_repeats(loaded_of(one, other, one, one, y=[1.5, 2.0, 1.5, 3.0]), ["y"])
    assert once.table.properties["y"].tolist() == [1.5, 2.0]
    assert [bad.detail for bad in once.report.bad] == [
        "row 5 (id-0) has the same crystal",
        "row 5 (id-0) has the same crystal, with y 1.5 instead of 3: keep one of them",
    ]


@pytest.mark.parametrize("header", [["id", "structure", "y"], ["number", "structure", "y"]])
def test_a_table_below_itself_does_not_leak(tmp_path, header):
    structures = [crystal.to_structure() for crystal in make_table(12)]
    rows = [[f"{write.__name__}-{i}", write(s), i] for write in (cif, poscar) for i, s in enumerate(structures)]
    rows[3][2] = ""  # without a label it does not stand for its crystal
    path = write_csv(tmp_path / "t.csv", header, rows)
    module = CrystalDataModule(str(path), target="y", cache_dir=tmp_path / "cache")
    module.prepare_data()
    module.setup("fit")
    used = np.concatenate([module.train_rows, module.val_rows, module.test_rows])
    assert sorted(used.tolist()) == [0, 1, 2, *range(4, 12), 15]
    assert module.report.counts() == {Reason.REPEATED: 11, Reason.MISSING: 1}

    new = CrystalDataModule(str(path), target="y", cache_dir=tmp_path / "cache")
    new.prepare_data()
    new.setup("predict")
    assert len(new.table) == 24
    assert not new.report.bad


def test_data_sets_by_name_are_used_as_published(tmp_path):
    assert not load("mp_poly_total").own
    path = write_csv(tmp_path / "t.csv", ["structure", "y"], [[cif(SKEWED), 1]])
    assert load(str(path)).own
