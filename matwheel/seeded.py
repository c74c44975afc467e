"""Counter-based random numbers: each value depends on (seed, stream, position) alone, never on what else is drawn.

A sample drawn alone, in a batch, on another process or on another kind of device sees the same noise. The bits are
those of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), normals come from the Box-Muller transform.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

# The constants of SplitMix64 as signed 64-bit integers; products wrap around as they should.
_INCREMENT = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLIER_2 = 0x94D049BB133111EB - 2**64
_RESOLUTION = 23  # bits of a uniform number: (k + 1/2) / 2^23 is exact in float32 and never 0 or 1


def derive_seeds(seeds: Int[Tensor, " n"], position: int | Int[Tensor, "#n"]) -> Int[Tensor, " n"]:
    """Seeds of the parts of something that has a seed itself, such as the atoms of a crystal.

    Args:
        seeds: [n], any 64-bit integers.
        position: Which part; one for all or one each.

    Returns:
        [n], statistically independent of each other and of the given seeds.
    """
    offset = position * _INCREMENT
    if isinstance(offset, int):
        offset = (offset + 2**63) % 2**64 - 2**63  # wrap around as tensors do by themselves
    return _mix(_mix(seeds + _INCREMENT) + offset)


def atom_seeds(seeds: Int[Tensor, " crystals"], num_atoms: Int[Tensor, " crystals"]) -> Int[Tensor, " atoms"]:
    """A seed for every atom, from its crystal's seed and its position within the crystal."""
    first = torch.cumsum(num_atoms, 0) - num_atoms
    position = torch.arange(int(num_atoms.sum()), device=num_atoms.device) - torch.repeat_interleave(first, num_atoms)
    return derive_seeds(torch.repeat_interleave(seeds, num_atoms), position)


def seeded_uniform(seeds: Int[Tensor, " n"], stream: int, size: int) -> Float[Tensor, "n size"]:
    """Uniform numbers in the open interval (0, 1).

    Args:
        seeds: [n], the seed of each row.
        stream: Distinguishes independent uses of a seed (initial state, first step, ...).
        size: Numbers per row; the first ones do not depend on how many follow.

    Returns:
        [n, size] float32.
    """
    bits = _bits(seeds, stream, size)
    return _to_uniform(_shift_right(bits, 64 - _RESOLUTION))


def seeded_normal(seeds: Int[Tensor, " n"], stream: int, size: int) -> Float[Tensor, "n size"]:
    """Standard normal numbers; arguments and shape as for `seeded_uniform`."""
    bits = _bits(seeds, stream, size)
    radius = torch.sqrt(-2 * torch.log(_to_uniform(_shift_right(bits, 64 - _RESOLUTION))))
    angle = 2 * math.pi * _to_uniform(bits & (2**_RESOLUTION - 1))
    return radius * torch.cos(angle)


def _bits(seeds: Tensor, stream: int, size: int) -> Tensor:
    counter = torch.arange(1, size + 1, device=seeds.device) * _INCREMENT
    return _mix(derive_seeds(seeds, stream)[:, None] + counter)


def _to_uniform(integers: Tensor) -> Tensor:
    uniform: Tensor = (integers.to(torch.float32) + 0.5) / 2**_RESOLUTION
    return uniform


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift_right(state, 30)) * _MULTIPLIER_1
    state = (state ^ _shift_right(state, 27)) * _MULTIPLIER_2
    return state ^ _shift_right(state, 31)


def _shift_right(integers: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own fills with the sign bit."""
    shifted: Tensor = (integers >> bits) & (2 ** (64 - bits) - 1)
    return shifted
