import csv
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch_geometric.data import Batch

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.data.targets import TargetTransform
from matwheel.metrics.errors import prediction_errors
from matwheel.models.predictor import _R2, PropertyPredictor
from matwheel.nn.cgcnn import CGCNN


def make_table(n: int = 24) -> CrystalTable:
    """Crystals whose property is a smooth function of their elements."""
    rng = np.random.default_rng(0)
    numbers = [rng.integers(3, 60, 1 + row % 3) for row in range(n)]
    return CrystalTable.from_crystals(
        Crystal(
            f"c{row}", np.eye(3) * rng.uniform(3, 5), rng.random((len(z), 3)), z, {"y": float(np.exp(z.mean() / 30))}
        )
        for row, z in enumerate(numbers)
    )


@pytest.fixture(scope="session")
def table_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("predictor") / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "structure", "y"])
        writer.writerows([c.id, c.to_structure().to(fmt="cif"), c.properties["y"]] for c in make_table())
    return path


@pytest.fixture
def data(table_path) -> CrystalDataModule:
    return CrystalDataModule(
        str(table_path),
        target="y",
        split=RandomSplit(0.5, 0.25, 0.25),
        batch_size=4,
        cache_dir=table_path.parent / "cache",
    )


def make_predictor(**options) -> PropertyPredictor:
    torch.manual_seed(0)
    return PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8), **options)


def make_trainer(folder: Path, epochs: int = 4, callbacks=(), **options) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=CSVLogger(folder),
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **options,
    )


