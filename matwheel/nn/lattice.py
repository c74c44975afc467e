"""Cells as numbers that a network predicts, and back to cells that can exist."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_UNFITTED = (2.5, 2.5, 2.5, 90.0, 90.0, 90.0)
"""Mean of a scaler that knows no cells."""


def cell_parameters(lattice: Float[Tensor, "n 3 3"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Lengths (A) and angles (degrees; alpha between b and c, ...) of cells whose rows are lattice vectors."""
    lengths = lattice.norm(dim=2)
    following, next_but_one = lattice.roll(-1, 1), lattice.roll(-2, 1)
    cosines = (following * next_but_one).sum(2) / (lengths.roll(-1, 1) * lengths.roll(-2, 1))
    return lengths, torch.rad2deg(torch.acos(cosines.clamp(-1, 1)))


def cell_matrix(lengths: Float[Tensor, "n 3"], angles: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """Cells from lengths (A) and angles (degrees): a along x, b in the xy plane, right-handed, rows are vectors.

    The angles must belong to a cell of positive volume.
    """
    return _matrix(lengths, torch.cos(torch.deg2rad(angles)))


def _matrix(lengths: Tensor, cosines: Tensor) -> Tensor:
    cos_alpha, cos_beta, cos_gamma = cosines.unbind(1)
    sin_gamma = (1 - cos_gamma**2).sqrt()
    c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    c_z = (1 - cos_beta**2 - c_y**2).sqrt()
    zero, one = torch.zeros_like(c_z), torch.ones_like(c_z)
    rows = torch.stack([one, zero, zero, cos_gamma, sin_gamma, zero, cos_beta, c_y, c_z], 1).view(-1, 3, 3)
    return rows * lengths[:, :, None]


def smallest_eigenvalue(cosines: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Smallest eigenvalue of the Gram matrix of unit vectors with these cosines between them: 0 for a flat cell.

    The eigenvalues are 1 + x with x^3 - (sum of squares) x - 2 (product) = 0, solved by trigonometry.
    """
    radius = (cosines.square().sum(1) / 3).sqrt().clamp_min(1e-12)
    third = torch.acos((cosines.prod(1) / radius**3).clamp(-1, 1)) / 3
    return 1 + 2 * radius * torch.cos(third + 2 * torch.pi / 3)


class LatticeScaler(nn.Module):
    """Standardised cell parameters [lengths / n_atoms^(1/3), angles], and the bounds of cells that can exist.

    Mean, spread and bounds come from the training set. Predicted cells keep lengths, angles, flatness and volume per
    atom within a margin of what occurs there, so that no network output gives a negative length or impossible angles.
    """

    mean: Tensor
    std: Tensor
    length_range: Tensor
    angle_range: Tensor
    flatness: Tensor
    volume_range: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_UNFITTED))
        self.register_buffer("std", torch.tensor([1.0, 1.0, 1.0, 15.0, 15.0, 15.0]))
        self.register_buffer("length_range", torch.tensor([1.5, 50.0]))  # A
        self.register_buffer("angle_range", torch.tensor([30.0, 150.0]))  # degrees
        self.register_buffer("flatness", torch.tensor(0.02))  # of `smallest_eigenvalue`
        self.register_buffer("volume_range", torch.tensor([2.0, 500.0]))  # A^3 per atom

    @property
    def fitted(self) -> bool:
        """Whether mean, spread and bounds are those of a training set."""
        return tuple(self.mean.tolist()) != _UNFITTED

    @property
    def scale(self) -> tuple[Tensor, Tensor]:
        """[6] and [6], mean and spread of the parameters."""
        return self.mean.clone(), self.std.clone()

    def fit(self, lattices: Float[Tensor, "n 3 3"], num_atoms: Int[Tensor, " n"]) -> None:
        """Take mean, spread and bounds from training cells (A, rows are lattice vectors)."""
        lattices = lattices.double()
        lengths, angles = cell_parameters(lattices)
        values = torch.cat([lengths / num_atoms[:, None] ** (1 / 3), angles], 1)
        self.mean.copy_(values.mean(0))
        # Where all cells agree (cubic: all angles are 90) the spread is rounding, not information.
        self.std.copy_(values.std(0, correction=0).clamp_min(1e-3))
        self.length_range.copy_(torch.stack([0.8 * lengths.min(), 1.25 * lengths.max()]))
        self.angle_range.copy_(torch.stack([(angles.min() - 5).clamp_min(5), (angles.max() + 5).clamp_max(175)]))
        self.flatness.copy_(0.5 * smallest_eigenvalue(torch.cos(torch.deg2rad(angles))).min().clamp_min(1e-3))
        volume = torch.linalg.det(lattices).abs() / num_atoms
        self.volume_range.copy_(torch.stack([0.7 * volume.min(), 1.5 * volume.max()]))

    def forward(self, lattice: Float[Tensor, "n 3 3"], num_atoms: Int[Tensor, " n"]) -> Float[Tensor, "n 6"]:
        """Standardised parameters of cells."""
        lengths, angles = cell_parameters(lattice)
        return (torch.cat([lengths / num_atoms[:, None] ** (1 / 3), angles], 1) - self.mean) / self.std

    def parameters_of(
        self, scaled: Float[Tensor, "n 6"], num_atoms: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Lengths (A) and angles (degrees) exactly as predicted, possible or not."""
        values = scaled * self.std + self.mean
        return values[:, :3] * num_atoms[:, None] ** (1 / 3), values[:, 3:]

    def cells(self, scaled: Float[Tensor, "n 6"], num_atoms: Int[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
        """Cells from standardised parameters, brought within the bounds.

        Cosines of the angles are shrunk together until the cell is no flatter than the bound; then the cell is scaled
        to a possible volume per atom, which may take a length a little beyond its own bounds.

        Returns:
            [n, 3, 3], A, rows are lattice vectors; the volume is positive.
        """
        lengths, angles = self.parameters_of(scaled, num_atoms)
        lengths = lengths.clamp(self.length_range[0], self.length_range[1])
        cosines = torch.cos(torch.deg2rad(angles.clamp(self.angle_range[0], self.angle_range[1])))
        # Shrinking by t takes an eigenvalue from 1 + x to 1 + t x.
        excess = 1 - smallest_eigenvalue(cosines)
        shrink = ((1 - self.flatness) / excess.clamp_min(1e-12)).clamp_max(1)
        lattice = _matrix(lengths, cosines * shrink[:, None])
        volume = torch.linalg.det(lattice) / num_atoms
        scale = (volume.clamp(self.volume_range[0], self.volume_range[1]) / volume) ** (1 / 3)
        cells: Tensor = lattice * scale[:, None, None]
        return cells
