"""A tiny but real turn of the wheel: trained networks, sampled crystals, all arms."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

import matwheel.flywheel.turn
from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.filters import BasicFilter, NoCrystalLeftError
from matwheel.flywheel.labels import PredictorLabels
from matwheel.flywheel.pretraining import Pretraining
from matwheel.flywheel.results import COLUMNS, read_results
from matwheel.flywheel.sources import StrainJitter
from matwheel.flywheel.stages import FitSettings
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from tests.e2e.toy_wheel import attempts, changed, generator, ledger, spin
from tests.small_data import write_small_table

STAGES = {
    "baseline-dummy",
    "baseline-trees",
    "generator",
    "prior",
    "conditions",
    "samples",
    "crystals",
    "labels",
    "statistics",
    "statistics-real",
    "predictor-F",
    "predictor-F_x_k",
    "predictor-G_F",
    "predictor-F+G_F",
}


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    spin(folder, table)
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
        (24 + n_synthetic, 0, 1),
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


def test_the_trainer_ends_with_the_last_arm(finished: Path, table: Path, tmp_path: Path) -> None:
    trainer, flywheel = spin(finished, table)
    stored = torch.load(finished / "stages" / "predictor-F+G_F" / "best.ckpt", weights_only=True)["state_dict"]
    trainer.save_checkpoint(tmp_path / "last.ckpt")  # despite the average of the weights that were never trained
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, stored[name]), name
        assert torch.equal(value, saved[name]), name
    data = trainer.datamodule  # type: ignore[attr-defined]
    (validated,) = trainer.validate(trainer.lightning_module, datamodule=data, verbose=False)
    assert validated["val/mae"] == pytest.approx(flywheel.results[-1].val_mae, rel=1e-5)
    assert len(data.train_rows) == 24 + flywheel.results[-1].n_synthetic
    assert trainer.max_epochs == 2


def test_arms_follow_the_recipe_of_the_trainer(finished: Path) -> None:
    checkpoint = torch.load(finished / "stages" / "predictor-F" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 1
    assert any(name.startswith("WeightAverage") for name in checkpoint["callbacks"])


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


def test_what_was_trained_on_can_be_opened(finished: Path) -> None:
    frames = ase.io.read(finished / "synthetic.extxyz", ":")
    crystals = CrystalTable.load(finished / "stages" / "crystals" / "crystals.npz")
    assert [frame.info["id"] for frame in frames] == crystals.ids.tolist()
    labels = pd.read_parquet(finished / "stages" / "labels" / "labels.parquet")["label"]
    np.testing.assert_allclose([frame.info["poly_total"] for frame in frames], labels, rtol=1e-6)


def test_a_rerun_skips_everything(finished: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, results = attempts(finished), (finished / "results.csv").read_text()
    trainer, _ = spin(finished, table)
    assert trainer.global_step == 0
    assert attempts(finished) == before
    assert set(before) == STAGES
    assert (finished / "results.csv").read_text() == results
    assert "F+G_F" in capsys.readouterr().out


def test_a_change_redoes_what_depends_on_it(finished: Path, table: Path) -> None:
    before = attempts(finished)
    spin(finished, table, sampler_steps=4)
    after = attempts(finished)
    redone = {"samples", "crystals", "labels", "statistics", "predictor-G_F", "predictor-F+G_F"}
    assert redone <= changed(before, after) <= redone | {"predictor-F_x_k"}
    spin(finished, table, sampler_steps=4, epochs=1)
    assert changed(after, attempts(finished)) == {name for name in STAGES if name.startswith("predictor-")}


PREDICTORS = {name for name in STAGES if name.startswith("predictor-")}
SYNTHETIC = {"crystals", "labels", "statistics", "predictor-G_F", "predictor-F+G_F"}


@pytest.mark.parametrize(
    ("option", "redone"),
    [
        ({"synthetic_ratio": 2.0}, {"conditions", "samples", *SYNTHETIC}),
        ({"filter": BasicFilter(composition=False, min_distance=0.6)}, SYNTHETIC),
        ({"generator_fit": FitSettings(max_epochs=2, batch_size=8)}, {"generator", "prior", "samples", *SYNTHETIC}),
        ({"learning_rate": 1e-3}, PREDICTORS),
        ({"synthetic_weight": 0.5}, {"predictor-G_F", "predictor-F+G_F"}),
        ({"chunk_size": 4}, set()),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_an_option_redoes_what_depends_on_it(
    option: dict[str, Any], redone: set[str], finished: Path, table: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    spin(run, table)
    before = attempts(run)
    spin(run, table, **option)
    # Real crystals are repeated to the number of real and synthetic ones, which may have changed.
    of_size = {"predictor-F_x_k"} if "crystals" in redone else set()
    assert redone <= changed(before, attempts(run)) <= redone | of_size


def test_two_runs_give_the_same_numbers(table: Path, tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        spin(folder, table, epochs=1, sampler_steps=4)
    columns = ["arm", "test_mae", "val_mae", "n_synthetic"]
    one, other = (pd.read_csv(folder / "results.csv")[columns] for folder in folders)
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
        spin(tmp_path, table, arms=("G_F",), baselines=())
    assert made == list(range(8))
    stages = json.loads((tmp_path / "ledger.json").read_text())["stages"]
    assert stages["samples"]["status"] == "failed"
    made.clear()
    spin(tmp_path, table, arms=("G_F",), baselines=())
    assert made == list(range(8, 24))
    attempts(tmp_path)


def test_pretraining_on_synthetic_crystals(
    finished: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_from: dict[str, dict[str, Any]] = {}
    original = matwheel.flywheel.turn.train_predictor

    def spy(model: L.LightningModule, *args: Any) -> dict[str, float]:
        folder = next(arg for arg in args if isinstance(arg, Path))
        started_from[folder.name.partition(".")[0]] = copy.deepcopy(model.state_dict())
        return original(model, *args)

    monkeypatch.setattr(matwheel.flywheel.turn, "train_predictor", spy)
    spin(tmp_path, table, arms=("G_F", "G_F then F"), baselines=())
    synthetic, both = read_results(tmp_path / "results.csv")
    assert (both.n_real, both.n_synthetic, both.round) == (24, synthetic.n_synthetic, 1)
    weights = torch.load(tmp_path / "stages" / "predictor-G_F" / "best.ckpt", weights_only=True)["state_dict"]
    assert set(started_from) == {"predictor-G_F", "predictor-G_F_then_F"}
    for name, value in started_from["predictor-G_F_then_F"].items():
        assert torch.equal(value, weights[name]), name
    checkpoint = tmp_path / "stages" / "predictor-G_F_then_F" / "best.ckpt"
    fitted = torch.load(checkpoint, weights_only=True)["state_dict"]["transform.mean"]
    real = torch.load(finished / "stages" / "predictor-F" / "best.ckpt", weights_only=True)["state_dict"]
    assert fitted == real["transform.mean"] != weights["transform.mean"]  # trained on the real crystals


def test_other_labels_need_no_target_among_the_conditions(table: Path, tmp_path: Path) -> None:
    data = {"arms": ("G_F",), "baselines": (), "labeller": PredictorLabels()}
    spin(tmp_path, table, conditions_of_data=["band_gap"], **data)
    stages = ledger(tmp_path)
    assert stages["labels"]["inputs"]["teacher 1"] == stages["predictor-F"]["key"]
    kept = CrystalTable.load(tmp_path / "stages" / "crystals" / "crystals.npz")
    labels = pd.read_parquet(tmp_path / "stages" / "labels" / "labels.parquet")
    assert "poly_total" not in kept.properties
    assert labels["id"].tolist() == kept.ids.tolist()
    assert labels["label"].between(2, 300).all()


def test_a_useless_generator_is_named_and_the_rest_reported(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoCrystalLeftError, match=r"no generated crystal passed the filter \(cell \d+/24, structure 0/"):
        spin(tmp_path, table, filter=BasicFilter(min_volume=1e9))
    assert [row.arm for row in read_results(tmp_path / "results.csv")] == ["dummy", "trees", "F"]
    assert "dummy" in capsys.readouterr().out


def test_the_target_must_be_a_condition(table: Path, tmp_path: Path) -> None:
    data = CrystalDataModule(str(table), "poly_total", ["band_gap"], cache_dir=table.parent / "cache")
    wheel = Flywheel(generator(), folder=tmp_path)
    trainer = L.Trainer(accelerator="cpu", callbacks=[wheel], logger=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="add the target 'poly_total' to the conditions"):
        trainer.fit(PropertyPredictor(CGCNN(hidden_dim=8)), datamodule=data)


def test_crystals_too_large_for_the_generator_are_refused_before_anything_is_trained(
    table: Path, tmp_path: Path
) -> None:
    small = generator()
    small.max_atoms = 1
    with pytest.raises(ValueError, match=r"the model makes at most 1: set the model's max_atoms to \d"):
        spin(tmp_path / "all", table, generator=small)
    assert not (tmp_path / "all" / "stages").exists()
    spin(tmp_path / "real", table, generator=small, arms=["F"], baselines=[])  # needs no generator


def test_pretraining_is_shared_by_splits_and_generators(table: Path, tmp_path: Path) -> None:
    other = write_small_table(tmp_path / "other.xyz", count=60)
    model = generator(dropout=0.1)
    pretraining = Pretraining([str(other), str(table)], FitSettings(max_epochs=2, batch_size=8))
    options = {"generator": model, "pretraining": pretraining, "arms": ["G_F"], "baselines": []}
    spin(tmp_path / "run", table, **options)
    record = ledger(tmp_path / "run")["pretraining"]
    metrics = record["metrics"]
    assert metrics["used"] > 5
    assert metrics["formula_test"] >= 8  # the table's own crystals
    parts = ("formula_train", "formula_val", "formula_test", "repeated", "used")
    assert sum(metrics[part] for part in parts) == metrics["read"] == 100
    assert metrics["train/property"] == 0
    assert ledger(tmp_path / "run")["generator"]["inputs"]["start"] == record["key"]
    before = attempts(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run holds results with split 'RandomSplit-0', this run has 'RandomSplit-1'"):
        spin(tmp_path / "run", table, split_seed=1, **options)
    assert attempts(tmp_path / "run") == before
    (tmp_path / "run" / "results.csv").unlink()  # as studies do
    spin(tmp_path / "run", table, split_seed=1, **options)
    again = changed(before, attempts(tmp_path / "run"))
    assert {"generator", "prior", "predictor-G_F"} <= again
    assert "pretraining" not in again
    with pytest.raises(ValueError, match="give the generator's condition_embedding a dropout"):
        Flywheel(generator(), pretraining=pretraining)


def test_what_a_generator_learnt_serves_predictors(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    spin(run, table)
    before = attempts(run)
    _, wheel = spin(run, table, reuse=("latents", "encoder"), arms=("F",))
    assert changed(before, attempts(run)) == {"reuse-latents", "reuse-encoder"}
    rows = {row.predictor: row for row in wheel.results if row.arm == "F"}
    assert list(rows) == ["trees + latents", "encoder", "CGCNN"]
    trees = next(row for row in wheel.results if row.arm == "trees")
    assert rows["trees + latents"].test_mae != trees.test_mae
    assert all(row.n_real == 24 and row.n_synthetic == 0 for row in rows.values())
    for kind, predictor in (("latents", "trees + latents"), ("encoder", "encoder")):
        predictions = pd.read_csv(run / "stages" / f"reuse-{kind}" / "predictions.csv")
        error = (predictions["prediction"] - predictions["target"]).abs().mean()
        assert error == pytest.approx(rows[predictor].test_mae, rel=1e-5)
    own, tuned = (
        torch.load(run / "stages" / stage / "best.ckpt", weights_only=True)["state_dict"]
        for stage in ("generator", "reuse-encoder")
    )
    name = next(name for name in own if name.startswith("encoder.") and name.endswith("weight"))
    change = (tuned[f"network.{name}"] - own[name]).abs().mean()
    assert 0 < change < 0.1 * own[name].abs().mean()  # two epochs away from the generator's, not anew


def test_without_a_generator_nothing_can_be_reused() -> None:
    with pytest.raises(ValueError, match="there is no generator to reuse"):
        Flywheel(source=StrainJitter(), reuse=("latents",))
