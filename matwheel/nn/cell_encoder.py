"""An encoder that also knows what is in the cell and how the cell looks."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.nn.lattice import cell_parameters
from matwheel.nn.mlp import TimeEmbedding, mlp
from matwheel.precision import full_precision

_COUNT_DIM = 64
_CELL_DIM = 7


class CellEncoder(nn.Module):
    """A graph network's view of a crystal, beside composition, number of atoms and cell.

    An autoencoder has to give these back, and a network that averages over local surroundings, as those of CDVAE do,
    cannot count the atoms of a cell or tell its edges apart. Reads the cell as it is given: another cell of the same
    crystal gives another code.

    Args:
        encoder: The graph network, batch -> [B, encoder.out_channels].
        out_channels: Width of the additional part.
        hidden_dim: Width of its hidden layers.
    """

    def __init__(self, encoder: nn.Module, out_channels: int = 256, hidden_dim: int = 256) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = cast(int, encoder.out_channels) + out_channels
        self.count = TimeEmbedding(_COUNT_DIM)
        self.summary = mlp(MAX_ATOMIC_NUMBER + _COUNT_DIM + _CELL_DIM, hidden_dim, 2, out_channels)

    @full_precision
    def forward(self, batch: Batch) -> Float[Tensor, "crystals out"]:
        """Encode crystals."""
        return torch.cat([self.encoder(batch), self.summary(self._described(batch))], 1)

    def _described(self, batch: Batch) -> Tensor:
        """[B, features]: fractions of elements, number of atoms, edges per atom^(1/3) (10 A), cosines, volume."""
        per_atom = 1 / batch.num_atoms
        fractions = torch.zeros(batch.num_graphs, MAX_ATOMIC_NUMBER, device=per_atom.device).index_put_(
            (batch.batch, batch.atomic_numbers - 1), per_atom[batch.batch], accumulate=True
        )
        lengths, angles = cell_parameters(batch.lattice)
        scale = per_atom.pow(1 / 3)[:, None]
        volume = torch.linalg.det(batch.lattice).abs() * per_atom
        cell = torch.cat([lengths * scale / 10, torch.cos(torch.deg2rad(angles)), volume.log()[:, None]], 1)
        return torch.cat([fractions, self.count(batch.num_atoms), cell], 1)
