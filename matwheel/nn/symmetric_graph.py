"""Periodic graphs in which every edge has its reverse."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matwheel.data.neighbours import periodic_neighbours


class SymmetricGraph(NamedTuple):
    """Edges between atoms and periodic images, each present in both directions, sorted by centre.

    Attributes:
        centre: [E] int64, the atom an edge belongs to.
        neighbour: [E] int64, the atom at the other end.
        reverse: [E] int64, the edge that runs the other way; its own reverse's reverse.
        dist: [E], A.
        direction: [E, 3], unit vector from centre to neighbour (zero if the two coincide).
    """

    centre: Tensor
    neighbour: Tensor
    reverse: Tensor
    dist: Tensor
    direction: Tensor

    @classmethod
    def build(
        cls,
        frac_coords: Float[Tensor, "atoms 3"],
        lattice: Float[Tensor, "crystals 3 3"],
        num_atoms: Int[Tensor, " crystals"],
        cutoff: float,
        max_neighbours: int,
    ) -> SymmetricGraph:
        """Join each atom to its nearest neighbours and to the atoms that count it among theirs.

        The union of nearest-neighbour edges and their reverses, with ties of the last neighbour kept, depends neither
        on the order of atoms nor on the orientation of the cell. No gradient flows to the geometry.

        Args:
            frac_coords: Any real numbers (need not be wrapped).
            lattice: A, rows are lattice vectors.
            num_atoms: Sums to the number of atoms.
            cutoff: A.
            max_neighbours: Nearest neighbours per atom; reverses and ties come on top.
        """
        frac_coords, lattice = frac_coords.detach(), lattice.detach()
        edges = periodic_neighbours(frac_coords, lattice, num_atoms, cutoff, max_neighbours)
        image = edges.image.long()
        neighbour, centre = edges.edge_index
        keys = _EdgeKeys.fit(len(frac_coords), image)
        both_ways = torch.cat([keys.encode(centre, neighbour, image), keys.encode(neighbour, centre, -image)])
        key: Tensor = torch.unique(both_ways)
        centre, neighbour, image = keys.decode(key)
        crystal = torch.repeat_interleave(torch.arange(len(num_atoms), device=centre.device), num_atoms)[centre]
        vector = edge_vectors(frac_coords, lattice[crystal], centre, neighbour, image)
        dist = vector.norm(dim=1)
        return cls(
            centre=centre,
            neighbour=neighbour,
            reverse=torch.searchsorted(key, keys.encode(neighbour, centre, -image)),
            dist=dist,
            direction=unit_vectors(vector),
        )


def edge_vectors(
    frac_coords: Float[Tensor, "atoms 3"],
    lattice: Float[Tensor, "edges 3 3"],
    centre: Int[Tensor, " edges"],
    neighbour: Int[Tensor, " edges"],
    image: Float[Tensor, "edges 3"] | Int[Tensor, "edges 3"],
) -> Float[Tensor, "edges 3"]:
    """Vectors from centre to neighbour in A, given the lattice of each edge's crystal."""
    step = frac_coords.index_select(0, neighbour) - frac_coords.index_select(0, centre) + image
    return (step[:, :, None] * lattice).sum(1)


def unit_vectors(vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges 3"]:
    """Directions of vectors; a zero vector stays zero."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / length.clamp_min(torch.finfo(vectors.dtype).tiny)


def match_reverse(
    edge_index: Int[Tensor, "2 edges"], image: Int[Tensor, "edges 3"], num_atoms: int
) -> Int[Tensor, "2 pairs"]:
    """Pairs of edges that are each other's way back; edges whose way back is not in the graph are left out.

    Args:
        edge_index: Row 0 the neighbour, row 1 the centre; each edge occurs once.
        image: Whole numbers.
        num_atoms: Number of atoms.

    Returns:
        Each such edge once in row 0, with its way back in row 1.
    """
    neighbour, centre = edge_index
    keys = _EdgeKeys.fit(num_atoms, image)
    key, order = keys.encode(centre, neighbour, image).sort()
    back = keys.encode(neighbour, centre, -image)
    place = torch.searchsorted(key, back)
    present = (torch.cat([key, key.new_full((1,), -1)])[place] == back).nonzero().squeeze(1)
    return torch.stack([present, order[place[present]]])


class _EdgeKeys(NamedTuple):
    """One int64 per (centre, neighbour, image), ordered by centre first."""

    num_atoms: int
    reach: int

    @classmethod
    def fit(cls, num_atoms: int, image: Tensor) -> _EdgeKeys:
        return cls(num_atoms, int(image.abs().max()) if len(image) else 0)

    def encode(self, centre: Tensor, neighbour: Tensor, image: Tensor) -> Tensor:
        key = centre * self.num_atoms + neighbour
        for axis in range(3):
            key = key * (2 * self.reach + 1) + (image[:, axis] + self.reach)
        return key

    def decode(self, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = []
        for _ in range(3):
            image.append(key % (2 * self.reach + 1) - self.reach)
            key = key.div(2 * self.reach + 1, rounding_mode="floor")
        centre = key.div(self.num_atoms, rounding_mode="floor")
        return centre, key - centre * self.num_atoms, torch.stack(image[::-1], dim=1)
