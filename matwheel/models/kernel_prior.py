"""The default latent prior: a kernel density, and known crystals as templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch_geometric.data import Batch

from matwheel.diffusion.samplers import Sampler
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.latents import LatentBatch
from matwheel.nn.latent_density import LatentDensity
from matwheel.nn.templates import Template, Templates, encode_names


class KernelPrior(LatentPrior):
    """Latents near those of training crystals of similar conditions; see `LatentDensity`. There is nothing to train.

    A few hundred latents are too few for a diffusion model to learn where latents are and what they owe to their
    conditions (experiments/latent_prior), and a few hundred crystals for a decoder to learn where atoms sit exactly. So
    each crystal is modelled on a template, the training crystal with the nearest latent: it has as many atoms, they
    begin near its sites, and its cell differs from the template's as the decoded one of its latent does from that of
    the template's latent (`Templates`). What it is made of, its latent says. The prior holds the training crystals and
    their latents.

    Args:
        vae: See `LatentPrior`.
        sampler: See `LatentPrior`.
        bandwidth: Share of noise in a latent, from 0 (those of training crystals) to 1 (conditions are ignored). Less
            gives crystals more like real ones, more gives more new ones.
        template_noise: A, most noise with which atoms leave the sites of the template; the first step of the sampler
            that has no more is where they begin. None to do without templates: cells are as decoded, and atoms begin
            anywhere.
        oversample: See `LatentPrior`.
        valid_compositions: See `LatentPrior`.
        max_atoms_per_batch: See `LatentPrior`.
        vae_checkpoint: See `LatentPrior`.
    """

    trains = False

    def __init__(
        self,
        vae: ConCDVAE,
        sampler: Sampler | None = None,
        bandwidth: float = 0.4,
        template_noise: float | None = 0.25,
        oversample: int = 1,
        valid_compositions: bool = True,
        max_atoms_per_batch: int = 2048,
        vae_checkpoint: Path | None = None,
    ) -> None:
        super().__init__(vae, sampler, oversample, valid_compositions, max_atoms_per_batch, vae_checkpoint)
        if not 0 <= bandwidth <= 1:
            raise ValueError(f"the bandwidth is the share of noise in a latent, in [0, 1], not {bandwidth:g}")
        if template_noise is not None and not self.sampler.steps(vae.coordinate_noise, template_noise):
            raise ValueError(
                f"the sampler has no step with a noise of at most {template_noise:g} A: raise template_noise, give the "
                "sampler more steps, or set template_noise to null, for no templates"
            )
        self.save_hyperparameters("bandwidth", "template_noise")
        self.bandwidth = bandwidth
        self.template_noise = template_noise
        self.density = LatentDensity(vae.latent_dim)
        self.templates = Templates()

    @property
    def drawing(self) -> dict[str, float]:
        """See `LatentPrior.drawing`."""
        return {**super().drawing, "bandwidth": self.bandwidth}

    def on_fit_start(self) -> None:
        """Take over the training crystals.

        Raises:
            ValueError: If there are several processes.
        """
        if self.trainer.world_size > 1:
            raise ValueError("this prior has no weights to train, and needs one process: set --trainer.devices 1")
        self.take_crystals(self.latents.training_crystals(), self.latents.training_ids())

    @torch.no_grad()
    def take_crystals(self, crystals: Iterable[Batch], ids: Sequence[str]) -> None:
        """Keep the training crystals and their latents."""
        latents, conditions, templates = [], [], []
        names, first = encode_names(ids).to(self.device), 0
        for batch in crystals:
            batch = batch.to(self.device)
            latents.append(self.encode(batch))
            conditions.append(batch.conditions)
            encoded = self.vae.condition_embedding.encode(batch.conditions, requested=False)
            decoded = self.vae.decode_latent(latents[-1], encoded)
            cell_error = self.vae.lattice_scaler(batch.lattice, batch.num_atoms) - decoded.cell
            own = slice(first, first + len(cell_error))
            first = own.stop
            templates.append(Template(names[own], batch.num_atoms, batch.atomic_numbers, batch.frac_coords, cell_error))
        known = self.vae.condition_embedding.encode(torch.cat(conditions), requested=False)
        self.density.fit(torch.cat(latents), known)
        self.templates.fit(templates)

    @property
    def elements(self) -> Tensor:
        """Those of the training crystals: of others nothing is known."""
        return torch.zeros_like(super().elements).index_fill(0, self.templates.atomic_numbers - 1, True)

    def templates_of(self, latents: Tensor) -> Template | None:
        """The training crystals with the nearest latents, if any are to be modelled on."""
        if self.template_noise is None:
            return None
        # In float32 the nearest of two like crystals may depend on what else is in the batch.
        distances = torch.cdist(latents.double(), self.density.latents.double())
        return self.templates.take(distances.argmin(1))

    def make_room(self, state: Mapping[str, Any]) -> None:
        """Before weights are loaded, take the sizes of what they hold of the training crystals."""
        self.density.make_room(state, "density.")
        self.templates.make_room(state, "templates.")

    def training_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Nothing."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """None."""
        return None

    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Log how far a latent drawn for the conditions of each crystal is from them, as the property head sees it."""
        conditions = self.vae.condition_embedding.encode(batch.conditions, requested=False)
        latents = self.density.sample(conditions, batch.position, self.bandwidth)
        errors = self.vae.property_head.loss(latents, conditions)
        self.log("val/loss", errors.mean(), batch_size=len(batch.position), sync_dist=True)

    def _draw(self, conditions: Tensor, seeds: Tensor) -> Tensor:
        return self.density.sample(self.vae.condition_embedding.encode(conditions), seeds, self.bandwidth)
