"""Building blocks of GemNet-T (see `matwheel.nn.gemnet`)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from matwheel.nn.angular import AngularCoupling
from matwheel.nn.layers import ACTIVATION_GAIN, RESIDUAL_GAIN, Dense, Projection, Residual, add_scaled, silu
from matwheel.nn.symmetric_graph import SymmetricGraph

# Factors that keep the variance of a new network where messages meet a basis or are summed, in place of the fitted
# scale factors of GemNet. Measured with the default sizes on displaced crystals of the dielectric data set; they hold
# within a third over blocks and noise levels.
RADIAL_GAIN = 10.0
"""Product of a message and its radial features."""
TRIPLET_GAIN = 6.5
"""Sum over angles after the bilinear layer."""
SUM_GAIN = 1.4
"""Sum over the edges of an atom."""


class EdgeFeatures(NamedTuple):
    """What the blocks of one forward pass share.

    Attributes:
        graph: The edges.
        coupling: Angles between edges of an atom; each edge is matched with itself.
        embedded: [E, hidden], radial features for the first message.
        triplet: [E, rbf], radial features of the source edges of angles.
        circular: [E, cbf, degrees + 1], radial features of the target edges of angles, per degree.
        atom: [E, rbf], radial features for sums over edges.
        out: [E, rbf], radial features of the output.
    """

    graph: SymmetricGraph
    coupling: AngularCoupling
    embedded: Tensor
    triplet: Tensor
    circular: Tensor
    atom: Tensor
    out: Tensor


class RadialProjections(nn.Module):
    """All linear maps of the radial basis that the blocks share, as one matrix product."""

    def __init__(self, num_radial: int, num_spherical: int, hidden: int, rbf: int, cbf: int) -> None:
        super().__init__()
        self.num_degrees, self.cbf = num_spherical, cbf
        self.embedded = Projection(num_radial, hidden, fan_in=2 * hidden + num_radial)
        self.shared = Projection(num_radial, 3 * rbf)
        self.circular = Projection(num_radial, cbf * num_spherical, fan_in=num_radial * num_spherical)
        norms = [math.sqrt((2 * degree + 1) / (4 * math.pi)) for degree in range(num_spherical)]
        self.register_buffer("norms", torch.tensor(norms), persistent=False)
        self.norms: Tensor

    def forward(self, basis: Float[Tensor, "edges radial"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Features in the order of `EdgeFeatures`."""
        circular = self.circular.weight.view(self.cbf, self.num_degrees, -1) * self.norms[:, None]
        # P_l(1) = 1: minus the sum over degrees takes an edge's angle with itself out of the sum over edges.
        circular = torch.cat([circular, -circular.sum(1, keepdim=True)], 1).flatten(0, 1)
        weights = [self.embedded.weight, circular, self.shared.weight]
        features = basis @ torch.cat(weights).t()
        sizes = [len(weight) for weight in weights]
        embedded, circular, shared = torch.split(features, sizes, dim=1)
        triplet, atom, out = shared.chunk(3, dim=1)
        return embedded, triplet, circular.view(len(basis), self.cbf, self.num_degrees + 1), atom, out


class TripletInteraction(nn.Module):
    """Message to each edge from the other edges at its centre, through their angles, and the same for its reverse."""

    def __init__(self, hidden: int, trip: int, bilinear: int, rbf: int, cbf: int) -> None:
        super().__init__()
        self.dense = Dense(hidden, hidden)
        self.radial = Projection(rbf, hidden)
        self.down = Dense(hidden, trip)
        self.bilinear = Projection(cbf * trip, bilinear)
        self.up = Dense(bilinear, hidden)
        self.up_reverse = Dense(bilinear, hidden)

    def forward(
        self, m: Float[Tensor, "edges hidden"], gain: float, edges: EdgeFeatures
    ) -> Float[Tensor, "edges hidden"]:
        """Update of gain `ACTIVATION_GAIN * RESIDUAL_GAIN`, from messages of the gain given."""
        x = self.dense(m, gain) * self.radial(edges.triplet, RADIAL_GAIN * ACTIVATION_GAIN)
        x = edges.coupling.expand(self.down(x))
        weight = (self.bilinear.weight * (TRIPLET_GAIN * ACTIVATION_GAIN)).to(x.dtype)
        x = _CircularBilinear.apply(edges.circular, x, weight)  # type: ignore[no-untyped-call]
        update: Tensor = self.up(x)
        return update.add_(self.up_reverse(x.index_select(0, edges.graph.reverse)))


