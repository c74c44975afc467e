"""The latent prior: cheap training behind a frozen encoder, and sampling that can be traced and trusted."""

import json
import math

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from matwheel.data.conditions import ConditionDataModule
from matwheel.data.crystal import CrystalTable
from matwheel.diffusion.latent import LatentDiffusion
from matwheel.diffusion.samplers import AnnealedLangevin, DenoisingSampler, Sampler
from matwheel.metrics.validity import composition_validity
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latent_prior import LatentPrior, _parts_by_atoms
from matwheel.models.latents import LatentDataModule, latent_features
from matwheel.models.unpack import Provenance
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.prior_network import PriorNetwork
from matwheel.seeded import atom_seeds
from tests.models.toys import ToyData, ToyDecoder, quiet_trainer, toy_crystals, toy_vae

KINDS = {"dielectric": "log", "system": "class"}
WHERE = Provenance(checkpoint="abc123", round=2)


def toy_prior(**options: object) -> DiffusionPrior:
    """An untrained generator whose scalers know the toy crystals."""
    data = ToyData()
    vae = toy_vae()
    vae.condition_embedding.fit(data.conditions, data.values)
    vae.lattice_scaler.fit(data.training_statistics().lattices, data.training_statistics().num_atoms)
    sizes = {
        "sampler": DenoisingSampler(num_steps=5),
        "diffusion": LatentDiffusion(num_steps=10, beta_max=0.5),
        "network": PriorNetwork(latent_dim=16, condition_dim=8, time_dim=8, num_halvings=2),
    }
    prior = DiffusionPrior(vae, **{**sizes, **options})  # type: ignore[arg-type]
    prior.condition_embedding.fit(data.conditions, data.values)
    return prior


