"""DimeNet++ as an encoder of crystals: messages on periodic edges, coupled by angles, to one vector per crystal.

Gasteiger, Giri, Margraf, Günnemann, "Fast and Uncertainty-Aware Directional Message Passing for Non-Equilibrium
Molecules", arXiv 2011.14115, on the edges of a crystal as in CDVAE, arXiv 2110.06197. Two differences from CDVAE: a
path k -> j -> i is left out only where it goes back along the same edge (CDVAE also leaves out paths to other images of
i), and neighbours that tie with the last one are kept, so that the result depends neither on the order of atoms nor on
the choice of cell.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn.inits import glorot_orthogonal

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.nn.angular import AngularCoupling, Star
from matwheel.nn.bases import BesselBasis, SphericalBesselBasis, spherical_harmonics
from matwheel.nn.layers import silu
from matwheel.nn.symmetric_graph import edge_vectors, match_reverse, unit_vectors


class EdgeFeatures(NamedTuple):
    """What the blocks of one forward pass share.

    Attributes:
        centre: [E] int64, atom i of the edge j -> i.
        neighbour: [E] int64, atom j.
        coupling: Angles between edges k -> j (its sources) and j -> i (its targets); ways back are left out.
        radial: [E, radial], Bessel basis.
        spherical: [E, degrees x radial], radial part of the 2-D basis.
    """

    centre: Tensor
    neighbour: Tensor
    coupling: AngularCoupling
    radial: Tensor
    spherical: Tensor


class DimeNetPlusPlus(nn.Module):
    """DimeNet++ encoder. The defaults are the sizes of CDVAE and Con-CDVAE.

    Args:
        out_channels: Length of the vector per crystal.
        hidden: Features of edges.
        num_blocks: Rounds of messages.
        int_emb: Features of edges in the angular part.
        basis_emb: Rank of the maps of the bases.
        out_emb: Features of atoms.
        num_spherical: Degrees of the angular basis.
        num_radial: Functions of the radial basis.
        num_before_skip: Residual layers between the angular part and the skip connection.
        num_after_skip: Residual layers after it.
        num_output_layers: Dense layers on atoms.
        cutoff: A; edges of the batch beyond it are ignored.
        max_neighbours: Nearest neighbours used per atom, of those in the batch, with ties of the last one.
    """

    def __init__(
        self,
        out_channels: int = 256,
        hidden: int = 128,
        num_blocks: int = 4,
        int_emb: int = 64,
        basis_emb: int = 8,
        out_emb: int = 256,
        num_spherical: int = 7,
        num_radial: int = 6,
        num_before_skip: int = 1,
        num_after_skip: int = 2,
        num_output_layers: int = 3,
        cutoff: float = 7.0,
        max_neighbours: int = 20,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.num_spherical = num_spherical
        self.cutoff = cutoff
        self.max_neighbours = max_neighbours
        self.radial_basis = BesselBasis(num_radial, cutoff)
        self.spherical_basis = SphericalBesselBasis(num_spherical, num_radial, cutoff)
        self.embedding = EdgeEmbedding(hidden, num_radial)
        self.blocks = nn.ModuleList(
            InteractionBlock(hidden, int_emb, basis_emb, num_spherical, num_radial, num_before_skip, num_after_skip)
            for _ in range(num_blocks)
        )
        self.outputs = nn.ModuleList(
            OutputBlock(hidden, out_emb, out_channels, num_radial, num_output_layers) for _ in range(num_blocks + 1)
        )

    def forward(self, batch: Batch) -> Float[Tensor, "crystals out"]:
        """Mean over the atoms of each crystal.

        Args:
            batch: See `matwheel.data.keys`; edges are needed.
        """
        edges = self._edge_features(batch)
        num_atoms = len(batch.atomic_numbers)
        x = self.embedding(batch.atomic_numbers, edges)
        out = self.outputs[0](x, edges, num_atoms)
        for block, output in zip(self.blocks, self.outputs[1:], strict=True):
            x = block(x, edges)
            out = out + output(x, edges, num_atoms)
        total = out.new_zeros(batch.num_graphs, self.out_channels).index_add(0, batch.batch, out)
        mean: Tensor = total / batch.num_atoms[:, None]
        return mean

    def _edge_features(self, batch: Batch) -> EdgeFeatures:
        keep = ((batch.edge_shell < self.max_neighbours) & (batch.edge_dist <= self.cutoff)).nonzero().squeeze(1)
        edge_index = batch.edge_index.index_select(1, keep)
        image = batch.edge_image.index_select(0, keep)
        neighbour, centre = edge_index
        lattice = batch.lattice.index_select(0, batch.batch.index_select(0, centre))
        direction = unit_vectors(edge_vectors(batch.frac_coords, lattice, centre, neighbour, image))
        harmonics = spherical_harmonics(direction, self.num_spherical)
        num_atoms = len(batch.atomic_numbers)
        coupling = AngularCoupling(
            source=Star.build(harmonics, centre, num_atoms),
            target=Star.build(harmonics, neighbour, num_atoms),
            matching=match_reverse(edge_index, image.long(), num_atoms),
        )
        dist = batch.edge_dist.index_select(0, keep)
        return EdgeFeatures(centre, neighbour, coupling, self.radial_basis(dist), self.spherical_basis(dist))


class EdgeEmbedding(nn.Module):
    """First message from the elements at both ends and the distance."""

    def __init__(self, hidden: int, num_radial: int) -> None:
        super().__init__()
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER, hidden)
        nn.init.uniform_(self.elements.weight, -math.sqrt(3), math.sqrt(3))  # unit variance
        self.radial = nn.Linear(num_radial, hidden)
        self.dense = nn.Linear(3 * hidden, hidden)

    def forward(self, atomic_numbers: Tensor, edges: EdgeFeatures) -> Float[Tensor, "edges hidden"]:
        """Dense layer on [element i, element j, distance]; the elements' part is worked out once per element."""
        of_centre, of_neighbour, of_radial = self.dense.weight.chunk(3, dim=1)
        centre = F.linear(self.elements.weight, of_centre, self.dense.bias)
        neighbour = F.linear(self.elements.weight, of_neighbour)
        element = atomic_numbers - 1
        ends = centre.index_select(0, element[edges.centre]).add_(neighbour.index_select(0, element[edges.neighbour]))
        return silu(torch.addmm(ends, silu(self.radial(edges.radial)), of_radial.t()))


