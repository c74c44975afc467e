"""Heads of the conditional autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.nn.condition import EncodedConditions
from matwheel.nn.mlp import mlp
from matwheel.precision import full_precision


class PropertyHead(nn.Module):
    """Reads the conditions off a latent, which shapes the latent space and lets latents be chosen by condition.

    Args:
        latent_dim: Width of the latent.
        num_scalars: Scalar conditions.
        num_class_conditions: Class conditions.
        max_classes: Classes per class condition.
        hidden_dim: Width of the two hidden layers.
    """

    def __init__(
        self, latent_dim: int, num_scalars: int, num_class_conditions: int, max_classes: int, hidden_dim: int = 256
    ) -> None:
        super().__init__()
        self.scalars = nn.ModuleList(mlp(latent_dim, hidden_dim, 2, 1, batch_norm=True) for _ in range(num_scalars))
        self.classes = nn.ModuleList(nn.Linear(latent_dim, max_classes) for _ in range(num_class_conditions))

    @full_precision
    def loss(self, latent: Float[Tensor, "n latent"], conditions: EncodedConditions) -> Float[Tensor, " n"]:
        """Squared error of each scalar and cross-entropy of each class, summed over the conditions that are given.

        Errors of scalars are in units of their training variance: 1 for a head that says the mean. Con-CDVAE scales
        by the range instead; of a property with a heavy tail nearly nothing is left then, and the latent forgets it.
        """
        loss = torch.zeros(len(latent), device=latent.device)
        for head, scalar in zip(self.scalars, conditions.scalars.unbind(1), strict=True):
            error = head(latent).squeeze(1) - scalar.nan_to_num()
            loss = loss + torch.where(scalar.isnan(), 0.0, error.square())
        for head, label in zip(self.classes, conditions.classes.unbind(1), strict=True):
            loss = loss + F.cross_entropy(head(latent), label, ignore_index=-1, reduction="none")
        return loss


@dataclass(frozen=True)
class DecodedLatent:
    """What a latent says about a crystal before any atom is placed.

    Attributes:
        latent: [B, latent_dim], mixed with the condition.
        num_atoms_logits: [B, max_atoms + 1].
        cell: [B, 6], standardised cell parameters, unbounded.
        composition_logits: [B, 100], column a is atomic number a + 1.
    """

    latent: Float[Tensor, "crystals latent"]
    num_atoms_logits: Float[Tensor, "crystals counts"]
    cell: Float[Tensor, "crystals 6"]
    composition_logits: Float[Tensor, "crystals 100"]

    def most_likely_num_atoms(self) -> Int[Tensor, " crystals"]:
        """At least 1 for every crystal."""
        return self.num_atoms_logits[:, 1:].argmax(1) + 1


class StructureHeads(nn.Module):
    """Mixes a latent with its condition, and reads number of atoms, cell and composition off the mixture.

    Args:
        latent_dim: Width of the latent and of the mixture.
        condition_dim: Width of the condition's embedding.
        max_atoms: Largest number of atoms.
        hidden_dim: Width of the hidden layers.
    """

    def __init__(self, latent_dim: int, condition_dim: int, max_atoms: int, hidden_dim: int = 256) -> None:
        super().__init__()
        self.mix = mlp(latent_dim + condition_dim, hidden_dim, 1, latent_dim, batch_norm=True)
        self.num_atoms = mlp(latent_dim, hidden_dim, 1, max_atoms + 1, batch_norm=True)
        self.cell = mlp(latent_dim, hidden_dim, 1, 6, batch_norm=True)
        self.composition = mlp(latent_dim, hidden_dim, 1, MAX_ATOMIC_NUMBER, batch_norm=True)

    def forward(
        self, latent: Float[Tensor, "crystals latent"], condition: Float[Tensor, "crystals condition"]
    ) -> DecodedLatent:
        """Decode latents under embedded conditions."""
        mixed = self.mix(torch.cat([latent, condition], 1))
        return DecodedLatent(mixed, self.num_atoms(mixed), self.cell(mixed), self.composition(mixed))

    @torch.no_grad()
    def rescale_cells(self, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> None:
        """Predict the same cells as before on another scale (mean and spread, [6] each)."""
        (old_mean, old_std), (mean, std) = before, after
        last = cast(nn.Linear, self.cell[-1])
        last.weight.mul_((old_std / std)[:, None])
        last.bias.mul_(old_std / std).add_((old_mean - mean) / std)
