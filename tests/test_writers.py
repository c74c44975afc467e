import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from ase.io import read
from ase.io.extxyz import per_atom_properties, per_config_properties
from pymatgen.core import Structure

from matwheel.data.conditions import ConditionDataModule, SampleRequests
from matwheel.data.crystal import CrystalTable
from matwheel.data.extxyz import RESERVED
from matwheel.data.tables import read_table
from matwheel.diffusion.samplers import Atoms, Cells
from matwheel.models.unpack import Provenance, unpack_crystals
from matwheel.writers import SAMPLES, StructureWriter, describe_samples, write_extxyz, write_samples


class RockSalts(L.LightningModule):
    """Answers every request with a rock salt whose cell tells the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []
        self.generator = "abc"
        self.names = ["gap"]

    def predict_step(self, batch: SampleRequests, batch_idx: int) -> CrystalTable:
        self.made += batch.index.tolist()
        n = len(batch.index)
        lattice = (4 + batch.seed / 100)[:, None, None] * torch.eye(3)
        cells = Cells(lattice, torch.full((n,), 2), torch.zeros(n, 100), torch.ones(n, 3), batch.seed)
        atoms = Atoms(torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5]]).repeat(n, 1), torch.tensor([55, 17]).repeat(n))
        return unpack_crystals(atoms, cells, batch.index, self.names, batch.conditions, Provenance(self.generator, 1))


def _predict(
    folder: Path,
    num_samples: int = 7,
    seed: int = 3,
    values: Sequence[list[float]] = ([1.5], [2.5]),
    generator: str = "abc",
    names: Sequence[str] = ("gap",),
) -> list[int]:
    model = RockSalts()
    model.names = list(names)
    model.generator = generator
    requests = ConditionDataModule(list(values), num_samples, seed, chunk_size=3)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[StructureWriter(folder)])
    trainer.predict(model, datamodule=requests, return_predictions=False)
    return model.made


def test_formats_agree(tmp_path: Path) -> None:
    assert _predict(tmp_path) == list(range(7))
    table = pd.read_parquet(tmp_path / "samples.parquet")
    samples = CrystalTable.load(tmp_path / SAMPLES)
    frames = read(tmp_path / "samples.extxyz", index=":")
    assert table["id"].tolist() == samples.ids.tolist() == [frame.info["id"] for frame in frames]
    assert table["seed"].tolist() == list(range(3, 10))
    assert table["condition_gap"].tolist() == [1.5, 2.5, 1.5, 2.5, 1.5, 2.5, 1.5]
    assert table["formula"].unique().tolist() == ["CsCl"]
    assert table[["structure_valid", "composition_valid", "valid"]].all(axis=None)
    np.testing.assert_allclose(table["volume"], [(4 + seed / 100) ** 3 for seed in range(3, 10)], rtol=1e-5)
    for crystal, frame in zip(samples, frames, strict=True):
        cif = Structure.from_file(tmp_path / "cif" / f"{crystal.id}.cif")
        assert cif.volume == pytest.approx(crystal.volume, rel=1e-5)
        assert frame.cell.volume == pytest.approx(crystal.volume, rel=1e-5)
        assert frame.info["seed"] == json.loads(crystal.origin)["seed"]


def test_only_missing_samples_are_made(tmp_path: Path) -> None:
    _predict(tmp_path)
    complete = (tmp_path / "samples.parquet").read_bytes()
    assert _predict(tmp_path) == []
    (tmp_path / "parts" / "0000003-0000005.npz").unlink()
    assert _predict(tmp_path) == [3, 4, 5]
    assert (tmp_path / "samples.parquet").read_bytes() == complete


def test_samples_of_other_requests_are_not_mixed_in(tmp_path: Path) -> None:
    _predict(tmp_path)
    with pytest.raises(ValueError, match="holds other samples"):
        _predict(tmp_path, seed=4)
    with pytest.raises(ValueError, match="more of these samples than the 6 asked for: ask for at least 7, or"):
        _predict(tmp_path, num_samples=6)
    with pytest.raises(ValueError, match=r"number 1 with the seed 4 and \{'gap': 2.5\}"):
        _predict(tmp_path, values=[[1.5], [2.75]])
    (tmp_path / "parts" / "0000003-0000005.npz").unlink()
    with pytest.raises(ValueError, match="of another generator"):
        _predict(tmp_path, generator="def")
    assert _predict(tmp_path) == [3, 4, 5]


def test_each_sample_may_leave_other_conditions_open(tmp_path: Path) -> None:
    _predict(tmp_path, 3, values=[[math.nan], [2.5], [math.nan]])
    assert _predict(tmp_path, 3, values=[[math.nan], [2.5], [math.nan]]) == []
    table = pd.read_parquet(tmp_path / "samples.parquet")
    assert table["condition_gap"].isna().tolist() == [True, False, True]


def test_the_same_value_of_another_condition_is_another_request(tmp_path: Path) -> None:
    names = ("gap", "volume")
    assert _predict(tmp_path, 2, values=[[1.5, math.nan]], names=names) == [0, 1]
    assert _predict(tmp_path, 2, values=[[1.5, math.nan]], names=names) == []
    for values in ([math.nan, 1.5], [1.5, 1.5], [math.nan, math.nan]):
        with pytest.raises(ValueError, match=r"number 0 with the seed 3 and \{'gap': 1.5\}"):
            _predict(tmp_path, 2, values=[values], names=names)


def test_a_sample_that_is_stored_twice_is_written_once(tmp_path: Path) -> None:
    _predict(tmp_path)
    complete = (tmp_path / "samples.parquet").read_bytes()
    parts = tmp_path / "parts"
    CrystalTable.load(parts / "0000003-0000005.npz").take([0, 1]).save(parts / "0000003-0000004.npz")
    assert _predict(tmp_path) == []
    assert (tmp_path / "samples.parquet").read_bytes() == complete


def test_a_damaged_chunk_is_made_again_where_it_is_deleted(tmp_path: Path) -> None:
    _predict(tmp_path)
    damaged = tmp_path / "parts" / "0000003-0000005.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{damaged} is damaged \(.*zip.*\): delete this file and run the same"):
        _predict(tmp_path)
    damaged.unlink()
    assert _predict(tmp_path) == [3, 4, 5]


def test_a_predictor_writes_no_structures(tmp_path: Path) -> None:
    class Predictor(RockSalts):
        def predict_step(self, batch: SampleRequests, batch_idx: int) -> torch.Tensor:
            return batch.conditions

    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[StructureWriter(tmp_path)]
    )
    with pytest.raises(ValueError, match="is this a generator"):
        trainer.predict(Predictor(), datamodule=ConditionDataModule([[1.0]], 1))


def test_a_label_has_its_value_whatever_its_name(tmp_path: Path) -> None:
    _predict(tmp_path)
    samples = CrystalTable.load(tmp_path / SAMPLES)
    described, values = describe_samples(samples), np.arange(len(samples)) + 0.5
    for name in ("volume", "formula", "seed", "gap"):
        write_extxyz(tmp_path / "labelled.extxyz", samples, described, {name: values})
        assert [atoms.info[name] for atoms in read(tmp_path / "labelled.extxyz", ":")] == values.tolist()
    for name in (*RESERVED, *per_config_properties, *per_atom_properties, "uid", "numbers", "band gap"):
        write_extxyz(tmp_path / "labelled.extxyz", samples, described, {name: values})
        assert len(read(tmp_path / "labelled.extxyz", ":")) == len(samples)
        labelled = read_table(tmp_path / "labelled.extxyz")
        assert labelled.table.properties[name].tolist() == values.tolist()


def test_crystals_with_noble_gases_are_written_in_silence(tmp_path: Path) -> None:
    _predict(tmp_path, 1)
    samples = CrystalTable.load(tmp_path / SAMPLES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_samples(tmp_path, replace(samples, atomic_numbers=np.array([10, 17])))
    assert "Ne" in next((tmp_path / "cif").iterdir()).read_text()