class InteractionBlock(nn.Module):
    """One round of messages: each edge j -> i from the edges k -> j."""

    def __init__(
        self,
        hidden: int,
        int_emb: int,
        basis_emb: int,
        num_spherical: int,
        num_radial: int,
        num_before_skip: int,
        num_after_skip: int,
    ) -> None:
        super().__init__()
        self.num_degrees = num_spherical
        self.dense_ji = _linear(hidden, hidden)
        self.dense_kj = _linear(hidden, hidden)
        self.radial = LowRankMap(num_radial, basis_emb, hidden)
        self.spherical = LowRankMap(num_spherical * num_radial, basis_emb, int_emb)
        self.down = _linear(hidden, int_emb, bias=False)
        self.up = _linear(int_emb, hidden, bias=False)
        self.before_skip = nn.ModuleList(Residual(hidden) for _ in range(num_before_skip))
        self.dense = _linear(hidden, hidden)
        self.after_skip = nn.ModuleList(Residual(hidden) for _ in range(num_after_skip))

    def forward(self, x: Float[Tensor, "edges hidden"], edges: EdgeFeatures) -> Float[Tensor, "edges hidden"]:
        """Updated messages."""
        kj = silu(self.dense_kj(x)) * F.linear(edges.radial, self.radial())
        maps = self.spherical().t().view(self.num_degrees, -1, self.up.in_features)
        kj = silu(self.down(kj))
        kj = edges.coupling.convolve(kj, edges.spherical, maps)
        h = silu(self.dense_ji(x)).add_(silu(self.up(kj)))
        for layer in self.before_skip:
            h = layer(h)
        x = silu(self.dense(h)).add_(x)
        for layer in self.after_skip:
            x = layer(x)
        return x


class OutputBlock(nn.Module):
    """Sum of the messages at each atom, weighted by distance, through a dense network; zero when new."""

    def __init__(self, hidden: int, out_emb: int, out_channels: int, num_radial: int, num_layers: int) -> None:
        super().__init__()
        self.radial = _linear(num_radial, hidden, bias=False)
        self.up = _linear(hidden, out_emb, bias=False)
        self.layers = nn.ModuleList(_linear(out_emb, out_emb) for _ in range(num_layers))
        self.out = nn.Linear(out_emb, out_channels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Float[Tensor, "edges hidden"], edges: EdgeFeatures, num_atoms: int
    ) -> Float[Tensor, "atoms out"]:
        """Features of atoms."""
        weighted = x * self.radial(edges.radial)
        atoms = self.up(x.new_zeros(num_atoms, x.shape[1]).index_add(0, edges.centre, weighted))
        for layer in self.layers:
            atoms = silu(layer(atoms))
        out: Tensor = self.out(atoms)
        return out


class Residual(nn.Module):
    """x + f(x), f two dense layers."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = _linear(features, features)
        self.second = _linear(features, features)

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """The sum."""
        update = silu(self.second(silu(self.first(x))))
        return update.add_(x)


class LowRankMap(nn.Module):
    """Linear map of a basis of low rank, applied as one matrix."""

    def __init__(self, in_features: int, rank: int, out_features: int) -> None:
        super().__init__()
        self.first = _linear(in_features, rank, bias=False)
        self.second = _linear(rank, out_features, bias=False)

    def forward(self) -> Float[Tensor, "out in"]:
        """The matrix."""
        return self.second.weight @ self.first.weight


def _linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    linear = nn.Linear(in_features, out_features, bias)
    glorot_orthogonal(linear.weight, scale=2.0)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
