import math

import torch
from torch.nn.functional import silu

from matwheel.nn.gemnet import GemNetT
from matwheel.nn.gemnet_blocks import RADIAL_GAIN, SUM_GAIN, TRIPLET_GAIN
from matwheel.nn.symmetric_graph import SymmetricGraph
from tests.nn.crystals import random_crystals
from tests.nn.decoding import arguments, decode

TINY = {
    "latent_dim": 6,
    "hidden": 16,
    "num_blocks": 2,
    "num_radial": 12,
    "num_spherical": 4,
    "trip": 8,
    "bilinear": 8,
    "rbf": 4,
    "cbf": 4,
    "num_atom": 2,
    "cutoff": 6.0,
    "max_neighbours": 8,
}


class PlainGemNetT:
    """The equations of GemNet-T with every constant where the paper has it and every triplet listed."""

    def __init__(self, network):
        self.network = network

    def __call__(self, latent, num_atoms, lattice, frac_coords, atomic_numbers):
        net = self.network
        graph = SymmetricGraph.build(frac_coords, lattice, num_atoms, net.cutoff, net.max_neighbours)
        self.a, self.c, self.swap = graph.centre, graph.neighbour, graph.reverse
        self.ca, self.ba = (self.a[:, None] == self.a).fill_diagonal_(False).nonzero().t()  # b -> a <- c, edges differ
        cosine = (graph.direction[self.ca] * graph.direction[self.ba]).sum(1)
        self.harmonics = torch.stack(
            [
                math.sqrt((2 * n + 1) / (4 * math.pi)) * torch.special.legendre_polynomial_p(cosine, n)
                for n in range(net.num_spherical)
            ],
            dim=1,
        )
        basis, shared = net.radial_basis(graph.dist), net.radial_projections
        self.rbf_triplet, self.rbf_atom, self.rbf_out = (basis @ w.t() for w in shared.shared.weight.chunk(3))
        circular = (basis @ shared.circular.weight.t()).view(len(basis), shared.cbf, net.num_spherical)
        self.circular = torch.einsum("til,tl->ti", circular[self.ca], self.harmonics)
        h = torch.cat([net.atom_embedding(atomic_numbers - 1), latent.repeat_interleave(num_atoms, 0)], dim=1)
        h = net.latent_embedding(h)
        m = self.activate(self.concatenated(h, net.pairs) + basis @ shared.embedded.weight.t())
        lengths = self.output(net.outputs[0], m)
        for block, output in zip(net.blocks, net.outputs[1:], strict=True):
            h, m = self.interaction(block, h, m)
            lengths = lengths + self.output(output, m)
        vectors = torch.zeros_like(frac_coords).index_add(0, self.a, lengths * graph.direction)
        return vectors, net.type_head(h)

    @staticmethod
    def activate(x):
        return silu(x) / 0.6

    def dense(self, layer, x):
        return self.activate(x @ layer.weight.t())

    def residual(self, layers, x):
        for layer in layers:
            x = (x + self.dense(layer.second, self.dense(layer.first, x))) / math.sqrt(2)
        return x

    def concatenated(self, h, pairs):
        return torch.cat([h[self.a], h[self.c]], 1) @ torch.cat([pairs.centre.weight, pairs.neighbour.weight], 1).t()

    def interaction(self, block, h, m):
        x = (self.dense(block.dense, m) + self.triplets(block.triplets, m)) / math.sqrt(2)
        m = (m + self.residual(block.before_skip, x)) / math.sqrt(2)
        m = self.residual(block.after_skip, m)
        h = (h + self.atoms(block.atom_sum, h, m)) / math.sqrt(2)
        m2 = self.activate(self.concatenated(h, block.pairs) + m @ block.concat.weight.t())
        return h, (m + self.residual(block.after_concat, m2)) / math.sqrt(2)

    def triplets(self, block, m):
        x = self.dense(block.dense, m) * (self.rbf_triplet @ block.radial.weight.t()) * RADIAL_GAIN
        x = self.dense(block.down, x)[self.ba]
        weight = block.bilinear.weight.view(block.up.weight.shape[1], self.circular.shape[1], -1)
        x = torch.einsum("oic,ti,tc->to", weight, self.circular, x)
        x = torch.zeros(len(m), x.shape[1], dtype=x.dtype).index_add(0, self.ca, x) * TRIPLET_GAIN
        return (self.dense(block.up, x) + self.dense(block.up_reverse, x)[self.swap]) / math.sqrt(2)

    def atoms(self, block, h, m):
        x = m * (self.rbf_atom @ block.radial.weight.t()) * SUM_GAIN
        return self.residual(block.layers, self.dense(block.dense, torch.zeros_like(h).index_add(0, self.a, x)))

    def output(self, block, m):
        x = self.residual(block.layers, self.dense(block.dense, m))
        return (x * (self.rbf_out @ block.radial.weight.t()) * RADIAL_GAIN) @ block.out.weight.t()


def test_equals_the_plain_equations_on_listed_triplets():
    torch.manual_seed(0)
    network, table = GemNetT(**TINY).double(), random_crystals([4, 1, 3], seed=4)
    plain = PlainGemNetT(network)(*arguments(table))
    for ours, theirs in zip(decode(network, table), plain, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)  # constants are kept as float32
