"""How much of a cell atoms fill: crystals may be layers in empty space."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_VACUUM = 10.0
"""A; where no atom is for longer than this, nothing is."""
_ATOM = 3.0
"""A, thickness of a layer of one atom."""


class Vacuum(nn.Module):
    """Where in a cell atoms begin, so that a layer begins as one.

    Atoms spread over a cell of 30 A that should hold a layer of 4 A end in pieces: a decoder sees no further than its
    cutoff. The volume of matter per atom in the training crystals that have vacuum says how thick a layer is; in
    others, atoms begin anywhere.
    """

    matter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matter", torch.tensor(0.0))  # A^3 per atom, 0 if no crystal has vacuum

    def fit(
        self, frac_coords: Float[Tensor, "atoms 3"], lattice: Float[Tensor, "n 3 3"], num_atoms: Int[Tensor, " n"]
    ) -> None:
        """Measure the training crystals (rows of the lattices are lattice vectors, A)."""
        height, axis = _longest(lattice)
        gap = _widest_gap(frac_coords, axis, num_atoms) * height
        volume = torch.linalg.det(lattice).abs() / num_atoms
        matter = (volume * (1 - (gap - _ATOM) / height))[gap > _VACUUM]
        self.matter.copy_(matter.mean() if len(matter) else torch.tensor(0.0))

    def extent(self, lattice: Float[Tensor, "n 3 3"], num_atoms: Int[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """Fraction of each lattice vector along which atoms begin; less than 1 for the normal of a layer only."""
        height, axis = _longest(lattice)
        area = torch.linalg.det(lattice).abs() / height
        thickness = (num_atoms * self.matter / area - _ATOM).clamp_min(0)
        is_layer = (self.matter > 0) & (height - thickness > _VACUUM)
        fraction = torch.where(is_layer, thickness / height, 1.0)
        return torch.ones_like(lattice[:, 0]).scatter(1, axis[:, None], fraction[:, None])


def _longest(lattice: Tensor) -> tuple[Tensor, Tensor]:
    """[n] A and [n], the largest distance of opposite faces of each cell, and the lattice vector between these."""
    longest = (1 / torch.linalg.inv(lattice).norm(dim=1)).max(1)
    return longest.values, longest.indices


def _widest_gap(frac_coords: Tensor, axis: Tensor, num_atoms: Tensor) -> Tensor:
    """[n], widest part of an axis of each crystal without atoms, as a fraction."""
    crystal = torch.repeat_interleave(torch.arange(len(num_atoms), device=axis.device), num_atoms)
    place = frac_coords.gather(1, axis[crystal, None])[:, 0] % 1
    place = place[torch.argsort(crystal + place)]  # crystals stay where they are
    last = num_atoms.cumsum(0) - 1
    following = place.roll(-1)
    following[last] = place[last - num_atoms + 1] + 1
    return torch.zeros_like(num_atoms, dtype=place.dtype).scatter_reduce(0, crystal, following - place, "amax")
