"""The graph network of CHGNet, a pretrained interatomic potential, in batched torch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.nn.bases import BesselBasis
from matwheel.nn.symmetric_graph import SymmetricGraph

ATOM_CUTOFF = 6.0
"""A; atoms closer than this send messages to each other."""
BOND_CUTOFF = 3.0
"""A; pairs of bonds shorter than this form angles."""
NUM_ELEMENTS = 94
"""Elements the potential knows: those up to plutonium."""
FEATURES = 64
"""Of an atom, a bond or an angle."""
_NUM_RADIAL = 31
_NUM_FREQUENCIES = 15
_ENVELOPE = 7  # `BesselBasis` counts as DimeNet's configurations do: the paper's exponent is 8
_ALL = 2**40  # neighbours per atom: every one within the cutoff

Parts = list[tuple[Tensor, Tensor | None]]
"""Features of atoms, bonds or angles [n, 64] with the one of them that each row takes; None for all in order."""


class CHGNetFeatures(nn.Module):
    """Atom features of CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031, 2023, arXiv 2302.14231).

    Atoms, bonds and angles have features that update each other: four convolutions over atoms, between them three over
    bonds, which see the angles they form, and two updates of angles. A bond is an edge of the periodic graph without
    its direction. What the package computes for energies only is left out, and so is its last update of angles, which
    nothing reads. Linear maps of concatenated features are applied by parts, to atoms once per atom and not once per
    edge, which makes a step twice as fast as the package's. No gradient flows to the geometry.

    The graph is made here, and not taken from the batch, whose nearest neighbours need not hold everything within 6 A.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_ELEMENTS, FEATURES)
        self.far_basis = BesselBasis(_NUM_RADIAL, ATOM_CUTOFF, _ENVELOPE)
        self.near_basis = BesselBasis(_NUM_RADIAL, BOND_CUTOFF, _ENVELOPE)
        self.angle_basis = FourierBasis(_NUM_FREQUENCIES)
        self.bond_embedding = nn.Linear(_NUM_RADIAL, FEATURES, bias=False)
        self.far_weight = nn.Linear(_NUM_RADIAL, FEATURES, bias=False)
        self.near_weight = nn.Linear(_NUM_RADIAL, FEATURES, bias=False)
        self.angle_embedding = nn.Linear(2 * _NUM_FREQUENCIES + 1, FEATURES, bias=False)
        self.atom_convs = nn.ModuleList(Convolution(num_parts=3) for _ in range(4))
        self.bond_convs = nn.ModuleList(Convolution(num_parts=4) for _ in range(3))
        self.angle_updates = nn.ModuleList(GatedMLP(num_parts=4, num_layers=1) for _ in range(2))
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, batch: Batch) -> Float[Tensor, "atoms 64"]:
        """Features of the atoms.

        Args:
            batch: Crystals with `atomic_numbers`, `frac_coords`, `lattice` and `num_atoms`, see `matwheel.data.keys`.

        Raises:
            ValueError: If an element is unknown to the potential.
        """
        numbers = batch.atomic_numbers
        if int(numbers.max()) > NUM_ELEMENTS:
            raise ValueError(
                f"CHGNet knows the elements up to number {NUM_ELEMENTS}, not {int(numbers.max())}: leave out the "
                "crystals that hold it, or choose another network"
            )
        graph = BondGraph.build(batch)
        far = self.far_basis(graph.dist) * _scale(ATOM_CUTOFF)
        near = self.near_basis(graph.dist.index_select(0, graph.short)) * _scale(BOND_CUTOFF)
        edge_weight = self.far_weight(far).index_select(0, graph.bond)
        near_weight = self.near_weight(near)
        angle_weight = near_weight.index_select(0, graph.first) * near_weight.index_select(0, graph.second)
        atoms, bonds = self.embedding(numbers - 1), self.bond_embedding(far)
        angles = self.angle_embedding(self.angle_basis(graph.angle))

        def at_edges() -> Parts:
            return [(atoms, graph.centre), (bonds, graph.bond), (atoms, graph.neighbour)]

        def at_angles() -> Parts:
            return [(short, graph.first), (short, graph.second), (angles, None), (atoms, graph.vertex)]

        for layer, bond_conv in enumerate(self.bond_convs):
            atoms = self.atom_convs[layer](atoms, at_edges(), edge_weight, graph.centre)
            short = bonds.index_select(0, graph.short)
            short = bond_conv(short, at_angles(), angle_weight, graph.first)
            bonds = bonds.index_copy(0, graph.short, short)
            if layer < len(self.angle_updates):
                angles = angles + self.angle_updates[layer](at_angles())
        atoms = self.atom_convs[-1](atoms, at_edges(), edge_weight, graph.centre)
        features: Tensor = self.norm(atoms)
        return features


