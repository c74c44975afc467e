"""Con-CDVAE, the conditional crystal diffusion autoencoder (Ye, Weng & Wu, Comput. Mater. Today 1, 100003, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch_geometric.data import Batch

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable
from matwheel.diffusion.draws import NoiseDraws
from matwheel.diffusion.noise import CoordinateNoise, TypeNoise, mean_over_atoms
from matwheel.diffusion.samplers import Denoise
from matwheel.models.checkpoints import complete_checkpoint, load_weights, loading_trainer
from matwheel.models.finite import check_finite
from matwheel.models.optimisation import check_learning_rate, may_fuse, one_cycle
from matwheel.models.processes import step_seeds, weight_of_share
from matwheel.nn.condition import ConditionEmbedding, EncodedConditions
from matwheel.nn.heads import DecodedLatent, PropertyHead, StructureHeads
from matwheel.nn.lattice import LatticeScaler
from matwheel.nn.mlp import TimeEmbedding
from matwheel.nn.vacuum import Vacuum
from matwheel.precision import full_precision


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the loss.

    Attributes:
        coordinate: Score matching of coordinates.
        type: Cross-entropy of denoised types over their noise.
        lattice: Squared error of standardised cell parameters.
        composition: Cross-entropy of the composition.
        num_atoms: Cross-entropy of the number of atoms.
        kl: Divergence of the latent from a standard normal.
        property: Error of the conditions read off the latent.
    """

    coordinate: float = 10.0
    type: float = 1.0
    lattice: float = 10.0
    composition: float = 1.0
    num_atoms: float = 1.0
    kl: float = 0.01
    property: float = 3.0


