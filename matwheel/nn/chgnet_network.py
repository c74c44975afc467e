"""A predictor network made of a pretrained interatomic potential."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.nn.chgnet import FEATURES, CHGNetFeatures
from matwheel.nn.chgnet_weights import Version, load_pretrained
from matwheel.nn.dropout import SeededDropout
from matwheel.nn.mlp import mlp
from matwheel.nn.transfer import TransferNetwork
from matwheel.precision import full_precision


class CHGNetNetwork(TransferNetwork):
    """One number per crystal from the atom features of CHGNet: their mean and their largest values, read out.

    What the potential knows of energies, forces, stresses and magnetic moments of 1.6 million structures is a start for
    other properties. A checkpoint holds all weights.

    Args:
        start: Which of the package's weights are taken when this network is made, see `load_pretrained`; None for
            random ones, as in the control that tells what they are worth, or where a checkpoint follows.
        hidden_dim: Width of the readout's hidden layer.
        dropout: Of what the readout sees.

    Raises:
        ValueError: If weights are asked for and the package chgnet is not installed.
    """

    def __init__(self, start: Version | None = "0.3.0", hidden_dim: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.potential = CHGNetFeatures()
        self.dropout = SeededDropout(dropout)
        self.head = mlp(2 * FEATURES, hidden_dim, 1, 1)
        if start is not None:
            load_pretrained(self.potential, start)

    @property
    def readout(self) -> nn.Module:
        """The head."""
        return self.head

    @full_precision
    def represent(self, batch: Batch) -> Float[Tensor, "crystals features"]:
        """Features of the atoms, pooled: supercells give those of their primitive cell."""
        atoms = self.potential(batch)
        shape = (len(batch.num_atoms), FEATURES)
        mean = atoms.new_zeros(shape).index_add(0, batch.batch, atoms) / batch.num_atoms[:, None]
        owner = batch.batch[:, None].expand(-1, FEATURES)
        largest = atoms.new_full(shape, -torch.inf).scatter_reduce(0, owner, atoms, "amax")
        pooled = torch.cat([mean, largest], 1)
        represented: Tensor = self.dropout(pooled, batch.seed if "seed" in batch else None)
        return represented
