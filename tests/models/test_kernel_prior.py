"""The default prior: nothing to train, everything else as any other."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.flywheel.stages import FitSettings, train_prior
from matwheel.flywheel.trainers import BEST, StageTrainers
from matwheel.models.checkpoints import load_weights
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latents import LatentDataModule
from matwheel.models.unpack import Provenance
from tests.models.toys import ToyData, quiet_trainer, toy_crystals, toy_vae

WHERE = Provenance("test")


def toy_prior(**options: object) -> KernelPrior:
    """Around an autoencoder whose scalers know the toy crystals."""
    data = ToyData()
    vae = toy_vae()
    vae.condition_embedding.fit(data.conditions, data.values)
    vae.lattice_scaler.fit(data.training_statistics().lattices, data.training_statistics().num_atoms)
    return KernelPrior(vae, DenoisingSampler(num_steps=5), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[KernelPrior, Path]:
    prior, folder = toy_prior(), tmp_path_factory.mktemp("prior")
    data = LatentDataModule(ToyData(toy_crystals(30)), batch_size=8)  # type: ignore[arg-type]
    best = ModelCheckpoint(folder, "best", monitor="val/loss")
    trainer = quiet_trainer(max_epochs=1, enable_checkpointing=True, callbacks=[best])
    trainer.fit(prior, datamodule=data)
    assert "val/loss" in trainer.callback_metrics
    return prior, folder / "best.ckpt"


def test_a_fit_keeps_the_latents_of_the_training_crystals(fitted: tuple[KernelPrior, Path]) -> None:
    prior, _ = fitted
    assert prior.density.latents.shape == (30, 16)
    expected = prior.vae.encode(next(iter(ToyData(toy_crystals(30), batch_size=30).train_dataloader())))[0]
    order = torch.cdist(prior.density.latents, expected).argmin(1)
    torch.testing.assert_close(prior.density.latents, expected[order], atol=1e-4, rtol=1e-4)
    assert len(order.unique()) == 30


def test_training_conditions_are_not_said_to_lie_outside_the_training_values(recwarn: pytest.WarningsRecorder) -> None:
    """The grid leaves out the outermost of many values."""
    prior, data = toy_prior(), ToyData(toy_crystals(30))
    middle = data.values[data.values.argsort(0)[5:-5, 0]]
    prior.vae.condition_embedding.fit(data.conditions, middle)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(prior, datamodule=LatentDataModule(data, batch_size=8))  # type: ignore[arg-type]
    assert not [warning for warning in recwarn if "outside the range" in str(warning.message)]


def test_a_checkpoint_of_any_number_of_crystals_can_be_loaded(fitted: tuple[KernelPrior, Path]) -> None:
    prior, path = fitted
    conditions, seeds = ToyData().values[:6], torch.arange(6)
    made = prior.sample(conditions, seeds, seeds, WHERE)
    other = toy_prior()
    load_weights(other, path)
    again = other.sample(conditions, seeds, seeds, WHERE)
    for one, two in zip(made, again, strict=True):
        assert one.atomic_numbers.tolist() == two.atomic_numbers.tolist()
        assert abs(one.frac_coords - two.frac_coords).max() < 1e-6
    assert other.weights_hash() == prior.weights_hash()
    second = toy_prior()
    second.density = prior.density.__class__(8)
    with pytest.raises(ValueError, match="does not fit this LatentPrior"):
        load_weights(second, path)


def test_a_fit_does_without_validation(fitted: tuple[KernelPrior, Path]) -> None:
    data, prior = ToyData(toy_crystals(30)), toy_prior()
    data.val_rows = data.val_rows[:0]
    quiet_trainer(max_epochs=1).fit(prior, datamodule=LatentDataModule(data))  # type: ignore[arg-type]
    torch.testing.assert_close(prior.density.mean, fitted[0].density.mean)


def test_the_stage_of_the_wheel_gives_the_same_as_a_fit(fitted: tuple[KernelPrior, Path], tmp_path: Path) -> None:
    prior, path = fitted
    again = toy_prior()
    load_weights(again, path)
    torch.nn.init.zeros_(again.density.latents)  # as when a round begins with the prior of the one before
    data = ToyData(toy_crystals(30))
    data.with_training = lambda: data  # type: ignore[attr-defined]
    metrics = train_prior(again, data, FitSettings(), 0, tmp_path, StageTrainers())  # type: ignore[arg-type]
    assert metrics["val/loss"] > 0
    loaded = toy_prior()
    load_weights(loaded, tmp_path / BEST)
    load_weights(again, tmp_path / BEST)  # the fitted one, too, is to be loaded over
    torch.testing.assert_close(loaded.density.latents.sum(0), prior.density.latents.sum(0), atol=1e-4, rtol=1e-4)


def test_bandwidth_and_processes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 1.5"):
        toy_prior(bandwidth=1.5)
    prior = toy_prior()
    trainer = quiet_trainer(max_epochs=1)
    trainer.strategy.world_size = 2  # type: ignore[misc]
    with pytest.raises(ValueError, match="needs one process"):
        trainer.fit(prior, datamodule=LatentDataModule(ToyData(toy_crystals(8))))  # type: ignore[arg-type]
