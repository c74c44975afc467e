"""The generator with its real networks, in tiny sizes."""

import lightning as L
import numpy as np
import pytest
import torch

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.diffusion.samplers import AnnealedLangevin, DenoisingSampler, Sampler
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.latents import LatentDataModule
from matwheel.models.unpack import Provenance
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.dimenet import DimeNetPlusPlus
from matwheel.nn.gemnet import GemNetT
from tests.models.toys import ToyData, quiet_trainer, toy_crystals


def crystals_and_a_lone_atom() -> CrystalTable:
    """Toy crystals and one whose only atom has no neighbour within any cutoff."""
    lone = Crystal("lone", 30 * np.eye(3), np.zeros((1, 3)), np.array([10]), {"dielectric": 1.5, "system": 1.0})
    return CrystalTable.concatenate([toy_crystals(7), CrystalTable.from_crystals([lone])])


@pytest.fixture(scope="module")
def trained() -> tuple[ConCDVAE, list[dict[str, float]]]:
    L.seed_everything(0, verbose=False)
    model = ConCDVAE(
        DimeNetPlusPlus(out_channels=16, hidden=16, num_blocks=1, int_emb=8, out_emb=16),
        GemNetT(latent_dim=16 + 8, hidden=16, num_blocks=1, num_radial=16, trip=8, bilinear=8, max_neighbours=8),
        ConditionEmbedding({"dielectric": "log", "system": "class"}, num_points=8, feature_dim=8, out_dim=8),
        latent_dim=16,
        time_dim=8,
        hidden_dim=32,
        max_atoms=8,
        learning_rate=8e-3,
    )
    table = crystals_and_a_lone_atom()
    data = ToyData(table.take(np.tile(np.arange(8), 2)), batch_size=16)
    quiet_trainer(max_epochs=0).fit(model, datamodule=data)  # fits grids and scales
    results = [quiet_trainer().validate(model, datamodule=data, verbose=False)[0]]
    trainer = quiet_trainer(max_epochs=90, limit_val_batches=0, gradient_clip_val=0.5)
    trainer.fit(model, datamodule=data)
    results += quiet_trainer().validate(model, datamodule=data, verbose=False)
    return model, results


def test_every_term_learns_eight_crystals(trained: tuple[ConCDVAE, list[dict[str, float]]]) -> None:
    before, after = trained[1]
    for name, factor in {"coordinate": 0.95, "type": 0.5, "lattice": 0.5, "num_atoms": 0.5, "composition": 0.7}.items():
        assert after[f"val/{name}"] < factor * before[f"val/{name}"], name


def test_mixed_precision_gives_nearly_the_same(trained: tuple[ConCDVAE, list[dict[str, float]]]) -> None:
    model, data = trained[0], ToyData(crystals_and_a_lone_atom(), batch_size=16)
    exact = quiet_trainer().validate(model, datamodule=data, verbose=False)[0]
    mixed = quiet_trainer(precision="bf16-mixed").validate(model, datamodule=data, verbose=False)[0]
    assert mixed != exact
    for name, value in exact.items():
        assert mixed[name] == pytest.approx(value, rel=0.1, abs=0.02), name


def test_mixed_precision_trains_with_clipped_gradients() -> None:
    L.seed_everything(0, verbose=False)
    model = ConCDVAE(
        DimeNetPlusPlus(out_channels=8, hidden=8, num_blocks=1, int_emb=8, out_emb=8),
        GemNetT(latent_dim=16, hidden=8, num_blocks=1, num_radial=8, trip=8, bilinear=8, max_neighbours=8),
        ConditionEmbedding({"dielectric": "log", "system": "class"}, num_points=8, feature_dim=8, out_dim=8),
        latent_dim=8,
        time_dim=8,
        hidden_dim=16,
        max_atoms=8,
    )
    before = model.decoder.blocks[0].triplets.bilinear.weight.detach().clone()
    data = ToyData(crystals_and_a_lone_atom(), batch_size=8)
    trainer = quiet_trainer(max_epochs=2, precision="bf16-mixed", gradient_clip_val=0.5)
    trainer.fit(model, datamodule=data)
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    assert not torch.equal(before, model.decoder.blocks[0].triplets.bilinear.weight)


@pytest.mark.parametrize("sampler", [DenoisingSampler(num_steps=8), AnnealedLangevin(num_levels=6, steps_per_level=2)])
def test_samples_do_not_depend_on_their_batch(
    trained: tuple[ConCDVAE, list[dict[str, float]]], sampler: Sampler
) -> None:
    prior = DiffusionPrior(trained[0], sampler=sampler, oversample=2, max_atoms_per_batch=12)
    data = LatentDataModule(ToyData(crystals_and_a_lone_atom()))  # type: ignore[arg-type]
    quiet_trainer(max_epochs=2, limit_val_batches=0).fit(prior, datamodule=data)
    conditions = data.crystals.values  # type: ignore[attr-defined]
    seeds, index, where = torch.arange(8), torch.arange(8), Provenance("test")
    together = prior.sample(conditions, seeds, index, where)
    alone = prior.sample(conditions[3:4], seeds[3:4], index[3:4], where)[0]
    np.testing.assert_array_equal(together[3].atomic_numbers, alone.atomic_numbers)
    np.testing.assert_allclose(together[3].lattice, alone.lattice, atol=1e-4)
    difference = together[3].frac_coords - alone.frac_coords
    np.testing.assert_allclose(difference - difference.round(), 0, atol=1e-3)
    assert len({crystal.frac_coords.tobytes() for crystal in together}) == 8
    for crystal in together:
        assert crystal.to_structure().is_ordered
