"""The default prior: nothing to train, everything else as any other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from pymatgen.core import Lattice

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


def test_training_conditions_are_not_said_to_lie_outside_the_training_values(caplog: pytest.LogCaptureFixture) -> None:
    """The grid leaves out the outermost of many values."""
    prior, data = toy_prior(), ToyData(toy_crystals(30))
    middle = data.values[data.values.argsort(0)[5:-5, 0]]
    prior.vae.condition_embedding.fit(data.conditions, middle)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(prior, datamodule=LatentDataModule(data, batch_size=8))  # type: ignore[arg-type]
    assert "outside the range" not in caplog.text


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


def test_the_latent_of_a_training_crystal_gives_its_cell_and_sites() -> None:
    prior, table = toy_prior(), toy_crystals(30)
    data = ToyData(table)
    values, known = data.values, data.training_statistics()
    prior.vae.lattice_scaler.fit(known.lattices, known.num_atoms)
    quiet_trainer(max_epochs=1).fit(prior, datamodule=LatentDataModule(data, batch_size=8))  # type: ignore[arg-type]
    latents, seeds = prior.density.latents, torch.arange(30)
    made = prior.decode(latents, values, seeds, seeds, WHERE)
    for one, own in zip(made, table, strict=True):
        assert json.loads(one.origin)["parent"] == own.id
        assert one.num_atoms == own.num_atoms
        assert Lattice(one.lattice).parameters == pytest.approx(Lattice(own.lattice).parameters, rel=1e-4)
    with torch.no_grad():
        outline = prior._outline(latents, prior.vae.condition_embedding.encode(values), seeds)
    assert outline.cells.sites is not None
    np.testing.assert_allclose(outline.cells.sites.frac_coords, table.frac_coords, atol=1e-6)
    assert outline.cells.sites.atomic_numbers.tolist() == table.atomic_numbers.tolist()


def test_without_templates_the_latent_alone_says_what_a_crystal_is_like(fitted: tuple[KernelPrior, Path]) -> None:
    prior = toy_prior(template_noise=None)
    load_weights(prior, fitted[1])  # templates may be turned off later
    latents, seeds = prior.density.latents, torch.arange(30)
    values = ToyData(toy_crystals(30)).values
    encoded = prior.vae.condition_embedding.encode(values)
    with torch.no_grad():
        cells, _, consistent, template = prior._outline(latents, encoded, seeds)
        decoded = prior.vae.decode_latent(latents, encoded)
    assert cells.sites is None
    assert template is None
    assert "parent" not in json.loads(prior.sample(values, seeds, seeds, WHERE)[0].origin)
    assert consistent.all()
    assert torch.equal(cells.num_atoms, decoded.most_likely_num_atoms())
    torch.testing.assert_close(cells.lattice, prior.vae.lattice_scaler.cells(decoded.cell, cells.num_atoms))


def test_latents_that_agree_with_their_template_come_first(
    fitted: tuple[KernelPrior, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A composition meant for another number of atoms cannot be kept."""
    monkeypatch.setattr(
        "matwheel.models.latent_prior.valid_compositions", lambda numbers, sizes: np.ones(len(sizes), np.bool_)
    )
    conditions, seeds = ToyData(toy_crystals(30)).values, torch.arange(30)

    def consistent(oversample: int, **options: object) -> torch.Tensor:
        prior = toy_prior(oversample=oversample, bandwidth=0.9, **options)
        load_weights(prior, fitted[1])
        with torch.no_grad():
            prior.vae.structure_heads.num_atoms[-1].bias[3] = 1e6  # three atoms, as a fifth of the templates have
        encoded = prior.vae.condition_embedding.encode(conditions)
        with torch.no_grad():
            return prior._outline(prior.draw_latents(conditions, seeds), encoded, seeds).consistent

    one, many = consistent(1), consistent(12)
    assert one.float().mean() < 0.5
    assert many.float().mean() > 0.8
    assert torch.equal(consistent(12, valid_compositions=False), many)
    # What has no valid composition comes after all that have, whatever its number of atoms.
    monkeypatch.setattr("matwheel.models.latent_prior.valid_compositions", lambda numbers, sizes: sizes != 3)
    assert not consistent(12).any()


def test_crystals_are_made_of_the_elements_of_the_training_crystals(fitted: tuple[KernelPrior, Path]) -> None:
    prior = toy_prior(bandwidth=0.9)
    load_weights(prior, fitted[1])
    with torch.no_grad():
        prior.vae.structure_heads.composition[-1].bias[[85, 93]] = 1e3  # Rn and Pu, which no toy crystal has
    conditions, seeds = ToyData(toy_crystals(30)).values, torch.arange(30)
    made = prior.sample(conditions, seeds, seeds, WHERE)
    assert set(made.atomic_numbers.tolist()) <= set(toy_crystals(30).atomic_numbers.tolist())


def test_a_sample_alone_equals_itself_among_others(fitted: tuple[KernelPrior, Path]) -> None:
    prior = toy_prior(oversample=3)
    load_weights(prior, fitted[1])
    conditions, seeds = ToyData(toy_crystals(30)).values, torch.arange(30)
    together = prior.sample(conditions, seeds, seeds, WHERE)
    for row in (0, 11, 29):
        part = slice(row, row + 1)
        alone = prior.sample(conditions[part], seeds[part], seeds[part], WHERE)[0]
        assert alone.id == together[row].id
        assert alone.atomic_numbers.tolist() == together[row].atomic_numbers.tolist()
        np.testing.assert_allclose(alone.lattice, together[row].lattice, atol=1e-4)
        np.testing.assert_allclose(alone.frac_coords, together[row].frac_coords, atol=1e-3)


def test_a_fit_does_without_validation(fitted: tuple[KernelPrior, Path]) -> None:
    data, prior = ToyData(toy_crystals(30)), toy_prior()
    data.val_rows = data.val_rows[:0]
    quiet_trainer(max_epochs=1).fit(prior, datamodule=LatentDataModule(data))  # type: ignore[arg-type]
    torch.testing.assert_close(prior.density.mean, fitted[0].density.mean)


def test_the_stage_of_the_wheel_gives_the_same_as_a_fit(fitted: tuple[KernelPrior, Path], tmp_path: Path) -> None:
    prior, path = fitted
    again = toy_prior()
    load_weights(again, path)
    for kept in (again.density.latents, again.templates.frac_coords):
        torch.nn.init.zeros_(kept)  # as when a round begins with the prior of the one before
    data = ToyData(toy_crystals(30))
    data.with_training = lambda: data  # type: ignore[attr-defined]
    metrics = train_prior(again, data, FitSettings(), 0, tmp_path, StageTrainers())  # type: ignore[arg-type]
    assert metrics["val/loss"] > 0
    loaded = toy_prior()
    load_weights(loaded, tmp_path / BEST)
    load_weights(again, tmp_path / BEST)  # the fitted one, too, is to be loaded over
    torch.testing.assert_close(loaded.density.latents.sum(0), prior.density.latents.sum(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loaded.templates.frac_coords, prior.templates.frac_coords)


def test_bandwidth_and_processes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 1.5"):
        toy_prior(bandwidth=1.5)
    with pytest.raises(ValueError, match=r"no step with a noise of at most 0.005 A: raise template_noise"):
        toy_prior(template_noise=0.005)
    prior = toy_prior()
    trainer = quiet_trainer(max_epochs=1)
    trainer.strategy.world_size = 2  # type: ignore[misc]
    with pytest.raises(ValueError, match="needs one process"):
        trainer.fit(prior, datamodule=LatentDataModule(ToyData(toy_crystals(8))))  # type: ignore[arg-type]
