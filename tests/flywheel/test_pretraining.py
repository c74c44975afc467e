"""Crystals for pre-training: each once, none of a formula that is held out, no label."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from matwheel.data.catalogue import load
from matwheel.data.compositions import reduced_composition
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import Reason
from matwheel.data.splits import RandomSplit
from matwheel.flywheel.fingerprint import data_fingerprint
from matwheel.flywheel.pretraining import Pretraining, UnlabelledDataModule
from tests.small_data import write_small_table


def salt(symbols: str, a: float, energy: float = 1.0, repeat: int = 1) -> Atoms:
    cell = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    atoms = Atoms(symbols, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, pbc=True).repeat((repeat, 1, 1))
    atoms.info["energy"] = energy
    return atoms


def write_table(path: Path, *crystals: Atoms) -> str:
    write(path, crystals, format="extxyz")
    return str(path)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[list[str], str]:
    one = write_table(tmp_path / "one.xyz", salt("NaCl", 5.6), salt("NaCl", 6.6), salt("KBr", 6.6), salt("MgO", 4.2))
    two = write_table(tmp_path / "two.xyz", salt("NaCl", 5.63), salt("LiF", 4.0), salt("MgO", 4.9, repeat=2))
    known = write_table(tmp_path / "known.xyz", salt("MgO", 4.2), salt("CaO", 4.8))
    return [one, two], known


def test_copies_and_held_out_formulas_are_left_out_and_counted(tables: tuple[list[str], str], tmp_path: Path) -> None:
    names, known = tables
    data = UnlabelledDataModule(names, known, validation=0.25, batch_size=4, cache_dir=tmp_path)
    data.prepare_data()
    data.setup("fit")
    # A second volume of NaCl is another crystal; MgO goes in any structure and any cell.
    assert data.table.ids.tolist() == ["one.xyz:row-0", "one.xyz:row-1", "one.xyz:row-2", "two.xyz:row-1"]
    assert data.left_out() == {"read": 7, f"formula_{known}": 2, "repeated": 1, "used": 4}
    reasons = {bad.id: bad.reason for bad in data.report.bad}
    assert reasons == {
        "one.xyz:row-3": Reason.HELD_OUT,
        "two.xyz:row-0": Reason.REPEATED,
        "two.xyz:row-2": Reason.HELD_OUT,
    }
    assert len(data.val_rows) == 1
    assert len(data.train_rows) == 3
    batch = next(iter(data.train_dataloader()))
    assert batch.conditions.shape == (3, 1)
    assert batch.conditions.isnan().all()
    assert list(data.table.properties) == ["label"]


def test_every_split_of_the_small_set_shares_the_pretraining(tables: tuple[list[str], str], tmp_path: Path) -> None:
    path = write_small_table(tmp_path / "small.xyz", count=20)
    keys, counts = set(), []
    for seed in (0, 1):
        known = CrystalDataModule(str(path), "poly_total", split=RandomSplit(seed=seed), cache_dir=tmp_path)
        known.prepare_data()
        known.setup("fit")
        data = Pretraining([*tables[0], str(path)]).data(known)
        keys.add(data_fingerprint(data))
        counts.append(data.left_out())
        assert data.conditions == known.conditions
    assert len(keys) == 1
    held_out = [sum(count[f"formula_{part}"] for part in ("train", "val", "test")) for count in counts]
    assert held_out[0] == held_out[1] >= 20
    assert counts[0]["formula_test"] >= 3  # its own copies


def test_the_embedded_data_sets_do_not_overlap_with_poly_total(tmp_path: Path) -> None:
    known = load("mp_poly_total").table
    data = UnlabelledDataModule(held_out="mp_poly_total", reduce_cells=False, cache_dir=tmp_path)
    table = data._load().table
    assert len(table) == 4843
    formulas = {reduced_composition(crystal.atomic_numbers) for crystal in known}
    assert not formulas & {reduced_composition(crystal.atomic_numbers) for crystal in table}
