"""How clean crystals are corrupted, and what a network that repairs them is scored by (CDVAE, arXiv 2110.06197).

Levels are numbered from the noisiest (0) on. A crystal's coordinates and types share its level.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.diffusion.periodic import minimum_image
from matwheel.precision import full_precision


class GeometricLevels(nn.Module):
    """Noise levels in geometric progression, kept in the checkpoint.

    Args:
        sigma_max: Noise of level 0.
        sigma_min: Noise of the last level.
        num_levels: How many levels, at least 2.
    """

    sigmas: Tensor

    def __init__(self, sigma_max: float, sigma_min: float, num_levels: int) -> None:
        super().__init__()
        if not sigma_max > sigma_min > 0 or num_levels < 2:
            raise ValueError(
                f"noise levels need sigma_max > sigma_min > 0 and at least 2 levels; got {sigma_max}, {sigma_min}, "
                f"{num_levels}"
            )
        exponents = torch.linspace(math.log(sigma_max), math.log(sigma_min), num_levels, dtype=torch.float64)
        self.register_buffer("sigmas", exponents.exp().float())

    @property
    def num_levels(self) -> int:
        """How many levels."""
        return len(self.sigmas)


class CoordinateNoise(GeometricLevels):
    """Gaussian noise on Cartesian coordinates in a periodic cell.

    A network's prediction p [N, 3] (Cartesian, dimensionless) means that the clean position is `sigma * p` away.

    Args:
        sigma_max: A.
        sigma_min: A.
        num_levels: How many levels.
    """

    def __init__(self, sigma_max: float = 10.0, sigma_min: float = 0.01, num_levels: int = 50) -> None:
        super().__init__(sigma_max, sigma_min, num_levels)

    def corrupt(
        self,
        frac_coords: Float[Tensor, "atoms 3"],
        lattice: Float[Tensor, "crystals 3 3"],
        level: Int[Tensor, " crystals"],
        batch: Int[Tensor, " atoms"],
        noise: Float[Tensor, "atoms 3"],
    ) -> Float[Tensor, "atoms 3"]:
        """Move atoms by `sigma` times standard normal `noise`.

        Returns:
            [N, 3], fractional, in [0, 1).
        """
        return self.move(frac_coords, self.sigmas[level][batch, None] * noise, lattice, batch)

    def clean_displacement(
        self, prediction: Float[Tensor, "atoms 3"], level: Int[Tensor, " crystals"], batch: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms 3"]:
        """From where atoms are to where the network believes them to have been, A, Cartesian."""
        return self.sigmas[level][batch, None] * prediction

    @staticmethod
    @full_precision
    def move(
        frac_coords: Float[Tensor, "atoms 3"],
        displacement: Float[Tensor, "atoms 3"],
        lattice: Float[Tensor, "crystals 3 3"],
        batch: Int[Tensor, " atoms"],
    ) -> Float[Tensor, "atoms 3"]:
        """Fractional coordinates in [0, 1) after a Cartesian displacement (A)."""
        moved = frac_coords + torch.einsum("na,nab->nb", displacement, torch.linalg.inv(lattice)[batch])
        moved = moved % 1.0
        return torch.where(moved >= 1.0, torch.zeros_like(moved), moved)  # -1e-9 % 1.0 is exactly 1.0

    def loss(
        self,
        prediction: Float[Tensor, "atoms 3"],
        frac_coords: Float[Tensor, "atoms 3"],
        noisy_frac_coords: Float[Tensor, "atoms 3"],
        lattice: Float[Tensor, "crystals 3 3"],
        level: Int[Tensor, " crystals"],
        batch: Int[Tensor, " atoms"],
    ) -> Float[Tensor, " crystals"]:
        """Denoising score matching (as in CDVAE): 1/2 sigma^2 |d / sigma^2 - p / sigma|^2, mean over atoms.

        d is the shortest displacement from the noisy to the clean position.
        """
        target = minimum_image(frac_coords - noisy_frac_coords, lattice, batch)
        per_atom = 0.5 * (target / self.sigmas[level][batch, None] - prediction).square().sum(1)
        return mean_over_atoms(per_atom, batch, len(lattice))


class TypeNoise(GeometricLevels):
    """Noise on atomic numbers: drawn from (true one-hot + sigma x predicted composition).

    Args:
        sigma_max: Weight of the composition at level 0; the true type has weight 1.
        sigma_min: Weight of the composition at the last level.
        num_levels: How many levels.
    """

    def __init__(self, sigma_max: float = 5.0, sigma_min: float = 0.01, num_levels: int = 50) -> None:
        super().__init__(sigma_max, sigma_min, num_levels)

    def corrupt(
        self,
        atomic_numbers: Int[Tensor, " atoms"],
        composition: Float[Tensor, "crystals 100"],
        level: Int[Tensor, " crystals"],
        batch: Int[Tensor, " atoms"],
        uniform: Float[Tensor, "atoms 2"],
    ) -> Int[Tensor, " atoms"]:
        """Noisy atomic numbers.

        Args:
            atomic_numbers: [N], 1 to 100.
            composition: [B, 100], probabilities; column a is atomic number a + 1.
            level: [B].
            batch: [N].
            uniform: [N, 2], uniform in (0, 1): whether to replace a type, and by which.
        """
        keep = uniform[:, 0] * (1 + self.sigmas[level][batch]) < 1
        return torch.where(keep, atomic_numbers, draw_types(composition, batch, uniform[:, 1]))

    def loss(
        self,
        type_logits: Float[Tensor, "atoms 100"],
        atomic_numbers: Int[Tensor, " atoms"],
        level: Int[Tensor, " crystals"],
        batch: Int[Tensor, " atoms"],
    ) -> Float[Tensor, " crystals"]:
        """Cross-entropy of the true types over sigma, mean over atoms."""
        per_atom = F.cross_entropy(type_logits, atomic_numbers - 1, reduction="none") / self.sigmas[level][batch]
        return mean_over_atoms(per_atom, batch, len(level))


def mean_over_atoms(
    per_atom: Float[Tensor, " atoms"], batch: Int[Tensor, " atoms"], num_crystals: int
) -> Float[Tensor, " crystals"]:
    """Mean of a quantity over the atoms of each crystal."""
    total = torch.zeros(num_crystals, dtype=per_atom.dtype, device=per_atom.device).index_add_(0, batch, per_atom)
    return total / torch.bincount(batch, minlength=num_crystals)


def draw_types(
    probabilities: Float[Tensor, "crystals 100"], batch: Int[Tensor, " atoms"], uniform: Float[Tensor, " atoms"]
) -> Int[Tensor, " atoms"]:
    """Atomic numbers from each crystal's distribution by inversion; `probabilities` need not be normalised."""
    cumulative = probabilities.double().cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    column = torch.searchsorted(cumulative[batch], uniform.double()[:, None], right=True).squeeze(1)
    return column.clamp(max=MAX_ATOMIC_NUMBER - 1) + 1
