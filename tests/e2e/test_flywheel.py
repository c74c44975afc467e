"""A tiny but real turn of the wheel: trained networks, sampled crystals, all arms."""

import copy
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.filters import BasicFilter, NoCrystalLeftError
from matwheel.flywheel.ledger import derive_seed
from matwheel.flywheel.results import COLUMNS, read_results
from matwheel.flywheel.stages import FitSettings, train_predictor
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from matwheel.nn.condition import ConditionEmbedding
from tests.models.toys import ToyDecoder, ToyEncoder
from tests.small_data import write_small_table

FILTER = BasicFilter(composition=False)
STAGES = {
    "baseline-dummy",
    "baseline-trees",
    "generator",
    "prior",
    "conditions",
    "samples",
    "crystals",
    "predictor-F",
    "predictor-F_x_k",
    "predictor-G_F",
    "predictor-F+G_F",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("data") / "small.xyz")


def _generator() -> ConCDVAE:
    torch.manual_seed(0)
    embedding = ConditionEmbedding(num_points=8, feature_dim=8, out_dim=8)
    return ConCDVAE(ToyEncoder(), ToyDecoder(16 + 8), embedding, latent_dim=16, time_dim=8, hidden_dim=32, max_atoms=6)


def _turn(
    folder: Path, table: Path, epochs: int = 2, seed: int = 0, sampler_steps: int = 5, **options: Any
) -> tuple[L.Trainer, Flywheel]:
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    data = CrystalDataModule(
        str(table), "poly_total", split=RandomSplit(0.6, 0.2, 0.2), batch_size=16, cache_dir=table.parent / "cache"
    )
    settings = {
        "generator": _generator(),
        "prior": partial(LatentPrior, sampler=DenoisingSampler(sampler_steps)),
        "generator_fit": FitSettings(max_epochs=3, batch_size=8),
        "prior_fit": FitSettings(max_epochs=2, batch_size=8),
        "filter": FILTER,
        "chunk_size": 8,
        "folder": folder,
        **options,
    }
    wheel = Flywheel(**settings)
    torch.manual_seed(1)
    model = PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[ModelCheckpoint(folder / "final", monitor="val/mae"), EMAWeightAveraging(decay=0.5), wheel],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    return trainer, wheel


def _attempts(folder: Path) -> dict[str, str]:
    stages = json.loads((folder / "ledger.json").read_text())["stages"]
    assert {record["status"] for record in stages.values()} == {"finished"}
    return {name: record["key"] + record["started"] + str(record["seconds"]) for name, record in stages.items()}


def _changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in after if after[name] != before.get(name)}


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    _turn(folder, table)
    return folder


def test_results(finished: Path) -> None:
    assert list(pd.read_csv(finished / "results.csv").columns) == list(COLUMNS)
    rows = {row.arm: row for row in read_results(finished / "results.csv")}
    assert list(rows) == ["dummy", "trees", "F", "F x k", "G_F", "F+G_F"]
    n_synthetic = len(CrystalTable.load(finished / "stages" / "crystals" / "crystals.npz"))
    assert 0 < n_synthetic <= 24
    assert [(row.n_real, row.n_synthetic, row.round) for row in rows.values()] == [
        (24, 0, 0),
        (24, 0, 0),
        (24, 0, 0),
        (24 + n_synthetic, 0, 0),
        (0, n_synthetic, 1),
        (24, n_synthetic, 1),
    ]
    for row in rows.values():
        assert row.test_rmse >= row.test_mae > 0
        assert row.val_mae > 0
        assert (row.target, row.scenario, row.split, row.seed) == ("poly_total", "full", "RandomSplit-0", 0)
    assert rows["F"].predictor == "CGCNN"


def test_predictions_agree_with_the_errors(finished: Path) -> None:
    for row in read_results(finished / "results.csv"):
        stage = f"baseline-{row.arm}" if row.arm == row.predictor else f"predictor-{row.arm.replace(' ', '_')}"
        table = pd.read_csv(finished / "stages" / stage / "predictions.csv")
        assert len(table) == 8
        assert (table["prediction"] - table["target"]).abs().mean() == pytest.approx(row.test_mae, rel=1e-5)


