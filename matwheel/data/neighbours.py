"""Periodic neighbours of many crystals at once, in plain torch: the one convention of the project.

An edge runs from neighbour j (row 0) to centre i (row 1); its integer image says in which cell the neighbour sits:
position of j minus position of i is `(frac[j] + image - frac[i]) @ lattice`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from matwheel.precision import full_precision

SHELL_TOLERANCE = 1e-3
"""A. Distances closer than this tie, so that a rule of k neighbours never cuts through a coordination shell."""
_MAX_CANDIDATES = 4_000_000  # pairs of atom and image held at a time: about 250 MB
_MAX_CANDIDATES_PER_CRYSTAL = 100_000_000
_PER_ANGSTROM = 2**20
_CENTRE_STEP = 2**40  # more than any distance


class Neighbours(NamedTuple):
    """Edges of a batch of crystals, sorted by centre, then by distance.

    Attributes:
        edge_index: [2, E] int64, row 0 the neighbour j, row 1 the centre i.
        image: [E, 3] in the dtype of the coordinates, whole numbers.
        dist: [E], A.
        shell: [E] int64, how many neighbours of the same centre are closer (by more than `SHELL_TOLERANCE` if shells
            are kept complete).
    """

    edge_index: Tensor
    image: Tensor
    dist: Tensor
    shell: Tensor


@full_precision
def periodic_neighbours(
    frac_coords: Tensor,
    lattice: Tensor,
    num_atoms: Tensor,
    cutoff: float,
    max_neighbours: int,
    complete_shells: bool = True,
) -> Neighbours:
    """The nearest periodic neighbours of every atom within a cutoff.

    Each crystal is searched within a radius that should hold `max_neighbours` at its density; those where an atom
    found fewer are searched again further out, up to the cutoff. So the result is exact and the work is proportional
    to the neighbours wanted, not to the cutoff sphere.

    Args:
        frac_coords: [N, 3], any real numbers (need not be wrapped).
        lattice: [B, 3, 3], A, rows are lattice vectors.
        num_atoms: [B], sums to N.
        cutoff: A; an atom with nothing inside has no edges.
        max_neighbours: k, the number of nearest neighbours kept per atom.
        complete_shells: Keep all neighbours that tie with the k-th (graphs then do not depend on the order of atoms or
            the choice of cell), or exactly k.

    Raises:
        ValueError: If a cell is so thin that its images within the cutoff cannot be listed.
    """
    frac_coords = frac_coords.detach()
    lattice = lattice.detach()
    first_atom = torch.cumsum(num_atoms, 0) - num_atoms
    volume = torch.linalg.det(lattice).abs().clamp_min(1e-6)
    # Twice the neighbours wanted: denser directions of an uneven crystal fill up first.
    radius = (2 * (max_neighbours + 2) * volume / num_atoms * (3 / (4 * math.pi))) ** (1 / 3)
    radius = radius.clamp(max=cutoff)
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=1)  # [B, 3], distance of lattice planes
    pending = torch.arange(len(num_atoms), device=num_atoms.device)
    found: list[_Pairs] = []
    while len(pending):
        pairs = _pairs_within(frac_coords, lattice, num_atoms, first_atom, spacing, radius, pending)
        inside = pairs.dist < radius[pairs.crystal] - SHELL_TOLERANCE
        count = torch.bincount(pairs.centre[inside], minlength=len(frac_coords))
        atom_crystal = torch.repeat_interleave(torch.arange(len(num_atoms), device=count.device), num_atoms)
        fewest = torch.full_like(num_atoms, 2**60).scatter_reduce_(0, atom_crystal, count, "amin")
        again = (fewest < max_neighbours) & (radius < cutoff)
        is_again = torch.zeros_like(again).index_fill_(0, pending, True) & again
        found.append(pairs.select((~is_again[pairs.crystal]).nonzero().squeeze(1)))
        pending = is_again.nonzero().squeeze(1)
        radius = torch.where(is_again, (radius * 1.4).clamp(max=cutoff), radius)
    return _nearest(_Pairs.concatenate(found), max_neighbours, complete_shells)


class _Pairs(NamedTuple):
    crystal: Tensor
    neighbour: Tensor
    centre: Tensor
    image: Tensor
    dist: Tensor

    def select(self, index: Tensor) -> _Pairs:
        return _Pairs(*(column.index_select(0, index) for column in self))

    @staticmethod
    def concatenate(parts: list[_Pairs]) -> _Pairs:
        return parts[0] if len(parts) == 1 else _Pairs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _nearest(pairs: _Pairs, max_neighbours: int, complete_shells: bool) -> Neighbours:
    """Sort by centre and distance, rank within each centre, keep the nearest."""
    # One whole number sorts by centre, then by distance to about 1e-6 A; equal ones stay in the order they were listed,
    # so that rounding, and with it the rest of the batch, does not decide the order of edges.
    key = pairs.centre * _CENTRE_STEP + (pairs.dist * _PER_ANGSTROM).long()
    key, order = torch.sort(key, stable=True)
    pairs = pairs.select(order)
    starts = torch.searchsorted(pairs.centre, pairs.centre)
    if complete_shells:
        shell = torch.searchsorted(key, key - round(SHELL_TOLERANCE * _PER_ANGSTROM)) - starts
    else:
        shell = torch.arange(len(key), device=key.device) - starts
    keep = (shell < max_neighbours).nonzero().squeeze(1)
    pairs = pairs.select(keep)
    return Neighbours(torch.stack([pairs.neighbour, pairs.centre]), pairs.image, pairs.dist, shell[keep])


def _pairs_within(
    frac: Tensor,
    lattice: Tensor,
    num_atoms: Tensor,
    first_atom: Tensor,
    spacing: Tensor,
    radius: Tensor,
    crystals: Tensor,
) -> _Pairs:
    """All pairs of centre and neighbour image within each crystal's own radius, a bounded number at a time."""
    # With the minimum image of the fractional difference in [-0.5, 0.5] these shifts reach every point in the radius.
    reach = torch.floor(radius[:, None] / spacing + 0.5).long()[crystals]
    candidates = num_atoms[crystals] ** 2 * (2 * reach + 1).prod(1)
    if len(candidates) and int(candidates.max()) > _MAX_CANDIDATES_PER_CRYSTAL:
        worst = int(crystals[candidates.argmax()])
        raise ValueError(
            f"crystal {worst} of the batch has {int(num_atoms[worst])} atoms and lattice planes only "
            f"{float(spacing[worst].min()):.3g} A apart: its periodic images within the cutoff are too many to list; "
            "check its cell"
        )
    part = torch.cumsum(candidates, 0) // _MAX_CANDIDATES
    parts = [
        _pairs_of_part(frac, lattice, num_atoms, first_atom, radius, crystals[part == p], reach[part == p])
        for p in range(int(part[-1]) + 1 if len(part) else 0)
        if bool((part == p).any())
    ]
    return _Pairs.concatenate(parts)


