"""PaiNN on periodic crystals: scalars and vectors per atom, a light encoder and a light decoder.

Schütt, Unke & Gastegger, "Equivariant message passing for the prediction of tensorial properties and molecular
spectra", arXiv 2102.03150. Its filters are linear in the radial basis, so the basis is first summed over all periodic
images of a neighbour, once for all blocks, and messages pass between pairs of atoms: in small cells there are
several times fewer of them than edges.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.data.crystal import MAX_ATOMIC_NUMBER
from matwheel.data.neighbours import periodic_neighbours
from matwheel.nn.bases import BesselBasis
from matwheel.nn.decoder import DecoderOutput
from matwheel.nn.symmetric_graph import edge_vectors, unit_vectors
from matwheel.precision import full_precision


class AtomPairs(NamedTuple):
    """Pairs of atoms of the same crystal that are neighbours in at least one image.

    Attributes:
        centre: [P] int64, atom i.
        neighbour: [P] int64, atom j.
        radial: [P, K], radial basis summed over the images of j around i.
        vectors: [P, 3, K], the same times the direction from i to j.
        scale: [N, 1], one over the square root of the number of edges of each atom.
    """

    centre: Tensor
    neighbour: Tensor
    radial: Tensor
    vectors: Tensor
    scale: Tensor

    @classmethod
    def build(
        cls,
        basis: Float[Tensor, "edges radial"],
        direction: Float[Tensor, "edges 3"],
        centre: Int[Tensor, " edges"],
        neighbour: Int[Tensor, " edges"],
        num_atoms: Int[Tensor, " crystals"],
    ) -> AtomPairs:
        """Sum the basis over images.

        Args:
            basis: Of the length of each edge.
            direction: Unit vectors from centre to neighbour.
            centre: Atom i.
            neighbour: Atom j.
            num_atoms: Atoms per crystal.
        """
        # Number all conceivable pairs, atom by atom, then those that occur: cheaper than sorting.
        partners = torch.repeat_interleave(num_atoms, num_atoms)  # [N], atoms in the same crystal
        first_atom = torch.repeat_interleave(torch.cumsum(num_atoms, 0) - num_atoms, num_atoms)
        first_pair = torch.cumsum(partners, 0) - partners
        conceivable = (first_pair - first_atom).index_select(0, centre) + neighbour
        occurs = torch.zeros(int(partners.sum()), dtype=torch.bool, device=centre.device)
        occurs[conceivable] = True
        pair = (torch.cumsum(occurs, 0) - 1).index_select(0, conceivable)
        found = occurs.nonzero().squeeze(1)
        pair_centre = torch.searchsorted(first_pair, found, right=True) - 1
        shape = (len(found), 3, basis.shape[1])
        directed = (direction[:, :, None] * basis[:, None]).flatten(1)
        count = torch.bincount(centre, minlength=len(partners)).clamp_min(1)
        return cls(
            centre=pair_centre,
            neighbour=found - (first_pair - first_atom).index_select(0, pair_centre),
            radial=basis.new_zeros(len(found), basis.shape[1]).index_add_(0, pair, basis),
            vectors=directed.new_zeros(len(found), directed.shape[1]).index_add_(0, pair, directed).view(shape),
            scale=count.to(basis.dtype).rsqrt()[:, None],
        )


class PaiNNBlock(nn.Module):
    """Messages from neighbours, then an update of each atom (equations 7 to 10 of the paper).

    Scalars are normalised before each part, which the paper does not do: features of noisy crystals vary widely.

    Args:
        hidden: Scalars, and vectors, per atom.
        num_radial: Functions of the radial basis.
    """

    def __init__(self, hidden: int, num_radial: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.message_norm = nn.LayerNorm(hidden)
        self.message = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3 * hidden))
        self.scalar_filter = nn.Linear(num_radial, 2 * hidden, bias=False)
        self.vector_filter = nn.Linear(num_radial, hidden, bias=False)
        self.mix = nn.Linear(hidden, 2 * hidden, bias=False)
        self.update_norm = nn.LayerNorm(2 * hidden)
        self.update = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3 * hidden))

    def forward(
        self,
        scalars: Float[Tensor, "atoms hidden"],
        vectors: Float[Tensor, "atoms 3 hidden"] | None,
        pairs: AtomPairs,
    ) -> tuple[Float[Tensor, "atoms hidden"], Float[Tensor, "atoms 3 hidden"]]:
        """Updated scalars and vectors; there are no vectors before the first block."""
        of_scalars, of_directions, of_vectors = self.message(self.message_norm(scalars)).split(self.hidden, 1)
        scalar_filter, vector_filter = self.scalar_filter(pairs.radial).split(self.hidden, 1)
        sent = of_scalars.index_select(0, pairs.neighbour) * scalar_filter
        moved = of_directions.index_select(0, pairs.neighbour)[:, None] * self.vector_filter(pairs.vectors)
        if vectors is not None:
            weighted = (vectors * of_vectors[:, None]).index_select(0, pairs.neighbour)
            moved = torch.addcmul(moved, weighted, vector_filter[:, None])
        scalars = torch.addcmul(scalars, _sum_at(pairs.centre, sent, len(scalars)), pairs.scale)
        summed = _sum_at(pairs.centre, moved, len(scalars))
        scale = pairs.scale[:, None]
        vectors = summed * scale if vectors is None else torch.addcmul(vectors, summed, scale)
        left, right = self.mix(vectors).split(self.hidden, 2)
        length = torch.sqrt(right.square().sum(1) + 1e-8)
        gates = self.update(self.update_norm(torch.cat([scalars, length], 1)))
        added, of_product, of_left = gates.split(self.hidden, 1)
        product = (left * right).sum(1) / math.sqrt(self.hidden)
        return torch.addcmul(scalars + added, of_product, product), torch.addcmul(vectors, of_left[:, None], left)


def _sum_at(centre: Tensor, values: Tensor, num_atoms: int) -> Tensor:
    return values.new_zeros(num_atoms, *values.shape[1:]).index_add(0, centre, values)


class PaiNNEncoder(nn.Module):
    """Light encoder: one vector per crystal.

    Args:
        out_channels: Length of the vector per crystal.
        hidden: Scalars, and vectors, per atom.
        num_blocks: Rounds of messages.
        num_radial: Functions of the radial basis.
        cutoff: A; edges of the batch beyond it are ignored.
        max_neighbours: Nearest neighbours used per atom, of those in the batch, with ties of the last one.
    """

    def __init__(
        self,
        out_channels: int = 256,
        hidden: int = 128,
        num_blocks: int = 2,
        num_radial: int = 20,
        cutoff: float = 8.0,
        max_neighbours: int = 20,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.cutoff = cutoff
        self.max_neighbours = max_neighbours
        self.radial_basis = BesselBasis(num_radial, cutoff)
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER, hidden)
        self.blocks = nn.ModuleList(PaiNNBlock(hidden, num_radial) for _ in range(num_blocks))
        self.output = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, out_channels))

    @full_precision
    def forward(self, batch: Batch) -> Float[Tensor, "crystals out"]:
        """Mean over the atoms of each crystal.

        Args:
            batch: See `matwheel.data.keys`; edges are needed.
        """
        keep = ((batch.edge_shell < self.max_neighbours) & (batch.edge_dist <= self.cutoff)).nonzero().squeeze(1)
        neighbour, centre = batch.edge_index.index_select(1, keep)
        lattice = batch.lattice.index_select(0, batch.batch.index_select(0, centre))
        image = batch.edge_image.index_select(0, keep)
        direction = unit_vectors(edge_vectors(batch.frac_coords, lattice, centre, neighbour, image))
        basis = self.radial_basis(batch.edge_dist.index_select(0, keep))
        pairs = AtomPairs.build(basis, direction, centre, neighbour, batch.num_atoms)
        scalars = self.elements(batch.atomic_numbers - 1)
        vectors = None
        for block in self.blocks:
            scalars, vectors = block(scalars, vectors, pairs)
        total = scalars.new_zeros(batch.num_graphs, scalars.shape[1]).index_add(0, batch.batch, scalars)
        crystals: Tensor = self.output(total / batch.num_atoms[:, None])
        return crystals


class PaiNNDecoder(nn.Module):
    """Light decoder: a vector and type logits per atom.

    An atom pulled off a symmetric site by a small distance sees its neighbours' directions cancel all but for something
    proportional to that distance, while the answer is of the order of one at every noise level: hence a gain per
    crystal, an exponential of the latent, on the vectors.

    Args:
        latent_dim: Width of the latent given per crystal.
        hidden: Scalars, and vectors, per atom.
        num_blocks: Rounds of messages.
        num_radial: Functions of the radial basis.
        cutoff: A, largest distance of atoms that see each other.
        max_neighbours: Nearest neighbours per atom, with ties of the last one.
        predict_types: Whether types are noisy and denoised with the positions, as in CDVAE. If not, the decoder is
            given the right ones in training, and in sampling those of the composition: it only places them.
    """

    def __init__(
        self,
        latent_dim: int = 320,
        hidden: int = 128,
        num_blocks: int = 3,
        num_radial: int = 20,
        cutoff: float = 9.0,
        max_neighbours: int = 20,
        predict_types: bool = True,
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.max_neighbours = max_neighbours
        self.radial_basis = BesselBasis(num_radial, cutoff)
        self.elements = nn.Embedding(MAX_ATOMIC_NUMBER, hidden)
        self.latent_embedding = nn.Linear(latent_dim, hidden)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden))
        self.blocks = nn.ModuleList(PaiNNBlock(hidden, num_radial) for _ in range(num_blocks))
        self.vector_gate = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.vector_head = nn.Linear(hidden, 1, bias=False)
        self.gain = nn.Linear(latent_dim, 1)
        self.type_head: nn.Module | None = None
        if predict_types:
            self.type_head = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, MAX_ATOMIC_NUMBER))

    @property
    def predict_types(self) -> bool:
        """Whether types are denoised."""
        return self.type_head is not None

    @full_precision  # directions all but cancel, see above
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
        frac_coords, lattice = frac_coords.detach(), lattice.detach()
        edges = periodic_neighbours(frac_coords, lattice, num_atoms, self.cutoff, self.max_neighbours)
        neighbour, centre = edges.edge_index
        crystal = torch.repeat_interleave(torch.arange(len(num_atoms), device=centre.device), num_atoms)
        cells = lattice.index_select(0, crystal.index_select(0, centre))
        direction = unit_vectors(edge_vectors(frac_coords, cells, centre, neighbour, edges.image))
        pairs = AtomPairs.build(self.radial_basis(edges.dist), direction, centre, neighbour, num_atoms)
        shared = self.latent_embedding(latent).index_select(0, crystal)
        scalars = self.mix(self.elements(atomic_numbers - 1) + shared)
        vectors = None
        for block in self.blocks:
            scalars, vectors = block(scalars, vectors, pairs)
        gated = self.vector_head(vectors * self.vector_gate(scalars)[:, None]).squeeze(2)
        gain = torch.exp(self.gain(latent)).index_select(0, crystal)
        return DecoderOutput(gain * gated, None if self.type_head is None else self.type_head(scalars))
