"""GemNet-T as a decoder of crystals: messages on edges, coupled by angles, to one vector and type logits per atom.

Gasteiger, Becker, Günnemann, "GemNet: Universal Directional Graph Neural Networks for Molecules", arXiv 2106.08903, in
the variant with triplets only and direct (not conservative) vector output, conditioned on a latent per crystal as in
CDVAE, arXiv 2110.06197.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.nn.angular import AngularCoupling, Star
from matwheel.nn.bases import GaussianBasis, spherical_harmonics
from matwheel.nn.decoder import DecoderOutput
from matwheel.nn.gemnet_blocks import AtomPairs, EdgeFeatures, EdgeOutput, InteractionBlock, RadialProjections
from matwheel.nn.layers import ACTIVATION_GAIN, silu
from matwheel.nn.symmetric_graph import SymmetricGraph


class GemNetT(nn.Module):
    """GemNet-T decoder. The defaults are the sizes of CDVAE and Con-CDVAE.

    Args:
        latent_dim: Width of the latent given per crystal.
        hidden: Features of atoms and edges.
        num_blocks: Rounds of messages.
        num_radial: Gaussians of the radial basis.
        num_spherical: Degrees of the angular basis.
        trip: Features of edges in the angular part.
        bilinear: Features of edges after the angular part.
        rbf: Features of the radial basis in products with messages.
        cbf: Features of the radial basis in the angular part.
        num_before_skip: Residual layers between the angular part and the skip connection.
        num_after_skip: Residual layers after it.
        num_concat: Residual layers after atoms are mixed into edges.
        num_atom: Residual layers on atoms and in the output.
        cutoff: A.
        max_neighbours: Nearest neighbours per atom; edges are made symmetric, so some atoms have more.
    """

    def __init__(
        self,
        latent_dim: int = 320,
        hidden: int = 128,
        num_blocks: int = 3,
        num_radial: int = 128,
        num_spherical: int = 7,
        trip: int = 64,
        bilinear: int = 64,
        rbf: int = 16,
        cbf: int = 16,
        num_before_skip: int = 1,
        num_after_skip: int = 2,
        num_concat: int = 1,
        num_atom: int = 3,
        cutoff: float = 9.0,
        max_neighbours: int = 20,
    ) -> None:
        super().__init__()
        self.num_spherical = num_spherical
        self.cutoff = cutoff
        self.max_neighbours = max_neighbours
        self.atom_embedding = nn.Embedding(MAX_ATOMIC_NUMBER, hidden)
        nn.init.uniform_(self.atom_embedding.weight, -math.sqrt(3), math.sqrt(3))  # unit variance
        self.latent_embedding = nn.Linear(hidden + latent_dim, hidden)
        self.radial_basis = GaussianBasis(num_radial, cutoff)
        self.radial_projections = RadialProjections(num_radial, num_spherical, hidden, rbf, cbf)
        self.pairs = AtomPairs(hidden, num_radial)
        self.blocks = nn.ModuleList(
            InteractionBlock(hidden, trip, bilinear, rbf, cbf, num_before_skip, num_after_skip, num_concat, num_atom)
            for _ in range(num_blocks)
        )
        self.outputs = nn.ModuleList(EdgeOutput(hidden, rbf, num_atom) for _ in range(num_blocks + 1))
        self.type_head = nn.Linear(hidden, MAX_ATOMIC_NUMBER)

    def forward(
        self,
        latent: Float[Tensor, "crystals latent"],
        num_atoms: Int[Tensor, " crystals"],
        lattice: Float[Tensor, "crystals 3 3"],
        frac_coords: Float[Tensor, "atoms 3"],
        atomic_numbers: Int[Tensor, " atoms"],
    ) -> DecoderOutput:
        """Decode crystals. No gradient flows to the geometry.

        Args:
            latent: One vector per crystal.
            num_atoms: Sums to the number of atoms.
            lattice: A, rows are lattice vectors.
            frac_coords: Any real numbers (need not be wrapped).
            atomic_numbers: 1 to 100.
        """
        graph = SymmetricGraph.build(frac_coords, lattice, num_atoms, self.cutoff, self.max_neighbours)
        edges = self._edge_features(graph, len(frac_coords))
        h = self._embed_atoms(latent, num_atoms, atomic_numbers)
        m, gain = silu(self.pairs(h, graph).add_(edges.embedded)), ACTIVATION_GAIN
        length = self.outputs[0](m, gain, edges)
        for block, output in zip(self.blocks, self.outputs[1:], strict=True):
            h, m, gain = block(h, m, gain, edges)
            length = length + output(m, gain, edges)
        vectors = frac_coords.new_zeros(frac_coords.shape)
        vectors = vectors.index_add(0, graph.centre, length[:, None] * graph.direction)
        return DecoderOutput(vectors, self.type_head(h))

    def _embed_atoms(self, latent: Tensor, num_atoms: Tensor, atomic_numbers: Tensor) -> Tensor:
        sizes = [self.atom_embedding.embedding_dim, latent.shape[1]]
        types, shared = torch.split(self.latent_embedding.weight, sizes, dim=1)
        per_crystal = torch.addmm(self.latent_embedding.bias, latent, shared.t())
        per_type: Tensor = self.atom_embedding.weight @ types.t()
        crystal = torch.repeat_interleave(torch.arange(len(num_atoms), device=num_atoms.device), num_atoms)
        return per_type.index_select(0, atomic_numbers - 1) + per_crystal.index_select(0, crystal)

    def _edge_features(self, graph: SymmetricGraph, num_atoms: int) -> EdgeFeatures:
        star = Star.build(spherical_harmonics(graph.direction, self.num_spherical), graph.centre, num_atoms)
        itself = torch.arange(len(graph.centre), device=graph.centre.device)
        coupling = AngularCoupling(star, star, torch.stack([itself, itself]))
        return EdgeFeatures(graph, coupling, *self.radial_projections(self.radial_basis(graph.dist)))