def _pairs_of_part(
    frac: Tensor,
    lattice: Tensor,
    num_atoms: Tensor,
    first_atom: Tensor,
    radius: Tensor,
    crystals: Tensor,
    reach: Tensor,
) -> _Pairs:
    n = num_atoms[crystals]
    # Shifts of each crystal, listed once: (2 r1 + 1)(2 r2 + 1)(2 r3 + 1) rows.
    sides = 2 * reach + 1
    num_shifts = sides.prod(1)
    shift_crystal, k = _expand(num_shifts)
    third = k % sides[shift_crystal, 2]
    k = torch.div(k, sides[shift_crystal, 2], rounding_mode="floor")
    second = k % sides[shift_crystal, 1]
    first = torch.div(k, sides[shift_crystal, 1], rounding_mode="floor")
    shift = (torch.stack([first, second, third], 1) - reach[shift_crystal]).to(frac.dtype)
    shift_cart = torch.einsum("sa,sab->sb", shift, lattice[crystals[shift_crystal]])
    first_shift = torch.cumsum(num_shifts, 0) - num_shifts
    # Pairs of atoms of each crystal, centre-major.
    pair_crystal, k = _expand(n * n)
    centre = first_atom[crystals[pair_crystal]] + torch.div(k, n[pair_crystal], rounding_mode="floor")
    neighbour = first_atom[crystals[pair_crystal]] + k % n[pair_crystal]
    difference = frac[neighbour] - frac[centre]
    base = -torch.round(difference)
    difference_cart = torch.einsum("pa,pab->pb", difference + base, lattice[crystals[pair_crystal]])
    # Pairs x shifts.
    # The hot part: index_select and separate components, because indexing rows of three is several times slower.
    pair_shifts = num_shifts[pair_crystal]
    pair = torch.repeat_interleave(torch.arange(len(pair_crystal), device=frac.device), pair_shifts)
    first_row = first_shift[pair_crystal] - (torch.cumsum(pair_shifts, 0) - pair_shifts)
    row = torch.arange(len(pair), device=frac.device) + first_row.index_select(0, pair)
    squared = torch.zeros_like(pair, dtype=frac.dtype)
    for axis in range(3):
        component = difference_cart[:, axis].contiguous().index_select(0, pair)
        component += shift_cart[:, axis].contiguous().index_select(0, row)
        squared.addcmul_(component, component)
    keep = (squared <= (radius[crystals] ** 2)[pair_crystal].index_select(0, pair)).nonzero().squeeze(1)
    pair, row, squared = pair.index_select(0, keep), row.index_select(0, keep), squared.index_select(0, keep)
    image = base.index_select(0, pair) + shift.index_select(0, row)
    itself = (centre == neighbour)[pair] & (image == 0).all(1)
    others = (~itself).nonzero().squeeze(1)
    pair = pair.index_select(0, others)
    return _Pairs(
        crystals[pair_crystal].index_select(0, pair),
        neighbour.index_select(0, pair),
        centre.index_select(0, pair),
        image.index_select(0, others),
        squared.index_select(0, others).sqrt(),
    )


def _expand(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Owner and position within the owner of each of `lengths.sum()` items."""
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    first = torch.cumsum(lengths, 0) - lengths
    return owner, torch.arange(len(owner), device=lengths.device) - first[owner]
