"""Crystal graph convolutional neural network (Xie & Grossman, PRL 120, 145301, 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.data.elements import NUM_FEATURES, element_features
from matwheel.nn.batch_norm import BatchNorm
from matwheel.nn.dropout import SeededDropout
from matwheel.nn.transfer import TransferNetwork
from matwheel.precision import full_precision
from matwheel.seeded import atom_seeds


class CGCNN(TransferNetwork):
    """Scalar property of a crystal from its atoms and their nearest neighbours.

    Element features are embedded, updated by gated convolutions over neighbours, averaged over the atoms of the
    crystal, and read out through one hidden layer. The mean makes the output intensive: supercells give the value of
    their primitive cell. Element features are stored in the checkpoint, so that a trained network does not depend on
    the version of the element data.

    Args:
        hidden_dim: Features per atom.
        num_convs: Gated convolutions.
        head_dim: Width of the hidden layer after pooling.
        max_neighbours: Nearest neighbours per atom; ties with the last one are kept.
        cutoff: A; neighbours further away are ignored, and so is everything the batch's graphs do not hold.
        distance_step: A, spacing and width of the Gaussians on [0, cutoff] that expand distances.
        dropout: Probability of hiding an element feature from an atom in training, so that rare elements are judged by
            what they share with others.
    """

    features: Tensor
    centres: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        num_convs: int = 3,
        head_dim: int = 128,
        max_neighbours: int = 12,
        cutoff: float = 8.0,
        distance_step: float = 0.2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.max_neighbours = max_neighbours
        self.cutoff = cutoff
        self.distance_step = distance_step
        self.register_buffer("features", element_features())
        self.register_buffer("centres", torch.linspace(0.0, cutoff, round(cutoff / distance_step) + 1))
        self.dropout = SeededDropout(dropout)
        self.embedding = nn.Linear(NUM_FEATURES, hidden_dim)
        self.convs = nn.ModuleList(GatedConvolution(hidden_dim, len(self.centres)) for _ in range(num_convs))
        self.hidden = nn.Linear(hidden_dim, head_dim)
        self.output = nn.Linear(head_dim, 1)

    @property
    def readout(self) -> nn.Module:
        """The last layer."""
        return self.output

    @full_precision
    def represent(self, batch: Batch) -> Float[Tensor, "crystals features"]:
        """Features of crystals, those of the hidden layer.

        Args:
            batch: Crystals with `atomic_numbers`, `num_atoms`, `batch` and the edges of `matwheel.data.keys`.
        """
        near = (batch.edge_shell < self.max_neighbours) & (batch.edge_dist <= self.cutoff)
        # Edges over the same distance between the same atoms carry the same message: one is enough, counted so often.
        kept = (near & (batch.edge_repeats > 0)).nonzero().squeeze(1)
        neighbour, centre = batch.edge_index.index_select(1, kept)
        count = batch.edge_repeats.index_select(0, kept)
        expanded = self.expand(batch.edge_dist.index_select(0, kept))
        seeds = atom_seeds(batch.seed, batch.num_atoms) if "seed" in batch else None
        atoms = self.embedding(self.dropout(self.features.index_select(0, batch.atomic_numbers - 1), seeds))
        for conv in self.convs:
            atoms = conv(atoms, expanded, neighbour, centre, count)
        total = atoms.new_zeros(len(batch.num_atoms), atoms.shape[1]).index_add(0, batch.batch, atoms)
        crystals = F.softplus(total / batch.num_atoms[:, None])
        return F.softplus(self.hidden(crystals))

    def expand(self, distance: Float[Tensor, " edges"]) -> Float[Tensor, "edges gaussians"]:
        """Gaussians of the distance, centred every `distance_step`."""
        exponent = ((distance[:, None] - self.centres) / self.distance_step).square()
        # Tails below float32 resolution become zeros: subnormal numbers slow matrix products down tenfold.
        return F.threshold(torch.exp(-exponent.clamp_max(30.0)), 1e-12, 0.0)


class GatedConvolution(nn.Module):
    """One convolution of CGCNN (equation 5 of the paper) with the batch norms of the published code.

    atom_i <- softplus(atom_i + BN(sum_j sigmoid(f_ij) * softplus(s_ij))) over the neighbours j of i, where
    (f_ij, s_ij) = BN(W [atom_i; atom_j; e_ij]). W is applied by parts: to atoms once per atom, not once per edge. It
    needs no bias, the batch norm would remove it.

    Args:
        hidden_dim: Features per atom.
        edge_dim: Features per edge.
    """

    def __init__(self, hidden_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.parts = [hidden_dim, hidden_dim, edge_dim]
        self.gate = nn.Linear(sum(self.parts), 2 * hidden_dim, bias=False)
        self.gate_norm = BatchNorm(2 * hidden_dim)
        self.sum_norm = BatchNorm(hidden_dim)

    def forward(
        self,
        atoms: Float[Tensor, "atoms hidden"],
        edges: Float[Tensor, "edges features"],
        neighbour: Int[Tensor, " edges"],
        centre: Int[Tensor, " edges"],
        count: Float[Tensor, " edges"],
    ) -> Float[Tensor, "atoms hidden"]:
        """Update the atoms from their neighbours, edge e standing for `count[e]`; the sum over none is zero."""
        of_centre, of_neighbour, of_edge = torch.split(self.gate.weight, self.parts, dim=1)
        # index_select: unlike indexing, its gradient is a plain sum over rows.
        gate = torch.addmm(F.linear(atoms, of_centre).index_select(0, centre), edges, of_edge.T)
        gate = gate + F.linear(atoms, of_neighbour).index_select(0, neighbour)
        weight, message = self.gate_norm(gate, count).chunk(2, dim=1)
        passed = torch.sigmoid(weight) * F.softplus(message) * count[:, None]
        summed = torch.zeros_like(atoms).index_add(0, centre, passed)
        return F.softplus(atoms + self.sum_norm(summed))