class BondGraph(NamedTuple):
    """Edges, bonds (edges without direction) and angles of a batch of crystals.

    Attributes:
        centre: [E], atom that an edge begins at.
        neighbour: [E], atom that it ends at.
        bond: [E], bond that it is a direction of.
        dist: [bonds], A.
        short: [S], bonds below `BOND_CUTOFF`.
        vertex: [angles], atom at which two short bonds meet.
        first: [angles], one of them, as its position in `short`.
        second: [angles], the other; each angle occurs in both orders.
        angle: [angles], radian.
    """

    centre: Tensor
    neighbour: Tensor
    bond: Tensor
    dist: Tensor
    short: Tensor
    vertex: Tensor
    first: Tensor
    second: Tensor
    angle: Tensor

    @classmethod
    def build(cls, batch: Batch) -> BondGraph:
        """Find the bonds of crystals and the angles between them."""
        graph = SymmetricGraph.build(batch.frac_coords, batch.lattice, batch.num_atoms, ATOM_CUTOFF, _ALL)
        edge = torch.arange(len(graph.centre), device=graph.centre.device)
        is_first = edge < graph.reverse
        bond = _positions(is_first)[torch.minimum(edge, graph.reverse)]
        dist = graph.dist[is_first]
        is_short = dist < BOND_CUTOFF
        one, other = _pairs(graph.centre, is_short[bond].nonzero().squeeze(1))
        side = _positions(is_short)[bond]
        cosine = (graph.direction[one] * graph.direction[other]).sum(1)
        return cls(
            centre=graph.centre,
            neighbour=graph.neighbour,
            bond=bond,
            dist=dist,
            short=is_short.nonzero().squeeze(1),
            vertex=graph.centre[one],
            first=side[one],
            second=side[other],
            angle=torch.acos(cosine * (1 - 1e-6)),  # as the package does
        )


def _positions(chosen: Tensor) -> Tensor:
    """Position of each chosen row among the chosen ones."""
    return torch.cumsum(chosen, 0) - 1


def _pairs(centre: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different ones of these edges at the same centre, by which they are sorted."""
    vertex = centre[edges]
    degree = torch.bincount(vertex, minlength=1)
    first = torch.cumsum(degree, 0) - degree
    partners = degree[vertex]
    one = torch.repeat_interleave(torch.arange(len(edges), device=edges.device), partners)
    place = torch.arange(len(one), device=edges.device) - (torch.cumsum(partners, 0) - partners)[one]
    other = first[vertex[one]] + place
    different = one != other
    return edges[one[different]], edges[other[different]]


class FourierBasis(nn.Module):
    """A constant, sines and cosines of an angle, with trainable frequencies.

    Args:
        size: Number of frequencies.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.arange(1.0, size + 1))

    def forward(self, angle: Float[Tensor, " angles"]) -> Float[Tensor, "angles features"]:
        """Basis of angles in radian."""
        phase = angle[:, None] * self.frequencies
        constant = torch.full_like(phase[:, :1], 1 / math.sqrt(2))
        return torch.cat([constant, phase.sin(), phase.cos()], 1) / math.sqrt(math.pi)


class Convolution(nn.Module):
    """x_i <- x_i + W sum_m weight_m * message_m over the messages m that go to row i.

    Args:
        num_parts: Of what a message is made of.
    """

    def __init__(self, num_parts: int) -> None:
        super().__init__()
        self.message = GatedMLP(num_parts, num_layers=2)
        self.out = nn.Linear(FEATURES, FEATURES, bias=False)

    def forward(
        self,
        x: Float[Tensor, "rows 64"],
        parts: Parts,
        weight: Float[Tensor, "messages 64"],
        receiver: Int[Tensor, " messages"],
    ) -> Float[Tensor, "rows 64"]:
        """Update rows by messages made of `parts`, see `GatedMLP`."""
        summed = torch.zeros_like(x).index_add(0, receiver, self.message(parts) * weight)
        updated: Tensor = x + self.out(summed)
        return updated


class GatedMLP(nn.Module):
    """silu(LN(core)) * sigmoid(LN(gate)), where core and gate are perceptrons of the same concatenated features.

    Args:
        num_parts: How many features are concatenated.
        num_layers: Of the perceptrons, 1 or 2.
    """

    def __init__(self, num_parts: int, num_layers: int) -> None:
        super().__init__()
        self.core = Perceptron(num_parts, num_layers)
        self.gate = Perceptron(num_parts, num_layers)
        self.core_norm = nn.LayerNorm(FEATURES)
        self.gate_norm = nn.LayerNorm(FEATURES)

    def forward(self, parts: Parts) -> Float[Tensor, "rows 64"]:
        """Apply to rows.

        Args:
            parts: What is concatenated.
        """
        weights = torch.cat([self.core.first.weight, self.gate.first.weight]).chunk(len(parts), dim=1)
        mapped = [
            F.linear(x, weight) if index is None else F.linear(x, weight).index_select(0, index)
            for (x, index), weight in zip(parts, weights, strict=True)
        ]
        both = sum(mapped[1:], mapped[0]) + torch.cat([self.core.first.bias, self.gate.first.bias])
        core, gate = both.chunk(2, dim=1)
        core, gate = self.core_norm(self.core.rest(core)), self.gate_norm(self.gate.rest(gate))
        return F.silu(core) * torch.sigmoid(gate)


class Perceptron(nn.Module):
    """Linear layers with SiLU between them; `GatedMLP` applies the first by parts.

    Args:
        num_parts: How many features are concatenated.
        num_layers: Layers, 1 or 2.
    """

    def __init__(self, num_parts: int, num_layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(num_parts * FEATURES, FEATURES)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, FEATURES)) if num_layers == 2 else nn.Identity()


def _scale(cutoff: float) -> float:
    """The package's radial functions are sqrt(2 / c) sin(w d / c) / d, ours c / d instead of 1 / d and no root."""
    return math.sqrt(2 / cutoff) / cutoff