class ConCDVAE(L.LightningModule):
    """Variational autoencoder of crystals whose decoder denoises atoms, under conditions.

    Validation repeats the same noise every time, so that its curves can be compared between epochs and runs. Its loss
    is (coordinate + type), weighted, as in the released code.

    Args:
        encoder: Batch -> [B, encoder.out_channels].
        decoder: (latent [B, latent_dim + time_dim], num_atoms, lattice, frac_coords, atomic_numbers) -> vectors [N, 3]
            and type_logits [N, 100]. If it has an attribute `predict_types` that is False, types are no noise to it:
            see `PaiNNDecoder`.
        condition_embedding: Embedding of the conditions.
        coordinate_noise: Noise on coordinates; the paper's by default.
        type_noise: Noise on types, with as many levels; the paper's by default. None if the decoder does not predict
            types.
        latent_dim: Width of the latent.
        time_dim: Width of the embedding of the noise level.
        hidden_dim: Width of the heads.
        max_atoms: Largest number of atoms per cell.
        loss_weights: Weights of the terms of the loss.
        teacher_forcing_epochs: Epochs in which the decoder trains in true cells; then in predicted ones. Always in true
            ones by default.
        validate_in_true_cells: Let the decoder see true cells in validation. The released code shows it predicted ones,
            but measures displacements in the true ones: most of the coordinate term is then the error of the cell,
            which hides what the decoder learns and prefers checkpoints of early epochs.
        learning_rate: Of Adam, the highest of the schedule.
        schedule: Learning rate over the run: `constant`, `one_cycle` (rises over the first tenth of the steps, then
            falls to nearly zero as a cosine) or `plateau` (the paper's: times 0.6 after 30 epochs without a better
            validation loss, down to 1e-4).
        start: Checkpoint of a pre-trained model like this one, whose weights training starts from.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        condition_embedding: ConditionEmbedding,
        coordinate_noise: CoordinateNoise | None = None,
        type_noise: TypeNoise | None = None,
        latent_dim: int = 256,
        time_dim: int = 64,
        hidden_dim: int = 256,
        max_atoms: int = 64,
        loss_weights: LossWeights = LossWeights(),
        teacher_forcing_epochs: int | None = None,
        validate_in_true_cells: bool = True,
        learning_rate: float = 1e-3,
        schedule: Literal["constant", "one_cycle", "plateau"] = "constant",
        start: Path | None = None,
    ) -> None:
        check_learning_rate(learning_rate)
        super().__init__()
        self.save_hyperparameters(
            ignore=[
                "encoder",
                "decoder",
                "condition_embedding",
                "coordinate_noise",
                "type_noise",
                "loss_weights",
                "start",
            ]
        )
        self.encoder = encoder
        self.decoder = decoder
        self.condition_embedding = condition_embedding
        self.coordinate_noise = coordinate_noise if coordinate_noise is not None else CoordinateNoise()
        if getattr(decoder, "predict_types", True):
            self.type_noise: TypeNoise | None = type_noise if type_noise is not None else TypeNoise()
        elif type_noise is not None:
            raise ValueError("this decoder does not predict types: leave type_noise out, or set its predict_types")
        elif loss_weights.type != LossWeights.type:
            raise ValueError("this decoder does not predict types: leave the weight of their loss out")
        else:
            self.type_noise = None
        if self.type_noise is not None and self.coordinate_noise.num_levels != self.type_noise.num_levels:
            raise ValueError(
                f"coordinates have {self.coordinate_noise.num_levels} noise levels and types "
                f"{self.type_noise.num_levels}: a crystal has one level for both, give them the same number"
            )
        self.latent_dim = latent_dim
        self.max_atoms = max_atoms
        self.loss_weights = loss_weights
        self.teacher_forcing_epochs = teacher_forcing_epochs
        self.validate_in_true_cells = validate_in_true_cells
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.start = start

        encoded_dim = cast(int, encoder.out_channels)
        self.mu = nn.Linear(encoded_dim, latent_dim)
        self.log_var = nn.Linear(encoded_dim, latent_dim)
        self.lattice_scaler = LatticeScaler()
        self.vacuum = Vacuum()
        self.property_head = PropertyHead(
            latent_dim,
            condition_embedding.num_scalars,
            condition_embedding.num_class_conditions,
            condition_embedding.max_classes,
            hidden_dim,
        )
        self.structure_heads = StructureHeads(latent_dim, condition_embedding.out_dim, max_atoms, hidden_dim)
        self.time_embedding = TimeEmbedding(time_dim)
        self._evaluated = 0  # crystals of the evaluation epoch so far

    def check_sizes(self, table: CrystalTable) -> None:
        """Refuse crystals that are too large to learn from.

        Raises:
            ValueError: If a cell has more than `max_atoms` atoms.
        """
        largest = int(table.num_atoms.max())
        if largest > self.max_atoms:
            raise ValueError(
                f"the data have cells of {largest} atoms, the model makes at most {self.max_atoms}: set the model's "
                f"max_atoms to {largest} or the data's max_sites to {self.max_atoms}"
            )

    def setup(self, stage: str) -> None:
        """Check the data and, before training, fit what depends on them."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            if stage == "fit":
                raise ValueError("grids and scales are fitted on the data: train with a data module, not with loaders")
            return
        self.check_sizes(data.table)
        if stage == "fit":
            if self.start is not None:
                load_weights(self, self.start)
            statistics = data.training_statistics()
            self.condition_embedding.fit(data.conditions, statistics.conditions)
            was_fitted, before = self.lattice_scaler.fitted, self.lattice_scaler.scale
            self.lattice_scaler.fit(statistics.lattices, statistics.num_atoms)
            if was_fitted:  # the head was trained on the scale of other crystals
                self.structure_heads.rescale_cells(before, self.lattice_scaler.scale)
            self.vacuum.fit(statistics.frac_coords, statistics.lattices, statistics.num_atoms)

    def check_fitted(self) -> None:
        """Refuse to use what was never trained.

        Raises:
            ValueError: If this never was, and has no weights of one that was.
        """
        if not self.lattice_scaler.fitted:
            raise ValueError("this generator was never trained: fit it first, or give a checkpoint with --ckpt_path")

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "crystals latent"], Float[Tensor, "crystals latent"]]:
        """Mean and log-variance of each crystal's latent."""
        return self._distribution(self.encoder(batch).float())

    @full_precision
    def _distribution(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(encoded)  # bounded: the exponential of the variance then is too
        return self.mu(hidden), self.log_var(hidden)

    @full_precision
    def decode_latent(self, latent: Float[Tensor, "crystals latent"], encoded: EncodedConditions) -> DecodedLatent:
        """Number of atoms, cell and composition under encoded conditions."""
        decoded: DecodedLatent = self.structure_heads(latent, self.condition_embedding(encoded))
        return decoded

    def denoiser(
        self,
        latent: Float[Tensor, "crystals latent"],
        num_atoms: Int[Tensor, " crystals"],
        lattice: Float[Tensor, "crystals 3 3"],
    ) -> Denoise:
        """The decoder as samplers see it, for latents mixed with their condition (`DecodedLatent.latent`)."""

        def denoise(frac_coords: Tensor, atomic_numbers: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
            timed = torch.cat([latent, self.time_embedding(level)], 1)
            output = self.decoder(timed, num_atoms, lattice, frac_coords, atomic_numbers)
            if output.type_logits is None:  # they are what they are
                if self.type_noise is not None:
                    raise ValueError(
                        f"{type(self.decoder).__name__} gives no type_logits: its attribute predict_types must be False"
                    )
                return output.vectors.float(), F.one_hot(atomic_numbers - 1, MAX_ATOMIC_NUMBER).float()
            return output.vectors.float(), output.type_logits.float()

        return denoise

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the names of the conditions."""
        complete_checkpoint(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model, or of one for other conditions than the data have."""
        trainer = loading_trainer(self, checkpoint)
        names = checkpoint["state_dict"]["condition_embedding._extra_state"]
        data = trainer.datamodule if trainer is not None else None  # type: ignore[attr-defined]
        if data is not None and names != data.conditions:
            raise ValueError(
                f"{self.trainer.ckpt_path} was trained for the conditions {names}, the data have {data.conditions}: "
                "name the same ones as data.conditions"
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted sum of all terms with fresh noise."""
        seeds = step_seeds(self.trainer, batch.num_graphs, self.device)
        draws = NoiseDraws.seeded(seeds, batch.num_atoms, self.latent_dim, self.coordinate_noise.num_levels)
        forced = self.teacher_forcing_epochs is None or self.current_epoch < self.teacher_forcing_epochs
        terms, _ = self._terms(batch, draws, true_cells=forced)
        means = {name: term.mean() for name, term in terms.items()}
        loss = torch.stack([getattr(self.loss_weights, name) * mean for name, mean in means.items()]).sum()
        logged = {"train/loss": loss, **{f"train/{name}": mean for name, mean in means.items()}}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=batch.num_graphs, sync_dist=True)
        return loss * weight_of_share(self.trainer, batch.num_graphs)

    def on_validation_start(self) -> None:
        """Refuse to validate what was never trained."""
        self.check_fitted()

    def on_validation_epoch_start(self) -> None:
        """Start over with the noise of validation."""
        self._evaluated = 0

    def on_test_start(self) -> None:
        """Refuse to test what was never trained."""
        self.check_fitted()

    def on_test_epoch_start(self) -> None:
        """Start over with the noise of testing."""
        self._evaluated = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log every term and the accuracies as `val/...`."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log every term and the accuracies as `test/...`."""
        self._evaluate(batch, "test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam and the schedule."""
        optimizer = Adam(self.parameters(), lr=self.learning_rate, fused=may_fuse(self))
        if self.schedule == "constant":
            return optimizer
        if self.schedule == "one_cycle":
            return one_cycle(optimizer, self.trainer)
        every = self.trainer.check_val_every_n_epoch or 1
        schedule = ReduceLROnPlateau(optimizer, factor=0.6, patience=30 // every, min_lr=1e-4)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss", "frequency": every},
        }

    def _evaluate(self, batch: Batch, prefix: str) -> None:
        position = self._evaluated + torch.arange(batch.num_graphs, device=self.device)
        self._evaluated += batch.num_graphs
        # Each process sees every world_size-th crystal of the set.
        position = position * self.trainer.world_size + self.trainer.global_rank
        levels = self.coordinate_noise.num_levels
        draws = NoiseDraws.seeded(batch.row, batch.num_atoms, self.latent_dim, levels, position)
        terms, metrics = self._terms(batch, draws, true_cells=self.validate_in_true_cells)
        means = {name: term.mean() for name, term in {**terms, **metrics}.items()}
        loss = self.loss_weights.coordinate * means["coordinate"]
        if "type" in means:
            loss = loss + self.loss_weights.type * means["type"]
        logged = {f"{prefix}/loss": loss, **{f"{prefix}/{name}": mean for name, mean in means.items()}}
        self.log_dict(logged, batch_size=batch.num_graphs, sync_dist=True)

    def _terms(self, batch: Batch, draws: NoiseDraws, true_cells: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Terms of the loss and further metrics, each [B], per crystal."""
        mu, log_var = self.encode(batch)
        latent = mu + torch.exp(0.5 * log_var) * draws.latent
        encoded = self.condition_embedding.encode(batch.conditions, requested=False)
        decoded = self.decode_latent(latent, self.condition_embedding.hide(encoded, draws.condition))
        cell_error = decoded.cell - self.lattice_scaler(batch.lattice, batch.num_atoms)
        composition = torch.log_softmax(decoded.composition_logits, 1)
        terms = {
            "kl": -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(1),
            "property": self.property_head.loss(latent, encoded),
            "num_atoms": F.cross_entropy(decoded.num_atoms_logits, batch.num_atoms, reduction="none"),
            "lattice": cell_error.square().mean(1),
            "composition": mean_over_atoms(
                -composition[batch.batch, batch.atomic_numbers - 1], batch.batch, batch.num_graphs
            ),
        }
        check_finite(self, terms, batch.row)
        # Cells and compositions are given to the decoder as data: no gradient flows back through them.
        cells = batch.lattice if true_cells else self.lattice_scaler.cells(decoded.cell.detach(), batch.num_atoms)
        noisy_coords = self.coordinate_noise.corrupt(
            batch.frac_coords, cells, draws.level, batch.batch, draws.coordinates
        )
        noisy_types = batch.atomic_numbers
        if self.type_noise is not None:
            noisy_types = self.type_noise.corrupt(
                noisy_types, composition.detach().exp(), draws.level, batch.batch, draws.types
            )
        denoise = self.denoiser(decoded.latent, batch.num_atoms, cells)
        vectors, type_logits = denoise(noisy_coords, noisy_types, draws.level)
        # The released code, too, measures displacements in the true cell whatever cell the decoder saw.
        terms["coordinate"] = self.coordinate_noise.loss(
            vectors, batch.frac_coords, noisy_coords, batch.lattice, draws.level, batch.batch
        )
        metrics = self._metrics(batch, decoded)
        if self.type_noise is not None:
            terms["type"] = self.type_noise.loss(type_logits, batch.atomic_numbers, draws.level, batch.batch)
            right_type = (type_logits.argmax(1) + 1 == batch.atomic_numbers).float()
            metrics["type_accuracy"] = mean_over_atoms(right_type, batch.batch, batch.num_graphs)
        check_finite(self, terms, batch.row)
        return terms, metrics

    @torch.no_grad()
    def _metrics(self, batch: Batch, decoded: DecodedLatent) -> dict[str, Tensor]:
        lengths, angles = self.lattice_scaler.parameters_of(decoded.cell, batch.num_atoms)
        true_lengths, true_angles = self.lattice_scaler.parameters_of(
            self.lattice_scaler(batch.lattice, batch.num_atoms), batch.num_atoms
        )
        return {
            "num_atoms_accuracy": (decoded.num_atoms_logits.argmax(1) == batch.num_atoms).float(),
            "lengths_mard": ((lengths - true_lengths).abs() / true_lengths).mean(1),
            "angles_mae": (angles - true_angles).abs().mean(1),
        }
