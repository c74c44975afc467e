"""The conditional autoencoder: every term learns, validation repeats itself, failures name their cause."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from matwheel.diffusion.noise import CoordinateNoise, TypeNoise
from matwheel.models.averaging import WeightAverage
from matwheel.models.con_cdvae import ConCDVAE, LossWeights
from matwheel.nn.condition import ConditionEmbedding
from tests.models.toys import ToyData, ToyDecoder, ToyEncoder, quiet_trainer, toy_crystals, toy_vae

TERMS = {"coordinate", "type", "lattice", "composition", "num_atoms", "kl", "property"}


class History(L.Callback):
    """Keeps what was logged in every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_every_term_learns_eight_crystals() -> None:
    history = History()
    # A perceptron cannot place atoms to a hundredth of an A; noise above 0.2 A it can undo.
    noise = CoordinateNoise(sigma_max=3.0, sigma_min=0.2)
    model = toy_vae(learning_rate=1e-2, loss_weights=LossWeights(kl=1e-3), coordinate_noise=noise)
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(max_epochs=250, callbacks=[history], check_val_every_n_epoch=250)
    trainer.fit(model, datamodule=ToyData())

    def mean(name: str, epochs: slice) -> float:
        values = [epoch[f"train/{name}"] for epoch in history.epochs[epochs]]
        return sum(values) / len(values)

    assert {f"train/{name}" for name in TERMS} | {"train/loss"} <= set(history.epochs[0])
    # Single epochs differ by the noise levels drawn.
    for name, factor in {
        "coordinate": 0.8, "type": 0.2, "lattice": 0.1, "num_atoms": 0.1, "composition": 0.6, "property": 0.1
    }.items():  # fmt: skip
        assert mean(name, slice(-100, None)) < factor * mean(name, slice(0, 20)), name
    assert mean("kl", slice(-20, None)) > 0.1
    weights = LossWeights(kl=1e-3)
    total = sum(getattr(weights, name) * history.epochs[-1][f"train/{name}"] for name in TERMS)
    assert history.epochs[-1]["train/loss"] == pytest.approx(total, rel=1e-4)
    final = trainer.callback_metrics
    assert final["val/num_atoms_accuracy"] == 1
    assert final["val/lengths_mard"] < 0.1
    assert final["val/angles_mae"] < 6
    assert final["val/type_accuracy"] > 0.5


def validated(model: ConCDVAE, data: ToyData) -> dict[str, float]:
    trainer = quiet_trainer()
    model.condition_embedding.fit(data.conditions, data.values)
    model.lattice_scaler.fit(data.training_statistics().lattices, data.training_statistics().num_atoms)
    return trainer.validate(model, datamodule=data, verbose=False)[0]


def test_validation_repeats_itself_whatever_the_batch_size() -> None:
    table = toy_crystals(30)
    first = validated(toy_vae(), ToyData(table, batch_size=30))
    torch.manual_seed(99)
    model = toy_vae()
    torch.randn(5)
    again = validated(model, ToyData(table, batch_size=30))
    assert first == again
    other = validated(toy_vae(), ToyData(table, batch_size=7))
    assert other == pytest.approx(first, rel=1e-4)
    metrics = {"loss", "num_atoms_accuracy", "type_accuracy", "lengths_mard", "angles_mae"}
    assert set(first) == {f"val/{name}" for name in TERMS | metrics}
    assert first["val/loss"] == pytest.approx(10 * first["val/coordinate"] + first["val/type"], rel=1e-5)


def test_validation_runs_over_all_noise_levels() -> None:
    data, levels = ToyData(toy_crystals(50), batch_size=16), []
    model = toy_vae()
    original = model.coordinate_noise.corrupt

    def spy(*args: torch.Tensor) -> torch.Tensor:
        levels.append(args[2])
        return original(*args)

    model.coordinate_noise.corrupt = spy  # type: ignore[method-assign,assignment]
    validated(model, data)
    assert torch.cat(levels).sort().values.tolist() == list(range(50))


def cells_seen(model: ConCDVAE, data: ToyData, run: str) -> torch.Tensor:
    """The cells handed to the decoder in the first batch."""
    seen = []
    handle = model.decoder.register_forward_hook(lambda _, args, __: seen.append(args[2].detach()))
    getattr(quiet_trainer(limit_train_batches=1, limit_val_batches=1, max_epochs=1), run)(model, datamodule=data)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("epochs", "forced"), [(None, True), (1, True), (0, False)])