def requests(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Conditions, seeds and indices; within the range of the toy crystals."""
    low, high = ToyData().values[:, 0].aminmax()
    fraction = torch.rand(count, generator=torch.Generator().manual_seed(3))
    conditions = torch.stack([low + (high - low) * fraction, torch.arange(count) % 3], 1)
    return conditions, 1000 + torch.arange(count), torch.arange(count)


def test_latents_are_encoded_once_and_the_prior_learns_them() -> None:
    torch.manual_seed(0)
    prior = toy_prior(learning_rate=3e-3)
    data = LatentDataModule(ToyData(), batch_size=8)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in prior.vae.state_dict().items() if isinstance(value, torch.Tensor)}
    prior.vae.encoder.calls = 0
    trainer = quiet_trainer(max_epochs=150, check_val_every_n_epoch=75)
    untrained = trainer.validate(prior, datamodule=data, verbose=False)[0]["val/loss"]
    prior.vae.encoder.calls = 0
    trainer.fit(prior, datamodule=data)
    assert prior.vae.encoder.calls == 2  # once over training, once over validation crystals
    assert trainer.callback_metrics["val/loss"] < 0.8 * untrained
    assert "train/loss" in trainer.callback_metrics
    for name, value in before.items():
        assert torch.equal(value, prior.vae.state_dict()[name]), name
    assert not prior.vae.training


def test_validation_of_the_prior_repeats_itself() -> None:
    data = LatentDataModule(ToyData(toy_crystals(20)), batch_size=20)  # type: ignore[arg-type]
    losses = []
    for seed, batch_size in ((0, 20), (1, 7)):
        torch.manual_seed(5)
        prior = toy_prior()
        torch.manual_seed(seed)
        data.batch_size = batch_size
        losses.append(quiet_trainer().validate(prior, datamodule=data, verbose=False)[0]["val/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_many_crystals_are_unpacked_each_from_its_own_atoms() -> None:
    prior = toy_prior(max_atoms_per_batch=25)
    conditions, seeds, index = requests(40)
    captured = []
    original = prior.sampler.sample
    prior.sampler.sample = lambda *args: captured.append((args[2], original(*args))) or captured[-1][1]  # type: ignore[method-assign]
    table = prior.sample(conditions, seeds, index, WHERE)
    assert len(captured) > 1
    assert len(table) == len(set(table.ids)) == 40
    assert len(set(table.num_atoms.tolist())) > 1
    row = 0
    for cells, atoms in captured:
        parts = cells.num_atoms.tolist()
        for frac, numbers, lattice in zip(
            atoms.frac_coords.split(parts), atoms.atomic_numbers.split(parts), cells.lattice, strict=True
        ):
            crystal = table[row]
            np.testing.assert_allclose(crystal.frac_coords, frac.numpy(), atol=1e-7)
            np.testing.assert_array_equal(crystal.atomic_numbers, numbers.numpy())
            np.testing.assert_allclose(crystal.lattice, lattice.numpy(), rtol=1e-6)
            assert crystal.to_structure().volume > 1
            row += 1
    assert row == 40
    assert len({table[i].frac_coords.tobytes() for i in range(40)}) == 40


def test_crystals_can_be_traced() -> None:
    conditions, seeds, index = requests(6)
    conditions[0, 0] = 10.1
    table = toy_prior().sample(conditions, seeds, index + 30, WHERE)
    for row, crystal in enumerate(table):
        origin = json.loads(crystal.origin)
        assert origin == {
            "generator": "abc123",
            "seed": 1000 + row,
            "index": 30 + row,
            "conditions": {"dielectric": crystal.properties["dielectric"], "system": float(row % 3)},
            "round": 2,
        }
        assert crystal.properties["dielectric"] == pytest.approx(float(conditions[row, 0]), rel=1e-6)
        assert crystal.id == f"syn-2-{1000 + row}-{30 + row}"
    assert table[0].properties["dielectric"] == 10.1


@pytest.mark.parametrize("sampler", [DenoisingSampler(num_steps=6, stochasticity=0.5), AnnealedLangevin(4, 2)])
@pytest.mark.parametrize("oversample", [1, 3])
def test_a_sample_alone_equals_itself_among_others(sampler: DenoisingSampler, oversample: int) -> None:
    prior = toy_prior(sampler=sampler, oversample=oversample)
    conditions, seeds, index = requests(8)
    together = prior.sample(conditions, seeds, index, WHERE)[3]
    alone = prior.sample(conditions[3:4], seeds[3:4], index[3:4], WHERE)[0]
    assert together.id == alone.id
    np.testing.assert_array_equal(together.atomic_numbers, alone.atomic_numbers)
    np.testing.assert_allclose(together.lattice, alone.lattice, atol=1e-4)
    np.testing.assert_allclose(together.frac_coords, alone.frac_coords, atol=1e-3)
    # Another seed or another condition gives another crystal.
    for other in (
        prior.sample(conditions[3:4], seeds[3:4] + 500, index[3:4], WHERE)[0],
        prior.sample(conditions[2:3], seeds[3:4], index[3:4], WHERE)[0],
    ):
        assert not np.array_equal(other.lattice, alone.lattice)


@pytest.mark.parametrize("oversample", [1, 2, 7])
def test_the_latent_that_fits_its_own_condition_best_is_kept(oversample: int) -> None:
    prior = toy_prior(oversample=oversample, valid_compositions=False).eval()
    conditions, seeds, _ = requests(5)
    drawn = []
    original = prior.diffusion.sample
    prior.diffusion.sample = lambda *args: drawn.append(original(*args)) or drawn[0]  # type: ignore[method-assign]
    with torch.no_grad():
        kept = prior.draw_latents(conditions, seeds)
        candidates = drawn[0].view(5, oversample, 16)
        for row in range(5):
            encoded = prior.vae.condition_embedding.encode(conditions[row : row + 1].expand(oversample, -1))
            errors = prior.vae.property_head.loss(candidates[row], encoded)
            torch.testing.assert_close(kept[row], candidates[row, errors.argmin()])


def test_latents_of_valid_compositions_come_first() -> None:
    prior = toy_prior(valid_compositions=True).eval()
    conditions, seeds, index = requests(40)

    def valid(oversample: int) -> np.ndarray:
        prior.oversample = oversample
        return composition_validity(prior.sample(conditions, seeds, index, WHERE))

    best_of_12 = valid(12)
    prior.valid_compositions = False
    alone, closest = valid(1), valid(12)
    # What is drawn alone is among the twelve: nothing that could be valid is left out, and what is valid is found.
    assert not (alone & ~best_of_12).any()
    assert not (closest & ~best_of_12).any()
    assert best_of_12.mean() > 0.2 + max(alone.mean(), closest.mean())


def test_latents_and_atoms_share_no_random_numbers() -> None:
    prior = toy_prior(oversample=4).eval()
    conditions, seeds, _ = requests(5)
    used: list[torch.Tensor] = []
    draw = prior._draw
    prior._draw = lambda conditions, seeds: used.append(seeds) or draw(conditions, seeds)  # type: ignore[method-assign]
    prior.draw_latents(conditions, seeds)
    assert len(used[0].unique()) == 20
    assert not set(used[0].tolist()) & set(atom_seeds(seeds, torch.full((5,), 64)).tolist())


def test_where_no_composition_is_valid_the_closest_latent_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = toy_prior(oversample=5, valid_compositions=False).eval()
    conditions, seeds, _ = requests(6)
    closest = prior.draw_latents(conditions, seeds)
    prior.valid_compositions = True
    monkeypatch.setattr(
        "matwheel.models.latent_prior.valid_compositions", lambda numbers, sizes: np.zeros(len(sizes), np.bool_)
    )
    assert torch.equal(prior.draw_latents(conditions, seeds), closest)


def test_guidance_interpolates_between_no_condition_and_beyond_the_condition() -> None:
    prior = toy_prior(condition_embedding=ConditionEmbedding(KINDS, 8, 8, 8, dropout=0.1)).eval()
    conditions, _, _ = requests(5)
    none = torch.full_like(conditions, math.nan)
    latent, step = torch.randn(5, 16), torch.randint(10, (5,))

    def noise(guidance: float, given: torch.Tensor = conditions) -> torch.Tensor:
        prior.guidance = guidance
        return prior._guided(given)(latent, step)

    with torch.no_grad():
        embedded = prior.condition_embedding(prior.condition_embedding.encode(conditions))
        assert torch.equal(noise(1.0), prior.network(latent, step, embedded))
        torch.testing.assert_close(noise(0.0), noise(1.0, none))
        assert not torch.allclose(noise(0.0), noise(1.0))
        torch.testing.assert_close(noise(2.5) - noise(0.0), 2.5 * (noise(1.0) - noise(0.0)), rtol=1e-4, atol=1e-5)


def test_guidance_needs_a_prior_that_can_do_without_conditions() -> None:
    with pytest.raises(ValueError, match="set the condition embedding's dropout"):
        toy_prior(guidance=2.0)


def test_crystals_without_conditions() -> None:
    data = ToyData()
    vae = toy_vae(condition_embedding=ConditionEmbedding(KINDS, 8, 8, 8, dropout=0.1))
    vae.condition_embedding.fit(data.conditions, data.values)
    prior = DiffusionPrior(vae, sampler=DenoisingSampler(num_steps=3), oversample=2)
    prior.condition_embedding.fit(data.conditions, data.values)
    conditions, seeds, index = requests(4)
    conditions[:3] = math.nan
    conditions[1, 0] = 10.0
    table = prior.sample(conditions, seeds, index, WHERE)
    origins = [json.loads(crystal.origin)["conditions"] for crystal in table]
    assert origins[:3] == [{}, {"dielectric": 10.0}, {}]
    assert set(origins[3]) == {"dielectric", "system"}
    with pytest.raises(ValueError, match="is missing"):
        toy_prior().sample(conditions, seeds, index, WHERE)


@pytest.mark.parametrize("sampler", [DenoisingSampler(num_steps=4), AnnealedLangevin(4, 2)])
def test_types_that_are_given_stay(sampler: Sampler) -> None:
    prior = toy_prior(sampler=sampler).eval()
    prior.vae.decoder, prior.vae.type_noise = ToyDecoder(16 + 8, predict_types=False), None
    conditions, seeds, index = requests(6)
    table = prior.sample(conditions, seeds, index, WHERE)
    with torch.no_grad():
        encoded = prior.vae.condition_embedding.encode(conditions)
        cells, *_ = prior._outline(prior.draw_latents(conditions, seeds), encoded, seeds)
    assert np.concatenate([crystal.atomic_numbers for crystal in table]).tolist() == cells.types().tolist()


def test_oversampling_brings_the_property_closer() -> None:
    one, many = toy_prior().eval(), toy_prior(oversample=16).eval()
    many.load_state_dict(one.state_dict())
    conditions, seeds, _ = requests(20)
    encoded = one.vae.condition_embedding.encode(conditions)
    with torch.no_grad():
        errors = [
            prior.vae.property_head.loss(prior.draw_latents(conditions, seeds), encoded).mean() for prior in (one, many)
        ]
    assert errors[1] < errors[0]
    with pytest.raises(ValueError, match=r"oversample \(0\)"):
        toy_prior(oversample=0)


def test_wild_outputs_still_give_crystals() -> None:
    prior = toy_prior()
    with torch.no_grad():
        prior.vae.structure_heads.cell[-1].bias.copy_(torch.tensor([-500.0, 1e4, 0, 900, -900, 400]))
        prior.vae.structure_heads.num_atoms[-1].bias[0] = 1e6  # zero atoms, says the head
    table = prior.sample(*requests(10), WHERE)
    assert table.num_atoms.min() >= 1
    for crystal in table:
        assert 1 < crystal.volume < 1e4
        assert crystal.frac_coords.min() >= 0
        assert crystal.frac_coords.max() < 1


@pytest.mark.parametrize(("column", "value", "message"), [(0, math.nan, "is missing"), (1, 9.0, "no class 9")])
def test_conditions_that_make_no_sense_are_refused(column: int, value: float, message: str) -> None:
    conditions, seeds, index = requests(4)
    conditions[2, column] = value
    with pytest.raises(ValueError, match=message):
        toy_prior().sample(conditions, seeds, index, WHERE)


def test_sampling_leaves_the_mode_alone() -> None:
    prior = toy_prior().train()
    prior.sample(*requests(2), WHERE)
    assert prior.training
    assert not prior.vae.training


class Keep(L.Callback):
    """Keeps what predict yields."""

    def __init__(self) -> None:
        self.tables: list[CrystalTable] = []

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs, *args) -> None:
        self.tables.append(outputs)


def predicted(prior: LatentPrior, data: ConditionDataModule) -> list[CrystalTable]:
    keep = Keep()
    quiet_trainer(callbacks=[keep]).predict(prior, datamodule=data, return_predictions=False)
    return keep.tables


def test_prediction_runs_under_the_trainer_in_chunks() -> None:
    prior = toy_prior(oversample=2)
    data = ConditionDataModule([[5.0, 1.0], [9.0, 2.0]], num_samples=7, seed=50, chunk_size=3)
    tables = predicted(prior, data)
    assert [len(table) for table in tables] == [3, 3, 1]
    assert [json.loads(origin)["seed"] for table in tables for origin in table.origins] == list(range(50, 57))
    generator = {json.loads(origin)["generator"] for table in tables for origin in table.origins}
    assert generator == {prior.weights_hash()}
    # A resumed run makes the missing ones, and they are the same.
    rest = ConditionDataModule([[5.0, 1.0], [9.0, 2.0]], num_samples=7, seed=50, chunk_size=3)
    rest.requests = rest.requests.take([3])
    resumed = predicted(prior, rest)[0][0]
    assert resumed.id == tables[1][0].id
    np.testing.assert_allclose(resumed.frac_coords, tables[1][0].frac_coords, atol=1e-3)


@pytest.mark.parametrize("kinds", [None, {"dielectric": "log"}])
def test_an_untrained_generator_is_refused(kinds: dict[str, str] | None) -> None:
    vae = toy_vae(condition_embedding=ConditionEmbedding(kinds, 8, 8, 8))  # type: ignore[arg-type]
    trainer = quiet_trainer()
    with pytest.raises(ValueError, match="this generator was never trained: fit it first, or give a checkpoint"):
        trainer.predict(KernelPrior(vae), datamodule=ConditionDataModule([[5.0]], num_samples=2))
    for run in (trainer.validate, trainer.test):
        with pytest.raises(ValueError, match="this generator was never trained"):
            run(vae, datamodule=ToyData())


def test_weights_hash_changes_with_the_weights() -> None:
    torch.manual_seed(1)
    prior = toy_prior()
    first = prior.weights_hash()
    assert first == prior.weights_hash()
    with torch.no_grad():
        prior.network.out.bias[0] += 1e-3
    assert prior.weights_hash() != first


def test_one_checkpoint_is_the_whole_generator(tmp_path) -> None:
    torch.manual_seed(0)
    prior = toy_prior(oversample=2)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(prior, datamodule=LatentDataModule(ToyData(), batch_size=4))  # type: ignore[arg-type]
    trainer.save_checkpoint(tmp_path / "prior.ckpt")
    torch.manual_seed(7)
    loaded = DiffusionPrior.load_from_checkpoint(
        tmp_path / "prior.ckpt",
        vae=toy_vae(),
        sampler=prior.sampler,
        diffusion=LatentDiffusion(num_steps=10, beta_max=0.5),
        network=PriorNetwork(latent_dim=16, condition_dim=8, time_dim=8, num_halvings=2),
        weights_only=True,
    )
    assert loaded.condition_names == ["dielectric", "system"]
    assert loaded.weights_hash() == prior.weights_hash()
    ours, theirs = (model.sample(*requests(4), WHERE) for model in (loaded, prior))
    np.testing.assert_array_equal(ours.frac_coords, theirs.frac_coords)


def test_a_vae_from_a_checkpoint(tmp_path) -> None:
    trained = toy_vae()
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(trained, datamodule=ToyData())
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    data = LatentDataModule(ToyData())  # type: ignore[arg-type]
    prior = toy_prior(vae_checkpoint=tmp_path / "vae.ckpt")
    quiet_trainer(max_epochs=1).fit(prior, datamodule=data)
    assert torch.equal(prior.vae.mu.weight, trained.mu.weight)
    data.crystals.conditions = ["gap"]
    with pytest.raises(ValueError, match="train both on the same ones"):
        quiet_trainer(max_epochs=1).fit(prior, datamodule=data)


def test_a_loss_of_the_prior_that_is_not_finite_names_the_crystals(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = LatentPrior.encode

    def encode_badly(self: LatentPrior, batch: Batch) -> torch.Tensor:
        return torch.where((batch.row == 5)[:, None], torch.nan, encode(self, batch))

    prior = toy_prior()
    with torch.no_grad():
        next(prior.network.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the step before broke the weights"):
        quiet_trainer(max_epochs=1).fit(prior, datamodule=LatentDataModule(ToyData()))
    monkeypatch.setattr(LatentPrior, "encode", encode_badly)
    with pytest.raises(FloatingPointError, match=r"the noise term .* batch 0 of epoch 0 for crystals toy-5: look at"):
        quiet_trainer(max_epochs=1).fit(toy_prior(), datamodule=LatentDataModule(ToyData()))


def test_the_prior_wants_latents() -> None:
    with pytest.raises(ValueError, match="LatentDataModule"):
        quiet_trainer(max_epochs=1).fit(toy_prior(), datamodule=ToyData())


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 60))
def test_parts_hold_a_bounded_number_of_atoms(num_atoms: list[int], limit: int) -> None:
    parts = list(_parts_by_atoms(num_atoms, limit))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(num_atoms)))
    for part in parts:
        assert sum(num_atoms[part]) <= limit or part.stop - part.start == 1


def test_latents_are_features_for_other_models() -> None:
    prior, data = toy_prior(), ToyData(batch_size=3)
    features = latent_features(prior, data.val_dataloader())
    assert features.shape == (len(data.table), 16)
    with torch.no_grad():
        expected = prior.vae.encode(data.batch([4]))[0][0]
    np.testing.assert_allclose(features[4], expected, rtol=1e-4, atol=1e-6)