def test_all_arms_follow_the_recipe_of_the_outer_trainer(finished: Path, table: Path, tmp_path: Path) -> None:
    _, flywheel = _turn(finished, table)
    wheel = flywheel._wheel
    assert wheel is not None
    data, _, _ = wheel.mixture("F+G_F")
    seed = derive_seed(0, "predictor")
    nested = train_predictor(copy.deepcopy(wheel.model), data, wheel.recipe, seed, tmp_path, wheel.trainers)
    outer = next(row for row in flywheel.results if row.arm == "F+G_F")
    assert (nested["test_mae"], nested["val_mae"]) == (outer.test_mae, outer.val_mae)


def test_samples_can_be_opened_and_traced(finished: Path) -> None:
    folder = finished / "stages" / "samples"
    samples = pd.read_parquet(folder / "samples.parquet")
    assert len(samples) == 24
    assert len(list((folder / "cif").glob("*.cif"))) == 24
    assert (folder / "samples.extxyz").stat().st_size > 0
    assert samples["index"].tolist() == list(range(24))
    assert samples["seed"].nunique() == 24
    assert samples["condition_poly_total"].between(2, 300).all()
    kept = CrystalTable.load(finished / "stages" / "crystals" / "crystals.npz")
    asked = samples.set_index("id")["condition_poly_total"]
    for crystal in kept:
        assert crystal.properties["poly_total"] == asked[crystal.id]
        assert json.loads(crystal.origin)["round"] == 1


def test_a_rerun_skips_everything(finished: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, results = _attempts(finished), (finished / "results.csv").read_text()
    trainer, _ = _turn(finished, table)
    assert trainer.global_step == 0
    assert _attempts(finished) == before
    assert set(before) == STAGES
    assert (finished / "results.csv").read_text() == results
    assert "F+G_F" in capsys.readouterr().out


def test_a_change_redoes_what_depends_on_it(finished: Path, table: Path) -> None:
    before = _attempts(finished)
    _turn(finished, table, sampler_steps=4)
    after = _attempts(finished)
    assert {"samples", "crystals", "predictor-G_F", "predictor-F+G_F"} <= _changed(before, after)
    assert _changed(before, after) <= {"samples", "crystals", "predictor-G_F", "predictor-F+G_F", "predictor-F_x_k"}
    _turn(finished, table, sampler_steps=4, epochs=1)
    assert _changed(after, _attempts(finished)) == {name for name in STAGES if name.startswith("predictor-")}


def test_two_runs_give_the_same_numbers(finished: Path, table: Path, tmp_path: Path) -> None:
    _turn(tmp_path / "a", table, epochs=1, sampler_steps=4)
    columns = ["arm", "test_mae", "val_mae", "n_synthetic"]
    one, other = (pd.read_csv(folder / "results.csv")[columns] for folder in (finished, tmp_path / "a"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_an_interrupted_run_continues(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matwheel.models.latent_prior as module

    made: list[int] = []
    original: Callable[..., CrystalTable] = module.LatentPrior.predict_step

    def interrupted(self: LatentPrior, batch: Any, batch_idx: int) -> CrystalTable:
        if made and batch.index[0] == 8:
            raise RuntimeError("power cut")
        made.extend(batch.index.tolist())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LatentPrior, "predict_step", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        _turn(tmp_path, table, arms=(), baselines=())
    assert made == list(range(8))
    stages = json.loads((tmp_path / "ledger.json").read_text())["stages"]
    assert stages["samples"]["status"] == "failed"
    made.clear()
    _turn(tmp_path, table, arms=(), baselines=())
    assert made == list(range(8, 24))
    _attempts(tmp_path)


def test_a_useless_generator_is_named_and_the_rest_reported(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoCrystalLeftError, match=r"no generated crystal passed the filter \(cell \d+/24, structure 0/"):
        _turn(tmp_path, table, filter=BasicFilter(min_volume=1e9))
    assert [row.arm for row in read_results(tmp_path / "results.csv")] == ["dummy", "trees", "F"]
    assert "dummy" in capsys.readouterr().out


def test_the_target_must_be_a_condition(table: Path, tmp_path: Path) -> None:
    data = CrystalDataModule(str(table), "poly_total", ["band_gap"], cache_dir=table.parent / "cache")
    wheel = Flywheel(_generator(), folder=tmp_path)
    trainer = L.Trainer(accelerator="cpu", callbacks=[wheel], logger=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="add the target 'poly_total' to the conditions"):
        trainer.fit(PropertyPredictor(CGCNN(hidden_dim=8)), datamodule=data)
