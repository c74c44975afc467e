"""The latent prior of Con-CDVAE: a diffusion model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from matwheel.diffusion.draws import spread
from matwheel.diffusion.latent import LatentDiffusion
from matwheel.diffusion.samplers import Sampler
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.finite import check_finite
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.latents import LatentBatch
from matwheel.models.optimisation import check_learning_rate, may_fuse
from matwheel.models.processes import step_seeds, weight_of_share
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.prior_network import PriorNetwork
from matwheel.precision import full_precision
from matwheel.seeded import seeded_normal, seeded_uniform

_VALIDATION_STEPS = 20  # diffusion steps at which each validation latent is looked at


class DiffusionPrior(LatentPrior):
    """Latents by a conditional diffusion model, as published (Ye, Weng & Wu, Comput. Mater. Today 1, 100003, 2024).

    Args:
        vae: See `LatentPrior`.
        sampler: See `LatentPrior`.
        diffusion: Schedule of the diffusion; the paper's by default.
        condition_embedding: Embedding of the same conditions as the autoencoder's; one like it by default.
        network: Predicts the noise in a latent; `PriorNetwork` in the sizes of the autoencoder by default.
        learning_rate: Learning rate of Adam.
        guidance: How strongly conditions are followed (classifier-free guidance; Ho & Salimans, arXiv 2207.12598): 1 as
            learned, more exaggerates what sets a condition apart, 0 ignores it. Other values than 1 need a
            condition_embedding with `dropout`.
        oversample: See `LatentPrior`.
        valid_compositions: See `LatentPrior`.
        max_atoms_per_batch: See `LatentPrior`.
        vae_checkpoint: See `LatentPrior`.
    """

    def __init__(
        self,
        vae: ConCDVAE,
        sampler: Sampler | None = None,
        diffusion: LatentDiffusion | None = None,
        condition_embedding: ConditionEmbedding | None = None,
        network: PriorNetwork | None = None,
        learning_rate: float = 1e-3,
        guidance: float = 1.0,
        oversample: int = 1,
        valid_compositions: bool = True,
        max_atoms_per_batch: int = 2048,
        vae_checkpoint: Path | None = None,
    ) -> None:
        check_learning_rate(learning_rate)
        super().__init__(vae, sampler, oversample, valid_compositions, max_atoms_per_batch, vae_checkpoint)
        self.save_hyperparameters("learning_rate", "guidance")
        self.diffusion = diffusion if diffusion is not None else LatentDiffusion()
        if condition_embedding is None:
            condition_embedding = vae.condition_embedding.unfitted_copy()
        self.condition_embedding = condition_embedding
        if guidance != 1 and not condition_embedding.dropout:
            raise ValueError(f"guidance {guidance:g} compares with no condition: set the condition embedding's dropout")
        if network is None:
            network = PriorNetwork(vae.latent_dim, condition_embedding.out_dim)
        self.network = network
        self.learning_rate = learning_rate
        self.guidance = guidance

    @property
    def drawing(self) -> dict[str, float]:
        """See `LatentPrior.drawing`."""
        return {**super().drawing, "guidance": self.guidance}

    def setup(self, stage: str) -> None:
        """Before training, fit the embedding of conditions."""
        super().setup(stage)
        if stage == "fit":
            self.condition_embedding.fit(self.latents.conditions, self.latents.training_statistics().conditions)

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
        encoded = self.condition_embedding.encode(batch.conditions, requested=False)
        encoded = self.condition_embedding.hide(encoded, chance)
        noisy = self.diffusion.corrupt(batch.latents, step, noise)
        predicted = self.network(noisy, step, self.condition_embedding(encoded))
        errors = F.mse_loss(predicted, noise, reduction="none").mean(1)
        check_finite(self, {"noise": errors}, batch.row)
        return errors.mean()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam on the prior; the autoencoder is frozen."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return Adam(trained, lr=self.learning_rate, fused=may_fuse(self))

    def _draw(self, conditions: Tensor, seeds: Tensor) -> Tensor:
        return self.diffusion.sample(self._guided(conditions), seeds, self.vae.latent_dim)

    def _guided(self, conditions: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The network under conditions [n, C], moved away from itself without them if guidance is not 1."""
        under = self.condition_embedding(self.condition_embedding.encode(conditions))
        if self.guidance == 1:
            return lambda latent, step: self.network(latent, step, under)
        without = self.condition_embedding(self.condition_embedding.encode(torch.full_like(conditions, torch.nan)))
        both = torch.cat([without, under])

        def predict_noise(latent: Tensor, step: Tensor) -> Tensor:
            none, given = self.network(latent.repeat(2, 1), step.repeat(2), both).chunk(2)
            return torch.lerp(none, given, self.guidance)

        return predict_noise
