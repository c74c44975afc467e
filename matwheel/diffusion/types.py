"""Atom types that follow a composition, to begin a sampling run with and to end it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.data.elements import electronegativities
from matwheel.diffusion.noise import draw_types
from matwheel.seeded import derive_seeds, seeded_uniform

_LEFT_OVER, _ORDER = 1, 2  # streams of random numbers of an atom


def initial_types(
    composition: Float[Tensor, "crystals 100"],
    num_atoms: Int[Tensor, " crystals"],
    seeds: Int[Tensor, " atoms"],
) -> Int[Tensor, " atoms"]:
    """Atomic numbers that follow predicted compositions as closely as whole atoms can, in random order.

    Every element gets its expected number of atoms, rounded. Atoms left over are drawn from what rounding took away;
    if rounding gave too many, random ones are dropped.

    Args:
        composition: [B, 100], probabilities that sum to 1; column a is atomic number a + 1.
        num_atoms: [B], sums to N.
        seeds: [N], a seed for each atom.

    Returns:
        [N], 1 to 100.
    """
    device = composition.device
    crystal = torch.arange(len(num_atoms), device=device)
    first = torch.cumsum(num_atoms, 0) - num_atoms
    counts = torch.round(composition * num_atoms[:, None])
    remainder = (composition - counts / num_atoms[:, None]).clamp_min(0)
    rounded = counts.sum(1).long()
    num_slots = torch.maximum(rounded, num_atoms)
    owner = torch.repeat_interleave(crystal, num_slots)
    slot = torch.arange(len(owner), device=device) - (torch.cumsum(num_slots, 0) - num_slots)[owner]
    # The element of slot s is the first whose cumulative count exceeds s.
    listed = torch.searchsorted(counts.cumsum(1)[owner], slot[:, None].to(counts.dtype), right=True).squeeze(1) + 1
    # Slots outnumber atoms where rounding gave too many.
    turn, within = slot // num_atoms[owner], slot % num_atoms[owner]
    slot_seeds = derive_seeds(seeds[first[owner] + within], turn)
    tiny = 1e-12  # nothing is drawn where nothing remains, but 0 / 0 must not arise
    drawn = draw_types(remainder + tiny, owner, seeded_uniform(slot_seeds, _LEFT_OVER, 1).squeeze(1))
    types = torch.where(slot < rounded[owner], listed.clamp(max=MAX_ATOMIC_NUMBER), drawn)
    order = torch.argsort(owner.double() + seeded_uniform(slot_seeds, _ORDER, 1).squeeze(1).double())
    kept = slot < num_atoms[owner]  # sorting keeps crystals together, so places within them stay the same
    return types[order][kept]


def types_on_sites(
    types: Int[Tensor, " atoms"], site_types: Int[Tensor, " atoms"], num_atoms: Int[Tensor, " crystals"]
) -> Int[Tensor, " atoms"]:
    """The types of each crystal on sites of another one, where they resemble most what those held.

    Resemblance is that of electronegativities, so that cations come where cations were. That it is the same element
    counts as much as 0.5 of these.

    Args:
        types: [N], 1 to 100, in any order within a crystal.
        site_types: [N], 1 to 100, what the sites held.
        num_atoms: [B], sums to N.

    Returns:
        [N], of each crystal a permutation of its types.
    """
    polarity = electronegativities().to(types.device)
    distance = (polarity[site_types - 1, None] - polarity).abs()
    same = F.one_hot(site_types - 1, MAX_ATOMIC_NUMBER)
    return assign_types(types, 0.5 * same - distance, num_atoms)


def assign_types(
    types: Int[Tensor, " atoms"], type_logits: Float[Tensor, "atoms 100"], num_atoms: Int[Tensor, " crystals"]
) -> Int[Tensor, " atoms"]:
    """The types of each crystal in the order in which they fit its atoms best (linear sum assignment).

    Args:
        types: [N], 1 to 100, in any order within a crystal.
        type_logits: [N, 100], what a network says of the atoms; column a is atomic number a + 1.
        num_atoms: [B], sums to N.

    Returns:
        [N], of each crystal a permutation of its types.
    """
    assigned = types.cpu().clone()
    sizes = num_atoms.tolist()
    parts = zip(
        torch.split(assigned, sizes),
        torch.split(types.cpu(), sizes),
        torch.split(type_logits.cpu(), sizes),
        strict=True,
    )
    for place, own, logits in parts:
        atoms, slots = linear_sum_assignment(logits[:, own - 1].numpy(), maximize=True)
        place[torch.from_numpy(atoms)] = own[torch.from_numpy(slots)]
    return assigned.to(types.device)
