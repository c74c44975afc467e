"""The latent prior: with it a trained autoencoder generates crystals under given conditions."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from jaxtyping import Bool, Float, Int
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch_geometric.data import Batch

from matwheel.data.compositions import valid_compositions
from matwheel.data.conditions import SampleRequests
from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable
from matwheel.diffusion.samplers import Atoms, Cells, Denoise, DenoisingSampler, Sampler, Sites
from matwheel.models.checkpoints import complete_checkpoint, load_weights, loading_trainer
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latents import LatentDataModule
from matwheel.models.unpack import Provenance, unpack_crystals
from matwheel.nn.condition import EncodedConditions
from matwheel.nn.templates import Template
from matwheel.progress import progress_bar
from matwheel.seeded import derive_seeds

_LATENTS = -1
"""Part of a crystal's seed from which its latents are drawn; the other parts, from 0, are its atoms'."""


class Outline(NamedTuple):
    """What is known of n crystals before any atom is placed.

    Attributes:
        cells: Empty cells.
        latent: [n, D], mixed with the conditions, by which a decoder fills the cells.
        consistent: [n], whether the template has as many atoms as the latent says; true where there is none.
        template: What they are modelled on; None if on nothing.
    """

    cells: Cells
    latent: Float[Tensor, "n latent"]
    consistent: Bool[Tensor, " n"]
    template: Template | None


class LatentPrior(L.LightningModule, ABC):
    """Distribution of a trained autoencoder's latents under conditions, and the generator that the two make together.

    It learns from latents (`LatentDataModule`), predicts crystals from requests (`ConditionDataModule`), and its
    checkpoint holds the autoencoder, which stays as it is.

    Args:
        vae: The autoencoder.
        sampler: Places the atoms; `DenoisingSampler` by default.
        oversample: Latents drawn per crystal, of which the one whose property head agrees best with the condition is
            decoded.
        valid_compositions: Whether, of several latents drawn per crystal, those come first in whose composition charges
            can balance (`is_valid_composition`). A composition is known before any atom is placed, and kept by
            `DenoisingSampler`.
        max_atoms_per_batch: Crystals are decoded so many atoms at a time, which bounds the memory.
        vae_checkpoint: Checkpoint of the autoencoder, loaded when a fit begins; for a `vae` that is not trained yet.
    """

    checkpoint_kind = "LatentPrior"
    trains = True
    """Whether there are weights to train; else the training crystals and their latents are all it needs."""
    template_noise: float | None = None
    """A, most noise with which atoms leave the sites of `templates_of`; None if crystals are modelled on none."""

    def __init__(
        self,
        vae: ConCDVAE,
        sampler: Sampler | None = None,
        oversample: int = 1,
        valid_compositions: bool = True,
        max_atoms_per_batch: int = 2048,
        vae_checkpoint: Path | None = None,
    ) -> None:
        super().__init__()
        if oversample < 1 or max_atoms_per_batch < 1:
            raise ValueError(
                f"oversample ({oversample}) and max_atoms_per_batch ({max_atoms_per_batch}) must be at least 1"
            )
        self.save_hyperparameters("oversample", "valid_compositions", "max_atoms_per_batch")
        self.vae = vae.requires_grad_(False).eval()
        self.sampler = sampler if sampler is not None else DenoisingSampler()
        self.oversample = oversample
        self.valid_compositions = valid_compositions
        self.max_atoms_per_batch = max_atoms_per_batch
        self.vae_checkpoint = vae_checkpoint
        self.provenance: Provenance | None = None
        """Written into the origin of predicted crystals; by default a hash of the weights, and round 0."""

    def take_crystals(self, crystals: Iterable[Batch], ids: Sequence[str]) -> None:
        """Before a fit, see all training crystals, in batches with `conditions`, and their names."""

    @abstractmethod
    def _draw(self, conditions: Tensor, seeds: Tensor) -> Tensor:
        """[n, D], a latent for each row of conditions [n, C] in the user's units and seed [n]."""

    def templates_of(self, latents: Float[Tensor, "n latent"]) -> Template | None:
        """Known crystals on which those of latents [n, D] are modelled; None if they are modelled on none."""
        return None

    @property
    def elements(self) -> Bool[Tensor, 100]:
        """What crystals may be made of; column a is atomic number a + 1."""
        return torch.ones(MAX_ATOMIC_NUMBER, dtype=torch.bool, device=self.device)

    @property
    def condition_names(self) -> list[str]:
        """The conditions, in the order of columns."""
        return self.vae.condition_embedding.names

    @property
    def drawing(self) -> dict[str, float]:
        """Options that decide what is drawn, and nothing about the fit."""
        return {"oversample": self.oversample, "valid_compositions": self.valid_compositions}

    @property
    def latents(self) -> LatentDataModule:
        """What a fit learns from."""
        data: LatentDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def train(self, mode: bool = True) -> LatentPrior:
        """Switch between training and evaluation; the autoencoder always evaluates."""
        super().train(mode)
        self.vae.eval()
        return self

    def setup(self, stage: str) -> None:
        """Before a fit, load the autoencoder if need be."""
        if stage != "fit" and (stage != "validate" or self.trains):
            return
        if self.vae_checkpoint is not None:
            load_weights(self.vae, self.vae_checkpoint)
        data = self.latents
        if not isinstance(data, LatentDataModule):
            raise ValueError("the prior trains on latents: wrap the crystals' data module in a LatentDataModule")
        if data.conditions != self.condition_names:
            raise ValueError(
                f"the autoencoder was trained for the conditions {self.condition_names}, the data have "
                f"{data.conditions}: train both on the same ones"
            )

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

    def on_predict_start(self) -> None:
        """Refuse to generate with what was never trained, and find out who is generating."""
        self.vae.check_fitted()
        self._weights = Provenance(self.weights_hash())

    def predict_step(self, batch: SampleRequests, batch_idx: int) -> CrystalTable:
        """Generate the crystals requested."""
        provenance = self.provenance if self.provenance is not None else self._weights
        progress = self.trainer.is_global_zero and self.trainer.progress_bar_callback is not None
        return self.sample(batch.conditions, batch.seed, batch.index, provenance, progress)

    @torch.inference_mode()
    def sample(
        self,
        conditions: Float[Tensor, "n conditions"],
        seeds: Int[Tensor, " n"],
        index: Int[Tensor, " n"],
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
            provenance: What made these crystals.
            progress: Show a progress bar.

        Raises:
            ValueError: If a condition is missing or of an unknown class.
        """
        latents = self.draw_latents(conditions, seeds)
        return self.decode(latents, conditions, seeds, index, provenance, progress)

    @torch.inference_mode()
    def draw_latents(
        self, conditions: Float[Tensor, "n conditions"], seeds: Int[Tensor, " n"]
    ) -> Float[Tensor, "n latent"]:
        """A latent per request: of several drawn, the one that the property head finds closest to the request.

        With `valid_compositions` those with a valid composition come first; among these, or among all, those that say
        as many atoms as their template has.

        Args:
            conditions: [n, C], user's units.
            seeds: [n] int64.
        """
        oversample = self.oversample
        conditions, seeds = conditions.to(self.device, torch.float32), seeds.to(self.device)
        conditions, repeated = conditions.repeat_interleave(oversample, 0), seeds.repeat_interleave(oversample)
        turn = torch.arange(oversample, device=self.device).repeat(len(seeds))
        with self._evaluating():
            latents = self._draw(conditions, derive_seeds(derive_seeds(repeated, _LATENTS), turn))
            encoded = self.vae.condition_embedding.encode(conditions)
            error = self.vae.property_head.loss(latents, encoded).view(-1, oversample)
            if oversample > 1:
                merit = self._merit(latents, encoded, repeated).view_as(error)
                error = error.masked_fill(merit < merit.amax(1, keepdim=True), torch.inf)
        best = error.argmin(1)
        return latents.view(len(seeds), oversample, -1)[torch.arange(len(seeds), device=self.device), best]

    def _merit(self, latents: Tensor, encoded: EncodedConditions, seeds: Tensor) -> Tensor:
        """[n], higher for latents that are to be decoded first, whatever their property."""
        outline = self._outline(latents, encoded, seeds)
        merit = outline.consistent.long()
        if self.valid_compositions:
            types = replace(outline.cells, sites=None).types()  # in any order
            valid = valid_compositions(types.cpu().numpy(), outline.cells.num_atoms.cpu().numpy())
            merit += 2 * torch.from_numpy(valid).to(self.device)
        return merit

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
        """Make a crystal of each latent, as `sample` does of those it draws."""
        conditions, seeds = conditions.to(self.device, torch.float32), seeds.to(self.device)
        with self._evaluating():
            outline = self._outline(latents, self.vae.condition_embedding.encode(conditions), seeds)
            atoms = self._fill(outline.cells, outline.latent, progress)
        parents = outline.template.ids if outline.template is not None else None
        return unpack_crystals(atoms, outline.cells, index, self.condition_names, conditions, provenance, parents)

    def _outline(self, latents: Tensor, encoded: EncodedConditions, seeds: Tensor) -> Outline:
        decoded = self.vae.decode_latent(latents, encoded)
        num_atoms, cell, sites = decoded.most_likely_num_atoms(), decoded.cell, None
        consistent = torch.ones_like(num_atoms, dtype=torch.bool)
        template = self.templates_of(latents)
        if template is not None:
            assert self.template_noise is not None
            consistent = num_atoms == template.num_atoms
            num_atoms, cell = template.num_atoms, cell + template.cell_error
            sites = Sites(template.frac_coords, template.atomic_numbers, self.template_noise)
        lattice = self.vae.lattice_scaler.cells(cell, num_atoms)
        extent = self.vae.vacuum.extent(lattice, num_atoms)
        composition = decoded.composition_logits.masked_fill(~self.elements, -torch.inf).softmax(1)
        cells = Cells(lattice, num_atoms, composition, extent, seeds, sites)
        return Outline(cells, decoded.latent, consistent, template)

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

    def _fill(self, cells: Cells, latent: Tensor, progress: bool) -> Atoms:
        """Place atoms, a bounded number at a time."""
        noise = self.vae.coordinate_noise
        parts = list(_parts_by_atoms(cells.num_atoms.tolist(), self.max_atoms_per_batch))
        filled = []
        calls = len(self.sampler.steps(noise, cells.max_sigma))
        with progress_bar("sampling", len(parts) * calls, "step", progress) as bar:
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


class CrystalsTaken(Callback):
    """Lets a prior see the training crystals when a validation begins: a fit of one without weights to train."""

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See above."""
        assert isinstance(pl_module, LatentPrior)
        pl_module.take_crystals(pl_module.latents.training_crystals(), pl_module.latents.training_ids())


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
