"""The random numbers that one pass of the generator over a batch consumes, drawn in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from matwheel.seeded import atom_seeds, seeded_normal, seeded_uniform


@dataclass(frozen=True)
class NoiseDraws:
    """Noise of B crystals with N atoms.

    Attributes:
        level: [B] int64, noise level of each crystal.
        latent: [B, D], standard normal.
        coordinates: [N, 3], standard normal.
        types: [N, 2], uniform in (0, 1).
        condition: [B], uniform in (0, 1), for hiding conditions.
    """

    level: Int[Tensor, " crystals"]
    latent: Float[Tensor, "crystals latent"]
    coordinates: Float[Tensor, "atoms 3"]
    types: Float[Tensor, "atoms 2"]
    condition: Float[Tensor, " crystals"]

    @classmethod
    def seeded(
        cls,
        seeds: Int[Tensor, " crystals"],
        num_atoms: Int[Tensor, " crystals"],
        latent_dim: int,
        num_levels: int,
        position: Int[Tensor, " crystals"] | None = None,
    ) -> NoiseDraws:
        """Noise that depends on the seeds alone.

        Args:
            seeds: [B], one per crystal.
            num_atoms: [B].
            latent_dim: D.
            num_levels: How many levels there are.
            position: [B], place of the crystal in a set that is averaged over: levels are dealt out in turn, so that
                the average runs over all levels evenly. By default they are drawn.
        """
        per_atom = atom_seeds(seeds, num_atoms)
        chance = seeded_uniform(seeds, 3, 2)
        return cls(
            level=(chance[:, 0] * num_levels).long() if position is None else spread(position, num_levels),
            latent=seeded_normal(seeds, 0, latent_dim),
            coordinates=seeded_normal(per_atom, 1, 3),
            types=seeded_uniform(per_atom, 2, 2),
            condition=chance[:, 1],
        )


def spread(position: Int[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """Deal 0 .. count - 1 out in turn, so that any run of positions covers them evenly.

    Steps of about 0.38 of the count (the golden section) keep incomplete turns even too.
    """
    step = next(s for s in range(max(round(0.381966 * count), 1), count + 1) if math.gcd(s, count) == 1)
    return position * step % count