class _CircularBilinear(Function):
    """`out[e, o] = sum over i, c, l of weight[o, (i, c)] radial[e, i, l] x[l, e, c]`, some edges at a time.

    The outer product [edges, i x c] in between is many times the size of the messages. Made and used in pieces, and
    made again for the gradient, it stays in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, radial: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(radial, x, weight)
        out = x.new_empty(x.shape[1], len(weight))
        for rows in _pieces(x, weight):
            torch.mm(torch.bmm(radial[rows], x[:, rows].transpose(0, 1)).flatten(1), weight.t(), out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        radial, x, weight = ctx.saved_tensors
        grad_radial, grad_x = torch.empty_like(radial), torch.empty_like(x)
        grad_weight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        for rows in _pieces(x, weight):
            x_rows = x[:, rows].transpose(0, 1)
            product = torch.bmm(radial[rows], x_rows)
            grad_weight += grad[rows].t() @ product.flatten(1)
            grad_product = torch.mm(grad[rows], weight).view_as(product)
            grad_radial[rows] = torch.bmm(grad_product, x_rows.transpose(1, 2))
            grad_x[:, rows] = torch.bmm(radial[rows].transpose(1, 2), grad_product).transpose(0, 1)
        return grad_radial, grad_x, grad_weight.to(weight.dtype)


def _pieces(x: Tensor, weight: Tensor) -> list[slice]:
    edges = x.shape[1]
    rows = max(1, 2**21 // weight.shape[1]) if x.device.type == "cpu" else max(1, edges)
    return [slice(start, start + rows) for start in range(0, edges, rows)]


class AtomSum(nn.Module):
    """Sum of the messages at each atom, weighted by distance, through a dense network."""

    def __init__(self, hidden: int, rbf: int, num_layers: int) -> None:
        super().__init__()
        self.radial = Projection(rbf, hidden)
        self.dense = Dense(hidden, hidden)
        self.layers = nn.ModuleList(Residual(hidden) for _ in range(num_layers))

    def forward(
        self, m: Float[Tensor, "edges hidden"], gain: float, edges: EdgeFeatures, num_atoms: int
    ) -> tuple[Float[Tensor, "atoms hidden"], float]:
        """Update of the atoms and its gain."""
        weighted = m * self.radial(edges.atom, SUM_GAIN)
        x = m.new_zeros(num_atoms, m.shape[1]).index_add_(0, edges.graph.centre, weighted)
        x, gain = self.dense(x, gain), ACTIVATION_GAIN
        for layer in self.layers:
            x, gain = layer(x, gain)
        return x, gain


class EdgeOutput(nn.Module):
    """One number per edge from its message and distance."""

    def __init__(self, hidden: int, rbf: int, num_layers: int) -> None:
        super().__init__()
        self.dense = Dense(hidden, hidden)
        self.layers = nn.ModuleList(Residual(hidden) for _ in range(num_layers))
        self.radial = Projection(rbf, hidden)
        self.out = Projection(hidden, 1)

    def forward(self, m: Float[Tensor, "edges hidden"], gain: float, edges: EdgeFeatures) -> Float[Tensor, " edges"]:
        """Length of the vector along each edge."""
        x, gain = self.dense(m, gain), ACTIVATION_GAIN
        for layer in self.layers:
            x, gain = layer(x, gain)
        # out . (x * radial(r)) = (x @ (out * radial weight)) . r: no product as wide as the message.
        weight = self.radial.weight * (self.out.weight.t() * (gain * RADIAL_GAIN))
        length: Tensor = ((x @ weight) * edges.out).sum(1, dtype=torch.promote_types(x.dtype, torch.float32))
        return length


class InteractionBlock(nn.Module):
    """One round of messages: edges from angles, atoms from edges, edges from atoms."""

    def __init__(
        self,
        hidden: int,
        trip: int,
        bilinear: int,
        rbf: int,
        cbf: int,
        num_before_skip: int,
        num_after_skip: int,
        num_concat: int,
        num_atom: int,
    ) -> None:
        super().__init__()
        self.dense = Dense(hidden, hidden)
        self.triplets = TripletInteraction(hidden, trip, bilinear, rbf, cbf)
        self.before_skip = nn.ModuleList(Residual(hidden) for _ in range(num_before_skip))
        self.after_skip = nn.ModuleList(Residual(hidden) for _ in range(num_after_skip))
        self.atom_sum = AtomSum(hidden, rbf, num_atom)
        self.pairs = AtomPairs(hidden, hidden)
        self.concat = Projection(hidden, hidden, fan_in=3 * hidden)
        self.after_concat = nn.ModuleList(Residual(hidden) for _ in range(num_concat))

    def forward(
        self, h: Float[Tensor, "atoms hidden"], m: Float[Tensor, "edges hidden"], gain: float, edges: EdgeFeatures
    ) -> tuple[Float[Tensor, "atoms hidden"], Float[Tensor, "edges hidden"], float]:
        """Updated atoms (of gain 1), messages and the messages' gain."""
        update, update_gain = self.triplets(m, gain, edges), ACTIVATION_GAIN * RESIDUAL_GAIN
        x, x_gain = add_scaled(self.dense(m, gain), ACTIVATION_GAIN, update, update_gain)
        for layer in self.before_skip:
            x, x_gain = layer(x, x_gain)
        m, gain = add_scaled(m, gain, x, x_gain)
        for layer in self.after_skip:
            m, gain = layer(m, gain)

        update, update_gain = self.atom_sum(m, gain, edges, len(h))
        h = (h + update_gain * update) * RESIDUAL_GAIN

        pairs = self.pairs(h, edges.graph)
        x, x_gain = silu(torch.addmm(pairs, m, (self.concat.weight * gain).t())), ACTIVATION_GAIN
        for layer in self.after_concat:
            x, x_gain = layer(x, x_gain)
        m, gain = add_scaled(m, gain, x, x_gain)
        return h, m, gain


class AtomPairs(nn.Module):
    """The atoms' share of a dense layer on both atoms of an edge and the edge's own features.

    The weight is applied to the atoms before they are copied to their edges.

    Args:
        hidden: Features of atoms and of the result.
        edge_features: Features of the edge, which count in the size of the layer.
    """

    def __init__(self, hidden: int, edge_features: int) -> None:
        super().__init__()
        self.centre = Projection(hidden, hidden, fan_in=2 * hidden + edge_features)
        self.neighbour = Projection(hidden, hidden, fan_in=2 * hidden + edge_features)

    def forward(self, h: Float[Tensor, "atoms hidden"], graph: SymmetricGraph) -> Float[Tensor, "edges hidden"]:
        """Sum of the mapped centre and the mapped neighbour."""
        pairs: Tensor = self.centre(h).index_select(0, graph.centre)
        return pairs.add_(self.neighbour(h).index_select(0, graph.neighbour))
