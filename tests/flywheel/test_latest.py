"""A training that is killed at any of its checkpoints and started again equals an unbroken one."""

import logging
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.flywheel.latest import LAST
from matwheel.flywheel.trainers import BEST, StageTrainers, seed_all
from matwheel.models.averaging import WeightAverage
from matwheel.models.checkpoints import WholeCheckpoints
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from tests.small_data import write_small_table

MAX_EPOCHS = 9


class Kill(BaseException):
    pass


class Epochs(Callback):
    """Notes every epoch that is trained to its end."""

    trained: list[int]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        type(self).trained.append(trainer.current_epoch)


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


def _fit(
    data: CrystalDataModule, folder: Path, monitor: str | None = "val/mae", **options: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    torch.manual_seed(0)
    model = PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8, dropout=0.2), learning_rate=0.05)
    seed_all(99)
    metrics = StageTrainers().fit(
        model,
        data,
        folder,
        "predictor",
        0,
        monitor,
        callbacks=[WeightAverage(0.5), EarlyStopping("val/mae", patience=2), Epochs()],
        max_epochs=MAX_EPOCHS,
        accelerator="cpu",
        enable_progress_bar=False,
        **options,
    )
    del metrics["fit_seconds"]
    return metrics, torch.load(folder / BEST, weights_only=True)


def _killed_after(save: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Be killed just after the checkpoint of that number was written; the names of those written."""
    written: list[str] = []
    original = WholeCheckpoints.save_checkpoint

    def killing(self: WholeCheckpoints, checkpoint: dict[str, Any], path: str | Path, storage_options: Any) -> None:
        original(self, checkpoint, path, storage_options)
        written.append(Path(path).name)
        if len(written) == save:
            raise Kill

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", killing)
    return written


def test_killed_at_any_checkpoint(data: CrystalDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Epochs.trained = []
    with monkeypatch.context() as patch:
        saves = _killed_after(0, patch)
        metrics, best = _fit(data, tmp_path / "unbroken")
    epochs = len(Epochs.trained)
    assert metrics["epochs"] == epochs
    assert 3 <= epochs < MAX_EPOCHS  # stopped early
    assert saves.count(LAST) == epochs
    for save, name in enumerate(saves, 1):
        folder = tmp_path / str(save)
        Epochs.trained = []
        with monkeypatch.context() as patch:
            _killed_after(save, patch)
            with pytest.raises(Kill):
                _fit(data, folder)
        if name == LAST:  # a folder may be moved between two attempts
            folder = folder.rename(tmp_path / f"moved-{save}")
        resumed_metrics, resumed_best = _fit(data, folder)
        assert resumed_metrics == metrics
        assert resumed_best["epoch"] == best["epoch"]
        for weight, value in best["state_dict"].items():
            assert torch.equal(resumed_best["state_dict"][weight], value), (save, weight)
        last = saves[:save].count(LAST)
        assert Epochs.trained == list(range(epochs)) if name == LAST else [*range(last + 1), *range(last, epochs)]


def test_a_damaged_state_is_reported_and_costs_time_only(
    data: CrystalDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Epochs.trained = []
    metrics, best = _fit(data, tmp_path / "unbroken")
    epochs = len(Epochs.trained)
    with monkeypatch.context() as patch:
        _killed_after(3, patch)
        with pytest.raises(Kill):
            _fit(data, tmp_path / "damaged")
    last = tmp_path / "damaged" / LAST
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    Epochs.trained = []
    with caplog.at_level(logging.WARNING, "matwheel"):
        again_metrics, again = _fit(data, tmp_path / "damaged")
    assert f"{last} is damaged" in caplog.text
    assert "starts again from its first epoch" in caplog.text
    assert Epochs.trained == list(range(epochs))
    assert again_metrics == metrics
    assert all(torch.equal(again["state_dict"][name], value) for name, value in best["state_dict"].items())


def test_the_last_epoch_is_kept_where_none_is_best(data: CrystalDataModule, tmp_path: Path) -> None:
    Epochs.trained = []
    metrics, best = _fit(data, tmp_path, monitor=None, check_val_every_n_epoch=2)
    assert best["epoch"] == len(Epochs.trained) - 1 == metrics["epochs"] - 1
    assert math.isfinite(metrics["val/mae"])
    again, _ = _fit(data, tmp_path, monitor=None, check_val_every_n_epoch=2)
    assert again == metrics
