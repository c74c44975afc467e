"""Labels of other data sets: which crystals and properties the predictor may learn from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.flywheel.fingerprint import data_fingerprint
from matwheel.flywheel.other_crystals import _formulas
from matwheel.flywheel.predictor_pretraining import LABELS, LabelledDataModule, PredictorPretraining
from tests.small_data import write_small_table

COUNT = 58
"""With so many crystals a small table holds those of one with 20: every third."""


def make_known(path: Path, seed: int = 0, labelled_fraction: float = 1.0) -> CrystalDataModule:
    known = CrystalDataModule(
        str(path),
        "poly_total",
        split=RandomSplit(0.6, 0.2, 0.2, seed),
        labelled_fraction=labelled_fraction,
        cache_dir=path.parent,
    )
    known.prepare_data()
    known.setup("fit")
    return known


def make_data(known: CrystalDataModule, other: Path, own: tuple[str, ...] = ()) -> LabelledDataModule:
    data = LabelledDataModule({str(other): ["band_gap"], known.dataset: ["band_gap"]}, own, known, batch_size=8)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A set, and one that has all its crystals and others as well."""
    folder = tmp_path_factory.mktemp("tables")
    return write_small_table(folder / "known.xyz", count=20), write_small_table(folder / "other.xyz", count=COUNT)


def test_no_crystal_of_a_known_formula_is_learned_from(tables: tuple[Path, Path]) -> None:
    keys = set()
    for seed in (0, 1):
        known = make_known(tables[0], seed)
        data = make_data(known, tables[1])
        assert data.conditions == ["other.xyz:band_gap"]  # the table itself is passed over
        assert not set(_formulas(data.table)) & set(_formulas(known.table))
        counts = data.left_out()
        assert counts["read"] == COUNT
        assert counts["formula_test"] >= 4
        assert sum(counts[f"formula_{part}"] for part in ("test", "val", "train")) == COUNT - counts["used"]
        assert set(data.table.properties) == set(data.conditions)
        keys.add(data_fingerprint(data))
    assert len(keys) == 1  # the same for all splits
    batch = next(iter(data.train_dataloader()))
    assert batch.conditions.shape == (8, 1)
    assert batch.conditions.isfinite().all()


@pytest.mark.parametrize("labelled_fraction", [1.0, 0.5])
def test_further_properties_are_those_of_labelled_training_crystals(
    labelled_fraction: float, tables: tuple[Path, Path]
) -> None:
    known = make_known(tables[0], labelled_fraction=labelled_fraction)
    data = make_data(known, tables[1], own=("band_gap",))
    assert data.conditions[-1] == "band_gap"
    own = np.isfinite(data.table.properties["band_gap"])
    assert sorted(data.table.ids[own]) == sorted(known.table.ids[known.split_rows.labelled])
    assert np.isnan(data.table.properties["other.xyz:band_gap"][own]).all()
    assert "poly_total" not in data.table.properties
    assert own.sum() == round(12 * labelled_fraction)


def test_what_cannot_be_learned_is_named(tables: tuple[Path, Path], tmp_path: Path) -> None:
    known = make_known(tables[0])
    for name in ("poly_total", "density"):
        with pytest.raises(ValueError, match=rf"no further property '{name}' to learn from: choose from band_gap"):
            LabelledDataModule({str(tables[1]): ["band_gap"]}, [name], known, 8)
    with pytest.raises(
        ValueError, match=r"no data set to learn from first, other than .*known.xyz: name one in labels"
    ):
        LabelledDataModule({known.dataset: ["band_gap"]}, (), known, 8)
    data = LabelledDataModule({str(tables[1]): ["density"]}, (), known, 8)
    with pytest.raises(ValueError, match=r"other.xyz has no property 'density': choose from poly_total, band_gap"):
        data.prepare_data()
    copied = Path(shutil.copy(tables[0], tmp_path / "copy.xyz"))
    with pytest.raises(ValueError, match=r"no crystal with copy.xyz:band_gap is left .* take it out of the labels"):
        LabelledDataModule({str(copied): ["band_gap"], str(tables[1]): ["band_gap"]}, (), known, 8).prepare_data()
    with pytest.raises(ValueError, match="predictor_pretraining needs a PropertyPredictor, not"):
        PredictorPretraining().pretrained(None, known, nn.Linear(1, 1))  # type: ignore[arg-type]


def test_the_default_labels_exist_and_leave_nothing_of_poly_total(tmp_path: Path) -> None:
    known = CrystalDataModule("mp_poly_total", reduce_cells=False, cache_dir=tmp_path)
    known.setup("fit")
    data = LabelledDataModule(LABELS, ("n", "band_gap"), known, 64)
    loaded = data._load()
    assert len(loaded.table) == 5334 + len(known.train_rows)
    assert data.conditions_option[:2] == ["flla_2015:formation_energy_per_atom", "flla_2015:e_above_hull"]
    values = np.stack([loaded.table.properties[name] for name in data.conditions_option], 1)
    assert np.isfinite(values).any(1).all()  # no crystal without a label
    assert np.isfinite(values).sum(0).min() > 600
    others = loaded.table.take(np.arange(5334))
    assert not set(_formulas(others)) & set(_formulas(known.table))
    assert torch.tensor(values).isfinite().sum() > 10_000
