"""Displacements in periodic cells."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matwheel.precision import full_precision


@full_precision
def minimum_image(
    difference: Float[Tensor, "atoms 3"],
    lattice: Float[Tensor, "crystals 3 3"],
    batch: Int[Tensor, " atoms"],
) -> Float[Tensor, "atoms 3"]:
    """The shortest of all periodic images of a displacement, exact for any cell however skewed.

    In a reduced cell, rounding to the nearest cell and looking at its 26 neighbours finds the shortest image. In other
    cells, farther images that could be shorter still are searched as well.

    Args:
        difference: [N, 3], fractional displacement.
        lattice: [B, 3, 3], A, rows are lattice vectors.
        batch: [N], the crystal of each row.

    Returns:
        [N, 3], A, Cartesian.
    """
    difference = difference - torch.round(difference)
    shortest = _shortest(difference, lattice[batch], [1, 1, 1])
    skewed = ~is_reduced(lattice)[batch]
    if not bool(skewed.any()):
        return shortest
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=1)  # [B, 3], distance of lattice planes
    # An image n cells away along an axis lies at least (n - 1/2) spacings off.
    reach = torch.floor(shortest.norm(dim=1, keepdim=True) / spacing[batch] + 0.5).long()
    rows = (skewed & (reach > 1).any(1)).nonzero().squeeze(1)
    rows = rows[torch.argsort(reach[rows].prod(1))]
    for part in torch.split(rows, 256) if len(rows) else ():  # all images of all rows at once could exceed the memory
        shortest[part] = _shortest(difference[part], lattice[batch[part]], reach[part].amax(0).tolist())
    return shortest


def is_reduced(lattice: Float[Tensor, "crystals 3 3"]) -> Bool[Tensor, " crystals"]:
    """Whether no lattice vector can be shortened by adding others (Minkowski), up to rounding."""
    combinations = _shifts([1, 1, 1], lattice)
    lengths = torch.einsum("sa,nab->nsb", combinations, lattice).norm(dim=2)
    longest = (combinations.abs() * lattice.norm(dim=2)[:, None]).amax(2)
    reduced: Tensor = (lengths >= (1 - 1e-4) * longest).all(1)
    return reduced


def _shortest(difference: Tensor, lattice: Tensor, reach: list[int]) -> Tensor:
    """The shortest among the images up to `reach` cells away along each axis, lattice [N, 3, 3] per row."""
    images = torch.einsum("nsa,nab->nsb", difference[:, None] + _shifts(reach, difference), lattice)
    nearest = images.square().sum(2).argmin(1)
    shortest: Tensor = images[torch.arange(len(images), device=images.device), nearest]
    return shortest


def _shifts(reach: list[int], like: Tensor) -> Tensor:
    """[S, 3], all triples of whole numbers with |n_i| <= reach_i, in dtype and on device of `like`."""
    axes = [torch.arange(-r, r + 1, dtype=like.dtype, device=like.device) for r in reach]
    return torch.cartesian_prod(*axes)