def test_teacher_forcing(epochs: int | None, forced: bool) -> None:
    data = ToyData()
    model = toy_vae(teacher_forcing_epochs=epochs)
    cells = cells_seen(model, data, "fit")
    volumes = torch.linalg.det(data.graphs.lattices).abs().sort().values
    same = torch.allclose(torch.linalg.det(cells).abs().sort().values, volumes, rtol=1e-4)
    assert same == forced
    for true_cells in (True, False):
        model.validate_in_true_cells = true_cells
        seen = cells_seen(model, data, "validate")
        assert torch.allclose(seen, data.graphs.lattices, atol=1e-3) == true_cells


def test_wild_lattice_predictions_still_give_possible_cells() -> None:
    data = ToyData()
    model = toy_vae(validate_in_true_cells=False)
    with torch.no_grad():
        model.structure_heads.cell[-1].bias.copy_(torch.tensor([-500.0, 1e4, 0, 900, -900, 400]))
    result = validated(model, data)
    assert all(math.isfinite(value) for value in result.values())
    cells = cells_seen(model, data, "validate")
    assert torch.linalg.det(cells).min() > 1


def test_a_batch_of_one_crystal_trains() -> None:
    model = toy_vae()
    quiet_trainer(max_epochs=2).fit(model, datamodule=ToyData(toy_crystals(1), batch_size=1))
    data = ToyData(toy_crystals(5), batch_size=4)
    quiet_trainer(max_epochs=1).fit(toy_vae(), datamodule=data)


def test_too_large_cells_are_refused_before_training() -> None:
    with pytest.raises(
        ValueError, match=r"cells of 5 atoms, the model makes at most 3: set the model's max_atoms to 5"
    ):
        quiet_trainer(max_epochs=1).fit(toy_vae(max_atoms=3), datamodule=ToyData())


def test_a_loss_that_is_not_finite_names_term_and_crystals() -> None:
    data = ToyData()
    data.graphs.frac_coords[data.graphs.num_atoms[:3].sum()] = torch.nan  # first atom of the fourth crystal
    with pytest.raises(FloatingPointError, match=r"the coordinate term .* in batch 0 of epoch 0 for crystals toy-3: l"):
        quiet_trainer(max_epochs=1).fit(toy_vae(), datamodule=data)
    model = toy_vae()
    with torch.no_grad():
        model.log_var.bias.fill_(torch.nan)
    with pytest.raises(
        FloatingPointError,
        match=r"the kl term .* and 3 more: the step before broke the weights \(log_var",
    ):
        quiet_trainer(max_epochs=1).fit(model, datamodule=ToyData())


def test_a_missing_condition_stops_training() -> None:
    data = ToyData()
    data.values[2, 0] = torch.nan
    with pytest.raises(ValueError, match="'dielectric' is missing"):
        quiet_trainer(max_epochs=1).fit(toy_vae(), datamodule=data)


def test_training_without_a_data_module_is_refused() -> None:
    with pytest.raises(ValueError, match="train with a data module"):
        quiet_trainer(max_epochs=1).fit(toy_vae(), ToyData().train_dataloader())


def test_levels_of_both_noises_must_match() -> None:
    with pytest.raises(ValueError, match="give them the same number"):
        toy_vae(coordinate_noise=CoordinateNoise(num_levels=20), type_noise=TypeNoise())


def test_a_decoder_that_is_given_types_sees_the_true_ones_and_answers_for_positions_alone() -> None:
    decoder = ToyDecoder(16 + 8, predict_types=False)
    model = toy_vae(decoder=decoder)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    decoder.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[1], inputs[4])))
    data = ToyData()
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, datamodule=data)
    assert seen
    known = {tuple(sorted(crystal.atomic_numbers.tolist())) for crystal in data.table}
    for num_atoms, atomic_numbers in seen:
        for numbers in torch.split(atomic_numbers, num_atoms.tolist()):
            assert tuple(sorted(numbers.tolist())) in known
    logged = trainer.callback_metrics
    assert "train/coordinate" in logged
    assert not {name for name in logged if "type" in name}
    assert float(logged["val/loss"]) == pytest.approx(10 * float(logged["val/coordinate"]))
    for name, value in decoder.state_dict().items():
        assert not torch.equal(value, before[name]), f"{name} did not train: processes would wait for it"
    with pytest.raises(ValueError, match="does not predict types"):
        toy_vae(decoder=decoder, type_noise=TypeNoise())
    with pytest.raises(ValueError, match="leave the weight of their loss out"):
        toy_vae(decoder=decoder, loss_weights=LossWeights(type=2.0))


