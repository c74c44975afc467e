"""The latent prior: with it a trained autoencoder generates crystals under given conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam
from torch_geometric.data import Batch

from matwheel.data.conditions import SampleRequests
from matwheel.data.crystal import CrystalTable
from matwheel.diffusion.draws import spread
from matwheel.diffusion.latent import LatentDiffusion
from matwheel.diffusion.samplers import Atoms, Cells, Denoise, DenoisingSampler, Sampler
from matwheel.models.checkpoints import complete_checkpoint, load_weights, loading_trainer
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.finite import check_finite
from matwheel.models.latents import LatentBatch, LatentDataModule
from matwheel.models.optimisation import may_fuse
from matwheel.models.processes import step_seeds, weight_of_share
from matwheel.models.unpack import Provenance, unpack_crystals
from matwheel.nn.condition import ConditionEmbedding, EncodedConditions
from matwheel.nn.prior_network import GaussianPrior, NoisePredictor
from matwheel.precision import full_precision
from matwheel.progress import progress_bar
from matwheel.seeded import derive_seeds, seeded_normal, seeded_uniform

_VALIDATION_STEPS = 20  # diffusion steps at which each validation latent is looked at


class LatentPrior(L.LightningModule):
    """Diffusion model of a trained autoencoder's latents, and the generator that the two make together.

    It trains on latents (`LatentDataModule`), predicts crystals from requests (`ConditionDataModule`), and its
    checkpoint holds the autoencoder, which stays as it is.

    Args:
        vae: The autoencoder.
        sampler: Places the atoms; `DenoisingSampler` by default.
        diffusion: Schedule of the diffusion; the paper's by default.
        condition_embedding: Embedding of the same conditions as the autoencoder's; one like it by default.
        network: Predicts the noise in a latent; by default `GaussianPrior`, `PriorNetwork` is the paper's.
        learning_rate: Learning rate of Adam.
        oversample: Latents drawn per crystal, of which the one whose property head agrees best with the condition is
            decoded.
        guidance: How strongly conditions are followed (classifier-free guidance; Ho & Salimans, arXiv 2207.12598): 1 as
            learned, more exaggerates what sets a condition apart, 0 ignores it. Other values than 1 need a
            condition_embedding with `dropout`.
        max_atoms_per_batch: Crystals are decoded so many atoms at a time, which bounds the memory.
        vae_checkpoint: Checkpoint of the autoencoder, loaded when a fit begins; for a `vae` that is not trained yet.
    """

    def __init__(
        self,
        vae: ConCDVAE,
        sampler: Sampler | None = None,
        diffusion: LatentDiffusion | None = None,
        condition_embedding: ConditionEmbedding | None = None,
        network: NoisePredictor | None = None,
        learning_rate: float = 1e-3,
        oversample: int = 1,
        guidance: float = 1.0,
        max_atoms_per_batch: int = 2048,
        vae_checkpoint: Path | None = None,
    ) -> None:
        super().__init__()
        if oversample < 1 or max_atoms_per_batch < 1:
            raise ValueError(
                f"oversample ({oversample}) and max_atoms_per_batch ({max_atoms_per_batch}) must be at least 1"
            )
        self.save_hyperparameters("learning_rate", "oversample", "guidance", "max_atoms_per_batch")
        self.vae = vae.requires_grad_(False).eval()
        self.sampler = sampler if sampler is not None else DenoisingSampler()
        self.diffusion = diffusion if diffusion is not None else LatentDiffusion()
        if condition_embedding is None:
            condition_embedding = vae.condition_embedding.unfitted_copy()
        self.condition_embedding = condition_embedding
        if guidance != 1 and not condition_embedding.dropout:
            raise ValueError(f"guidance {guidance:g} compares with no condition: set the condition embedding's dropout")
        if network is None:
            network = GaussianPrior(vae.latent_dim, condition_embedding.out_dim, condition_embedding.num_features)
        self.network = network
        self.learning_rate = learning_rate
        self.oversample = oversample
        self.guidance = guidance
        self.max_atoms_per_batch = max_atoms_per_batch
        self.vae_checkpoint = vae_checkpoint
        self.provenance: Provenance | None = None
        """Written into the origin of predicted crystals; by default a hash of the weights, and round 0."""

    @property
    def condition_names(self) -> list[str]:
        """The conditions, in the order of columns."""
        return self.vae.condition_embedding.names

    def train(self, mode: bool = True) -> LatentPrior:
        """Switch between training and evaluation; the autoencoder always evaluates."""
        super().train(mode)
        self.vae.eval()
        return self

    def setup(self, stage: str) -> None:
        """Before training, load the autoencoder if need be and fit the embedding of conditions."""
        if stage != "fit":
            return
        if self.vae_checkpoint is not None:
            load_weights(self.vae, self.vae_checkpoint)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, LatentDataModule):
            raise ValueError("the prior trains on latents: wrap the crystals' data module in a LatentDataModule")
        if data.conditions != self.condition_names:
            raise ValueError(
                f"the autoencoder was trained for the conditions {self.condition_names}, the data have "
                f"{data.conditions}: train both on the same ones"
            )
        self.condition_embedding.fit(data.conditions, data.training_statistics().conditions)

    def on_fit_start(self) -> None:
        """Let the network see the latents that it is to learn."""
        latents = self.trainer.datamodule.training_latents()  # type: ignore[attr-defined]
        encoded = self.condition_embedding.encode(latents.conditions.to(self.device))
        self.network.fit(latents.latents, self.condition_embedding.features(encoded))

    @torch.no_grad()
    def encode(self, batch: Batch) -> Float[Tensor, "crystals latent"]:
        """What the prior learns to generate: the mean of each crystal's latent."""
        return self.vae.encode(batch)[0]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the names of the conditions."""
        complete_checkpoint(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model."""
        loading_trainer(self, checkpoint)

    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        """Squared error of the predicted noise at random steps."""
        seeds = step_seeds(self.trainer, len(batch.position), self.device)
        chance = seeded_uniform(seeds, 0, 2)
        step = (chance[:, 0] * self.diffusion.num_steps).long()
        loss = self._loss(batch, step, seeded_normal(seeds, 1, batch.latents.shape[1]), chance[:, 1])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.position), sync_dist=True)
        return loss * weight_of_share(self.trainer, len(batch.position))

    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Log the same with noise that never changes, averaged over steps."""
        losses = []
        for repeat in range(_VALIDATION_STEPS):
            step = spread(batch.position * _VALIDATION_STEPS + repeat, self.diffusion.num_steps)
            noise = seeded_normal(batch.position, repeat, batch.latents.shape[1])
            losses.append(self._loss(batch, step, noise))
        self.log("val/loss", torch.stack(losses).mean(), batch_size=len(batch.position), sync_dist=True)

    @full_precision
    def _loss(self, batch: LatentBatch, step: Tensor, noise: Tensor, chance: Tensor | None = None) -> Tensor:
        encoded = self.condition_embedding.hide(self.condition_embedding.encode(batch.conditions), chance)
        noisy = self.diffusion.corrupt(batch.latents, step, noise)
        predicted = self.network(noisy, step, self.diffusion.kept[step], *self._conditions(encoded))
        errors = F.mse_loss(predicted, noise, reduction="none").mean(1)
        check_finite(self, {"noise": errors}, batch.row)
        return errors.mean()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam on the prior; the autoencoder is frozen."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return Adam(trained, lr=self.learning_rate, fused=may_fuse(self))

    def on_predict_start(self) -> None:
        """Find out who is generating."""
        self._weights = Provenance(self.weights_hash())

    def predict_step(self, batch: SampleRequests, batch_idx: int) -> CrystalTable:
        """Generate the crystals requested."""
        provenance = self.provenance if self.provenance is not None else self._weights
        progress = self.trainer.is_global_zero and self.trainer.progress_bar_callback is not None
        return self.sample(batch.conditions, batch.seed, batch.index, self.oversample, provenance, progress)

    @torch.inference_mode()
    def sample(
        self,
        conditions: Float[Tensor, "n conditions"],
        seeds: Int[Tensor, " n"],
        index: Int[Tensor, " n"],
        oversample: int,
        provenance: Provenance,
        progress: bool = False,
    ) -> CrystalTable:
        """Generate one crystal per row of conditions, in float32.

        A crystal depends on the weights, its conditions and its seed; not on what else is generated beside it, apart
        from rounding.

        Args:
            conditions: [n, C], user's units, columns as in `condition_names`.
            seeds: [n] int64.
            index: [n], place of each in the whole set of requests, for its name.
            oversample: Latents drawn per crystal, at least 1; the best is decoded.
            provenance: What made these crystals.
            progress: Show a progress bar.

        Raises:
            ValueError: If a condition is missing or of an unknown class.
        """
        latents = self.draw_latents(conditions, seeds, oversample)
        return self.decode(latents, conditions, seeds, index, provenance, progress)

    @torch.inference_mode()
    def draw_latents(
        self, conditions: Float[Tensor, "n conditions"], seeds: Int[Tensor, " n"], oversample: int = 1
    ) -> Float[Tensor, "n latent"]:
        """A latent per request: of several drawn, the one that the property head finds closest to the request.

        Args:
            conditions: [n, C], user's units.
            seeds: [n] int64.
            oversample: Latents drawn per request, at least 1.
        """
        if oversample < 1:
            raise ValueError(f"oversample must be at least 1, not {oversample}")
        conditions, seeds = conditions.to(self.device, torch.float32), seeds.to(self.device)
        conditions = conditions.repeat_interleave(oversample, 0)
        turn = torch.arange(oversample, device=self.device).repeat(len(seeds))
        with self._evaluating():
            latents = self.diffusion.sample(
                self._guided(conditions),
                derive_seeds(seeds.repeat_interleave(oversample), turn),
                self.vae.latent_dim,
            )
            error = self.vae.property_head.loss(latents, self.vae.condition_embedding.encode(conditions))
        best = error.view(-1, oversample).argmin(1)
        return latents.view(len(seeds), oversample, -1)[torch.arange(len(seeds), device=self.device), best]

    @torch.inference_mode()
    def decode(
        self,
        latents: Float[Tensor, "n latent"],
        conditions: Float[Tensor, "n conditions"],
        seeds: Int[Tensor, " n"],
        index: Int[Tensor, " n"],
        provenance: Provenance,
        progress: bool = False,
    ) -> CrystalTable:
        """Make a crystal of each latent, as `sample` does of those it draws; of `encode` they are reconstructions."""
        conditions, seeds = conditions.to(self.device, torch.float32), seeds.to(self.device)
        with self._evaluating():
            decoded = self.vae.decode_latent(latents, self.vae.condition_embedding.encode(conditions))
            num_atoms = decoded.most_likely_num_atoms()
            lattice = self.vae.lattice_scaler.cells(decoded.cell, num_atoms)
            cells = Cells(lattice, num_atoms, decoded.composition_logits.softmax(1), seeds)
            atoms = self._fill(cells, decoded.latent, progress)
        return unpack_crystals(atoms, cells, index, self.condition_names, conditions, provenance)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode in float32, and back."""
        was_training = self.training
        self.eval()
        try:
            with torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            self.train(was_training)

    def _guided(self, conditions: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The network under conditions [n, C], moved away from itself without them if guidance is not 1."""
        kept = self.diffusion.kept
        under = self._conditions(self.condition_embedding.encode(conditions))
        if self.guidance == 1:
            return lambda latent, step: self.network(latent, step, kept[step], *under)
        without = self._conditions(self.condition_embedding.encode(torch.full_like(conditions, torch.nan)))
        pairs = [torch.cat(pair) for pair in zip(without, under, strict=True)]

        def predict_noise(latent: Tensor, step: Tensor) -> Tensor:
            latent, step = latent.repeat(2, 1), step.repeat(2)
            none, given = self.network(latent, step, kept[step], *pairs).chunk(2)
            return torch.lerp(none, given, self.guidance)

        return predict_noise

    def _conditions(self, encoded: EncodedConditions) -> tuple[Tensor, Tensor]:
        """Conditions as the network takes them: embedded, and as features."""
        return self.condition_embedding(encoded), self.condition_embedding.features(encoded)

    def _fill(self, cells: Cells, latent: Tensor, progress: bool) -> Atoms:
        """Place atoms, a bounded number at a time."""
        noise = self.vae.coordinate_noise
        parts = list(_parts_by_atoms(cells.num_atoms.tolist(), self.max_atoms_per_batch))
        filled = []
        with progress_bar("sampling", len(parts) * self.sampler.num_calls(noise), "step", progress) as bar:
            for part in parts:
                some = cells.take(part)
                denoise = self.vae.denoiser(latent[part], some.num_atoms, some.lattice)
                filled.append(self.sampler.sample(_counting(denoise, bar.update), noise, some))
        return Atoms(*(torch.cat(columns) for columns in zip(*filled, strict=True)))

    def weights_hash(self) -> str:
        """Hash of all weights and buffers: identifies the generator in what it made."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            data = (
                value.detach().cpu().contiguous().numpy().tobytes()
                if isinstance(value, Tensor)
                else repr(value).encode()
            )
            digest.update(data)
        return digest.hexdigest()


def _parts_by_atoms(num_atoms: list[int], limit: int) -> Iterator[slice]:
    """Consecutive crystals that hold at most `limit` atoms together, or one crystal that holds more."""
    start, atoms = 0, 0
    for position, count in enumerate(num_atoms):
        if position > start and atoms + count > limit:
            yield slice(start, position)
            start, atoms = position, 0
        atoms += count
    yield slice(start, len(num_atoms))


def _counting(denoise: Denoise, count: Callable[[], object]) -> Denoise:
    def counted(frac_coords: Tensor, atomic_numbers: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        output = denoise(frac_coords, atomic_numbers, level)
        count()
        return output

    return counted