def test_a_fit_logs_errors_in_the_users_units(data, tmp_path):
    predictor, trainer = make_predictor(), make_trainer(tmp_path, enable_checkpointing=False)
    trainer.fit(predictor, data)
    logged = dict(trainer.callback_metrics)
    assert {"train/loss", "val/loss", "val/mae", "val/rmse", "val/r2"} <= set(logged)
    (tested,) = trainer.test(predictor, data, verbose=False)
    assert set(tested) == {"test/loss", "test/mae", "test/rmse", "test/r2"}
    predictions = trainer.predict(predictor, data)
    rows = torch.cat([p.row for p in predictions])
    assert rows.tolist() == list(range(24))
    value = torch.cat([p.value for p in predictions]).double().numpy()
    truth = data.table.properties["y"]
    for prefix, part, metrics in (("val/", data.val_rows, logged), ("test/", data.test_rows, tested)):
        error = value[part] - truth[part]
        assert float(metrics[prefix + "mae"]) == pytest.approx(np.abs(error).mean(), rel=1e-4)
        assert float(metrics[prefix + "rmse"]) == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
        r2 = 1 - (error**2).sum() / ((truth[part] - truth[part].mean()) ** 2).sum()
        assert float(metrics[prefix + "r2"]) == pytest.approx(r2, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("loss", ["l1", "huber", "mse"])
def test_learns(data, tmp_path, loss):
    predictor = make_predictor(loss=loss, learning_rate=1e-2)
    trainer = make_trainer(tmp_path, epochs=25, enable_checkpointing=False)
    trainer.fit(predictor, data)
    predictions = trainer.predict(predictor, data)
    value, truth = torch.cat([p.value for p in predictions]).numpy(), data.table.properties["y"]
    train = data.train_rows
    dummy = np.abs(np.median(truth[train]) - truth[train]).mean()
    assert np.abs(value[train] - truth[train]).mean() < 0.6 * dummy


def test_transform_is_fitted_on_the_training_rows_and_travels_in_the_checkpoint(data, tmp_path):
    predictor, trainer = make_predictor(), make_trainer(tmp_path, epochs=1)
    trainer.fit(predictor, data)
    expected = TargetTransform("log")
    expected.fit(torch.from_numpy(data.table.properties["y"][data.train_rows]))
    for mine, theirs in zip(predictor.transform.buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
    checkpoint = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert checkpoint["hyper_parameters"].keys() == {"loss", "learning_rate", "weight_decay", "schedule"}
    fresh = make_predictor()
    fresh.load_state_dict(checkpoint["state_dict"])
    torch.testing.assert_close(fresh.transform.mean, expected.mean)


@pytest.mark.parametrize("average", [False, True])
def test_best_checkpoint_reproduces_the_logged_metric(data, tmp_path, average):
    best = ModelCheckpoint(tmp_path, filename="best", monitor="val/mae")
    callbacks = [best, EarlyStopping("val/mae", patience=50)]
    callbacks += [EMAWeightAveraging(decay=0.9)] if average else []
    trainer = make_trainer(tmp_path, epochs=8, callbacks=callbacks)
    trainer.fit(make_predictor(learning_rate=2e-2), data)
    history = [float(v) for v in logged_column(Path(trainer.logger.log_dir), "val/mae")]
    assert len(history) == 8
    assert float(best.best_model_score) == pytest.approx(min(history), rel=1e-6)
    fresh = make_trainer(tmp_path, enable_checkpointing=False)
    (measured,) = fresh.validate(make_predictor(), data, ckpt_path=tmp_path / "best.ckpt", verbose=False)
    assert measured["val/mae"] == pytest.approx(float(best.best_model_score), rel=1e-5)
    state = torch.load(tmp_path / "best.ckpt", weights_only=True)
    # With averaging the checkpoint holds two states: the average, which was validated, and the one to train on.
    assert ("current_model_state" in state) == average
    if average:
        name = "network.convs.0.sum_norm.running_mean"
        assert not torch.equal(state["state_dict"][name], state["current_model_state"][name])


def logged_column(folder: Path, name: str) -> list[str]:
    with (folder / "metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


def test_averages_start_from_the_fitted_transform(data, tmp_path):
    # The averaged copy is made before the transform is fitted: the first update must bring it along.
    predictor = make_predictor()
    trainer = make_trainer(tmp_path, epochs=2, callbacks=[EMAWeightAveraging(decay=0.9)], enable_checkpointing=False)
    trainer.fit(predictor, data)
    expected = TargetTransform("log")
    expected.fit(torch.from_numpy(data.table.properties["y"][data.train_rows]))
    for mine, theirs in zip(predictor.transform.buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert bool(predictor.transform.fitted)


def test_resumed_training_equals_uninterrupted(data, tmp_path):
    def fit(folder, epochs, ckpt_path=None):
        predictor = make_predictor(schedule="constant")
        last = ModelCheckpoint(folder, save_last=True)
        trainer = make_trainer(folder, epochs, [last, EMAWeightAveraging(decay=0.9)], num_sanity_val_steps=0)
        data.batch_size = 12  # one batch per epoch: shuffling cannot tell the runs apart
        trainer.fit(predictor, data, ckpt_path=ckpt_path)
        return predictor.state_dict()

    straight = fit(tmp_path / "a", 4)
    fit(tmp_path / "b", 2)
    resumed = fit(tmp_path / "c", 4, tmp_path / "b" / "last.ckpt")
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-5, rtol=1e-4)


def test_weights_scale_the_loss(data, tmp_path):
    predictor = make_predictor()
    make_trainer(tmp_path, epochs=1, enable_checkpointing=False).fit(predictor, data)
    batch = next(iter(data.train_dataloader()))
    predictor.eval()
    predictor.log = lambda *args, **kwargs: None
    with torch.no_grad():
        errors = (predictor.network(batch) - predictor.transform(batch.target)).abs()
        batch.weight = torch.tensor([1.0, 0.0, 0.5, 2.0])
        torch.testing.assert_close(predictor.training_step(batch), (errors * batch.weight).mean())


def test_missing_targets_are_named(data, tmp_path):
    trainer = make_trainer(tmp_path, epochs=1, enable_checkpointing=False)
    data.prepare_data()
    data.setup("fit")
    row = int(data.val_rows[0])
    data.use_training()
    data._per_crystal["target"][row] = torch.nan
    with pytest.raises(ValueError, match=f"part of validation or test: {data.table.ids[row]}$"):
        trainer.fit(make_predictor(), data)


def test_a_loss_that_is_not_finite_names_the_crystals(data, tmp_path):
    class Diverged(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, batch):
            return torch.where(batch.row == bad, torch.nan, self.scale * batch.num_atoms)

    data.prepare_data()
    data.setup("fit")
    bad = int(data.train_rows[3])
    trainer = make_trainer(tmp_path, epochs=1, enable_checkpointing=False, num_sanity_val_steps=0)
    message = rf"the l1 term .* in batch \d of epoch 0 for crystals {data.table.ids[bad]}: look at"
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit(PropertyPredictor(Diverged()), data)


def test_a_diverging_training_keeps_the_last_good_checkpoint(data, tmp_path):
    class Explode(Callback):
        def on_before_optimizer_step(self, trainer, predictor, optimizer):
            if trainer.current_epoch == 2:
                predictor.network.embedding.weight.grad[0, 0] = torch.inf

    last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = make_trainer(tmp_path, callbacks=[last, Explode()], num_sanity_val_steps=0)
    message = r"is not finite in batch 1 of epoch 2 .*: the step before broke the weights \(network\.embedding\.weight"
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit(make_predictor(), data)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())


def test_a_missing_target_is_named(data, tmp_path):
    data.prepare_data()
    data.setup("fit")
    row = int(data.train_rows[3])
    data._per_crystal["target"][row] = torch.nan
    trainer = make_trainer(tmp_path, epochs=1, enable_checkpointing=False, num_sanity_val_steps=0)
    with pytest.raises(ValueError, match=rf"no target value, but part of training: {data.table.ids[row]}$"):
        trainer.fit(make_predictor(), data)


def test_a_checkpoint_for_another_target_is_refused(data, table_path, tmp_path):
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(make_predictor(), data)
    path = trainer.checkpoint_callback.best_model_path
    table = pd.read_csv(table_path)
    table.assign(z=table["y"]).to_csv(tmp_path / "both.csv", index=False)
    other = CrystalDataModule(str(tmp_path / "both.csv"), target="z", cache_dir=tmp_path / "cache")
    for run in (trainer.test, trainer.predict):
        with pytest.raises(ValueError, match=r"\.ckpt predicts 'y', data\.target is 'z': name the same target"):
            run(make_predictor(), other, ckpt_path=path)
    table.drop(columns="y").assign(z=1.0).to_csv(tmp_path / "new.csv", index=False)  # a number that is no label
    unlabelled = CrystalDataModule(str(tmp_path / "new.csv"), cache_dir=tmp_path / "cache")
    assert len(trainer.predict(make_predictor(), unlabelled, ckpt_path=path)) > 0


def test_crystals_known_to_the_model_are_no_test(table_path, tmp_path, caplog):
    def module(seed: int) -> CrystalDataModule:
        split = RandomSplit(0.5, 0.25, 0.25, seed)
        return CrystalDataModule(str(table_path), target="y", split=split, cache_dir=tmp_path)

    trainer = make_trainer(tmp_path, epochs=1, callbacks=[ModelCheckpoint(tmp_path, "best")])
    trainer.fit(make_predictor(), datamodule=module(0))
    with caplog.at_level("WARNING"):
        trainer.test(make_predictor(), datamodule=module(0), ckpt_path=tmp_path / "best.ckpt")
        assert "trained on or chosen by" not in caplog.text
        trainer.test(make_predictor(), datamodule=module(1), ckpt_path=tmp_path / "best.ckpt")
    assert "the model was trained on or chosen by 4 of the 6 test crystals" in caplog.text


def test_an_untrained_predictor_is_refused(data, tmp_path):
    trainer = make_trainer(tmp_path)
    for run in (trainer.validate, trainer.test, trainer.predict):
        with pytest.raises(ValueError, match="never trained"):
            run(make_predictor(), data)


def test_a_choice_by_validation_needs_validation(table_path, tmp_path):
    data = CrystalDataModule(str(table_path), target="y", split=RandomSplit(0.8, 0.0, 0.2), cache_dir=tmp_path)
    trainer = make_trainer(tmp_path, epochs=1, callbacks=[EarlyStopping("val/mae")])
    with pytest.raises(ValueError, match="EarlyStopping goes by val/mae, and the split has no validation rows"):
        trainer.fit(make_predictor(), data)
    make_trainer(tmp_path, epochs=1, enable_checkpointing=False).fit(make_predictor(), data)


def test_one_crystal_to_test_gives_no_r2(table_path, tmp_path):
    data = CrystalDataModule(str(table_path), target="y", split=RandomSplit(0.7, 0.26, 0.04), cache_dir=tmp_path)
    trainer = make_trainer(tmp_path, epochs=1, enable_checkpointing=False)
    predictor = make_predictor()
    trainer.fit(predictor, data)
    (tested,) = trainer.test(predictor, data, verbose=False)
    assert len(data.test_rows) == 1
    assert np.isnan(tested["test/r2"])
    assert np.isfinite(tested["test/mae"])


@pytest.mark.parametrize("unit", [1e-24, 1e-7, 1.0, 1e20])
def test_r2_does_not_depend_on_the_unit(unit):
    rng = np.random.default_rng(0)
    target = rng.random(30)
    predicted = target + rng.random(30)
    r2 = _R2()
    for part in (slice(0, 7), slice(7, 30)):
        r2.update(torch.from_numpy(predicted[part] * unit), torch.from_numpy(target[part] * unit))
    assert float(r2.compute()) == pytest.approx(prediction_errors(target, predicted).r2)
    same = _R2()
    same.update(torch.from_numpy(predicted), torch.full((30,), 0.1 * unit, dtype=torch.float64))
    assert np.isnan(float(same.compute()))


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="choose one of mse, l1, huber"):
        make_predictor(loss="mae")


def test_a_target_that_is_always_the_same_is_said(data, tmp_path, caplog):
    data.setup("fit")
    data.table.properties["y"][data.train_rows] = 1.5
    data.use_training()
    with caplog.at_level("WARNING", "matwheel"):
        make_trainer(tmp_path, 1).fit(make_predictor(), data)
    assert "all 12 training values of 'y' are 1.5: there is nothing to learn" in caplog.text


def test_errors_of_targets_far_from_zero() -> None:
    """In single precision the sums of squares cancel: R2 would be 0.1 off."""
    predictor = PropertyPredictor(_Echo(), TargetTransform("none")).eval()
    target = torch.from_numpy(5000 + np.random.default_rng(0).normal(size=256)).float()
    predicted = target + 0.5 * torch.sin(torch.arange(256.0))
    predictor.log = predictor.log_dict = lambda *args, **options: None  # type: ignore[method-assign]
    for part in torch.arange(256).split(64):
        predictor.test_step(Batch(said=predicted[part], target=target[part], row=part, _num_graphs=len(part)))
    found = {name: float(value) for name, value in predictor.test_errors.compute().items()}
    expected = prediction_errors(target.double().numpy(), predicted.double().numpy())
    assert found == pytest.approx({f"test/{name}": value for name, value in expected._asdict().items()}, rel=1e-6)


class _Echo(nn.Module):
    def forward(self, batch: Batch) -> torch.Tensor:
        return batch.said