def test_a_decoder_without_type_logits_must_say_so() -> None:
    decoder = ToyDecoder(16 + 8, predict_types=False)
    decoder.predict_types = True
    decoder.forward = lambda *inputs: SimpleNamespace(vectors=torch.zeros(len(inputs[3]), 3), type_logits=None)
    with pytest.raises(ValueError, match="ToyDecoder gives no type_logits: its attribute predict_types must be False"):
        quiet_trainer(max_epochs=1).fit(toy_vae(decoder=decoder), datamodule=ToyData())


def test_checkpoints_load_without_running_code(tmp_path) -> None:
    model = toy_vae()
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(model, datamodule=ToyData())
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    loaded = ConCDVAE.load_from_checkpoint(
        tmp_path / "vae.ckpt",
        encoder=ToyEncoder(),
        decoder=ToyDecoder(24),
        condition_embedding=toy_vae().condition_embedding,
        weights_only=True,
    )
    assert loaded.condition_embedding.names == ["dielectric", "system"]
    assert (loaded.latent_dim, loaded.max_atoms) == (16, 8)
    data = ToyData()
    batch = data.batch([0, 1, 2])
    for ours, theirs in zip(loaded.eval().encode(batch), model.eval().encode(batch), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(loaded.lattice_scaler.mean, model.lattice_scaler.mean)


def test_a_checkpoint_of_averaged_weights_knows_the_conditions(tmp_path: Path) -> None:
    """The average is a copy of the model from before its conditions were known."""
    model, checkpoint = toy_vae(), ModelCheckpoint(tmp_path, "last")
    trainer = quiet_trainer(max_epochs=1, enable_checkpointing=True, callbacks=[WeightAverage(0.5), checkpoint])
    trainer.fit(model, datamodule=ToyData())
    fresh = toy_vae()
    fresh.load_state_dict(torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"])
    assert fresh.condition_embedding.names == ["dielectric", "system"]


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "plateau"])
def test_optimiser(schedule: str) -> None:
    model = toy_vae(schedule=schedule, learning_rate=2e-3)
    trainer = quiet_trainer(max_epochs=20)
    trainer.fit(model, datamodule=ToyData())
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert rate < 2e-5 if schedule == "one_cycle" else rate == 2e-3
    if schedule == "plateau":
        used = trainer.lr_scheduler_configs[0].scheduler
        assert (used.factor, used.patience, used.min_lrs) == (0.6, 30, [1e-4])


def test_a_plateau_is_looked_for_whenever_there_is_a_validation() -> None:
    trainer = quiet_trainer(max_epochs=6, check_val_every_n_epoch=2)
    trainer.fit(toy_vae(schedule="plateau"), datamodule=ToyData())
    schedule = trainer.lr_scheduler_configs[0].scheduler
    assert (schedule.last_epoch, schedule.patience) == (3, 15)


def test_training_starts_from_a_pretrained_model_without_labels(tmp_path: Path) -> None:
    embedding = ConditionEmbedding({"dielectric": "log", "system": "class"}, 8, 8, 8, dropout=0.2)
    unlabelled = ToyData(toy_crystals(8, seed=3))
    unlabelled.values.fill_(math.nan)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(toy_vae(condition_embedding=embedding), datamodule=unlabelled)
    assert trainer.callback_metrics["train/property"] == 0
    assert all(torch.isfinite(p).all() for p in trainer.lightning_module.parameters())
    trainer.save_checkpoint(tmp_path / "pretrained.ckpt")
    model = toy_vae(condition_embedding=copy.deepcopy(embedding), start=tmp_path / "pretrained.ckpt")
    model.learning_rate = 0.0
    other = quiet_trainer(max_epochs=1)
    other.fit(model, datamodule=ToyData())
    pretrained = dict(trainer.lightning_module.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, pretrained[name]) or name.startswith("structure_heads.cell."), name
    # Scales are those of the crystals trained on now, and the same cells are predicted on them.
    assert not torch.equal(model.lattice_scaler.mean, trainer.lightning_module.lattice_scaler.mean)
    hidden, num_atoms = torch.randn(5, 32), torch.full((5,), 2)
    before, after = (
        part.lattice_scaler.parameters_of(part.structure_heads.cell[-1](hidden), num_atoms)
        for part in (trainer.lightning_module, model)
    )
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)
    assert model.condition_embedding.parts[0].transform.fitted
