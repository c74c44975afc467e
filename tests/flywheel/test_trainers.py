import copy
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch_geometric.data import Batch

from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.flywheel.ledger import StageResult
from matwheel.flywheel.trainers import BEST, StageTrainers, seed_all
from matwheel.models.checkpoints import load_weights
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from tests.small_data import write_small_table
from tests.wandb_files import read_runs


class PowerCut(Callback):
    """Stops a training in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


class Order(Callback):
    """Notes the crystals of each epoch in the order in which they are trained on."""

    rows: ClassVar[dict[int, list[int]]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, _: int) -> None:
        self.rows.setdefault(trainer.current_epoch, []).extend(batch.row.tolist())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CrystalDataModule:
    folder = tmp_path_factory.mktemp("data")
    table = write_small_table(folder / "small.xyz", count=24)
    module = CrystalDataModule(
        str(table), "poly_total", split=RandomSplit(0.6, 0.2, 0.2), batch_size=4, cache_dir=folder / "cache"
    )
    module.prepare_data()
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def model() -> PropertyPredictor:
    torch.manual_seed(0)
    return PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8, dropout=0.2))


def _fit(
    model: L.LightningModule, data: CrystalDataModule, folder: Path, seed: int = 0, *callbacks: Callback
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    model = copy.deepcopy(model)
    metrics = StageTrainers().fit(
        model,
        data,
        folder,
        "predictor",
        seed,
        monitor="val/mae",
        callbacks=[EMAWeightAveraging(decay=0.5), *callbacks],
        max_epochs=4,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    return metrics, model.state_dict()


def test_a_resumed_training_equals_an_unbroken_one(
    model: PropertyPredictor, data: CrystalDataModule, tmp_path: Path
) -> None:
    metrics, weights = _fit(model, data, tmp_path / "unbroken")
    with pytest.raises(RuntimeError, match="power cut"):
        _fit(model, data, tmp_path / "resumed", 0, PowerCut(epoch=2))
    seed_all(99)
    resumed_metrics, resumed = _fit(model, data, tmp_path / "resumed")
    del metrics["fit_seconds"], resumed_metrics["fit_seconds"]
    assert resumed_metrics == metrics
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


def test_the_seed_decides(model: PropertyPredictor, data: CrystalDataModule, tmp_path: Path) -> None:
    one, other, third = (_fit(model, data, tmp_path / name, seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one["val/mae"] == other["val/mae"]
    assert one["val/mae"] != third["val/mae"]


def test_the_order_of_crystals_depends_on_seed_and_epoch_alone(
    model: PropertyPredictor, data: CrystalDataModule, tmp_path: Path
) -> None:
    def order(folder: str, seed: int, num_workers: int, *callbacks: Callback) -> dict[int, list[int]]:
        loaded = copy.copy(data)
        loaded.num_workers = num_workers
        Order.rows.clear()
        _fit(model, loaded, tmp_path / folder, seed, Order(), *callbacks)
        return dict(Order.rows)

    expected = order("none", 0, 0)
    assert len({tuple(rows) for rows in expected.values()}) == 4
    assert order("two", 0, 2) == expected
    assert all(rows != expected[epoch] for epoch, rows in order("other seed", 1, 2).items())
    for num_workers in (0, 2):
        with pytest.raises(RuntimeError, match="power cut"):
            order(f"resumed with {num_workers}", 0, num_workers, PowerCut(epoch=2))
        assert order(f"resumed with {num_workers}", 0, num_workers) == {epoch: expected[epoch] for epoch in (2, 3)}


def test_networks_compute_where_the_outer_trainer_trains() -> None:
    outer = L.Trainer(accelerator="cpu", strategy=SingleDeviceStrategy(torch.device("cpu", 1)), logger=False)
    assert StageTrainers(outer).device == torch.device("cpu", 1)
    assert StageTrainers().device == torch.device("cpu")


def test_the_best_checkpoint_has_the_best_metric(
    model: PropertyPredictor, data: CrystalDataModule, tmp_path: Path
) -> None:
    metrics, _ = _fit(model, data, tmp_path)
    best = copy.deepcopy(model)
    load_weights(best, tmp_path / BEST)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    assert trainer.validate(best, data, verbose=False)[0]["val/mae"] == pytest.approx(metrics["best"], abs=1e-6)


def test_stages_are_tracked_beside_the_outer_run(
    model: PropertyPredictor, data: CrystalDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, offline=True, group="wheel")
    outer = L.Trainer(accelerator="cpu", logger=logger, enable_progress_bar=False)
    run = logger.experiment  # Lightning starts it before the callbacks of the outer trainer are set up
    trainers = StageTrainers(outer)

    def fit(stage: str) -> dict[str, float]:
        return trainers.fit(copy.deepcopy(model), data, tmp_path / stage, stage, 0, "val/mae", max_epochs=1)

    for stage in ("one", "other"):
        with trainers.tracker.stage(stage, {"weight": float("nan")}, {"data": "0123"}, seed=0) as track:
            track(StageResult(stage, tmp_path / stage, {**fit(stage), "nothing": float("nan")}, 1.0, skipped=False))
    with pytest.raises(RuntimeError, match="power cut"), trainers.tracker.stage("broken", {}, {}, seed=0):
        raise RuntimeError("power cut")
    fit("alone")
    run.log({"still": "open"})
    assert logger.experiment is run
    run.finish()
    runs = {run.name: run for run in read_runs(tmp_path / "wandb")}
    assert {name: run.exit_code for name, run in runs.items() if run.exit_code} == {"broken": 1}
    assert all("val/mae" in runs[stage].keys for stage in ("one", "other"))
    assert list(runs["one"].made) == ["one"]
    assert list(runs["other"].used) == ["real-0123"]
    assert {run.group for run in runs.values()} == {"wheel"}
    (outside,) = set(runs) - {"one", "other", "broken"}
    assert {"still"} <= runs[outside].keys
    assert "val/mae" not in runs[outside].keys
