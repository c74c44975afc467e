import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import silu

from matwheel.data.crystal import CrystalTable
from matwheel.nn.gemnet import GemNetT
from matwheel.nn.gemnet_blocks import RADIAL_GAIN, SUM_GAIN, TRIPLET_GAIN
from matwheel.nn.symmetric_graph import SymmetricGraph
from tests.nn.crystals import isolated_atom, random_crystals, rotation, single, supercell

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


def decoder(seed=0, **changes):
    torch.manual_seed(seed)
    return GemNetT(**{**TINY, **changes}).double()


def latents(n, dim=6):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def arguments(table, latent=None):
    return (
        latents(len(table)) if latent is None else latent,
        torch.from_numpy(table.num_atoms),
        torch.from_numpy(table.lattices),
        torch.from_numpy(table.frac_coords),
        torch.from_numpy(table.atomic_numbers),
    )


def decode(network, table, latent=None):
    with torch.no_grad():
        return network(*arguments(table, latent))


def agrees(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.fixture(scope="module")
def crystal():
    return random_crystals([5], seed=3)[0]


def test_shapes_of_the_default_sizes(crystal):
    out = GemNetT()(*(x.float() if x.is_floating_point() else x for x in arguments(single(crystal), latents(1, 320))))
    assert out.vectors.shape == (5, 3)
    assert out.type_logits.shape == (5, 100)


def test_depends_on_every_argument(crystal):
    network, table = decoder(), single(crystal)
    vectors, logits = decode(network, table)
    moved = crystal.frac_coords + np.array([[0.02, 0, 0], *[[0, 0, 0]] * 4])
    others = crystal.atomic_numbers % 100 + 1
    for out in (
        decode(network, table, latents(1) + 0.3),
        decode(network, single(crystal, lattice=crystal.lattice * 1.02)),
        decode(network, single(crystal, frac_coords=moved)),
        decode(network, single(crystal, atomic_numbers=others)),
    ):
        assert not torch.allclose(out.vectors, vectors, rtol=1e-3)
        assert not torch.allclose(out.type_logits, logits, rtol=1e-3)


@given(st.permutations(range(5)), st.integers(0, 100), st.integers(-2, 2))
@settings(max_examples=15, deadline=None)
def test_equivariant_under_permutation_rotation_translation_and_wrapping(order, seed, images):
    network, crystal = decoder(), random_crystals([5], seed=3)[0]
    rng, turn = np.random.default_rng(seed), rotation(seed)
    shifts = rng.integers(-abs(images), abs(images) + 1, (5, 3))
    changed = single(
        crystal,
        lattice=crystal.lattice @ turn,
        frac_coords=(crystal.frac_coords + rng.random(3))[order] + shifts,
        atomic_numbers=crystal.atomic_numbers[order],
    )
    vectors, logits = decode(network, single(crystal))
    agrees(decode(network, changed), (vectors[order] @ torch.from_numpy(turn), logits[order]))


def test_mirror_image_gives_mirrored_vectors(crystal):
    network, mirror = decoder(), np.diag([1.0, 1.0, -1.0])
    vectors, logits = decode(network, single(crystal))
    mirrored = decode(network, single(crystal, lattice=crystal.lattice @ mirror))
    agrees(mirrored, (vectors @ torch.from_numpy(mirror), logits))


def test_atoms_of_a_supercell_are_like_those_of_the_cell(crystal):
    network = decoder()
    vectors, logits = decode(network, single(crystal))
    agrees(
        decode(network, supercell(crystal, (1, 2, 2))),
        (vectors.repeat_interleave(4, 0), logits.repeat_interleave(4, 0)),
    )


def test_perfect_crystal_does_not_depend_on_the_order_of_atoms():
    """Rock salt: every shell is full of ties, and no direction is preferred."""
    network, salt = decoder(), random_crystals([2])[0]
    cell = single(
        salt,
        lattice=2.8 * (np.ones((3, 3)) - np.eye(3)),
        frac_coords=np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
        atomic_numbers=np.array([11, 17]),
    )
    large = supercell(cell[0], (2, 2, 1))
    vectors, logits = decode(network, large)
    torch.testing.assert_close(vectors, torch.zeros_like(vectors), atol=1e-8, rtol=0)
    agrees((vectors, logits), (vectors, decode(network, cell).type_logits.repeat_interleave(4, 0)))


def test_crystals_of_a_batch_do_not_mix():
    network, table = decoder(), random_crystals([3, 1, 5], seed=1)
    together = decode(network, table)
    alone = [decode(network, table.take([row]), latents(3)[row : row + 1]) for row in range(3)]
    agrees(together, tuple(torch.cat(parts) for parts in zip(*alone, strict=True)))


def test_isolated_atoms(crystal):
    network = decoder()
    table = CrystalTable.from_crystals([isolated_atom(), crystal])
    out = decode(network, table)
    torch.testing.assert_close(out.vectors[0], torch.zeros(3, dtype=torch.float64))
    agrees((out.vectors[1:], out.type_logits[1:]), decode(network, single(crystal), latents(2)[1:]))
    assert bool(torch.isfinite(decode(network, single(isolated_atom())).type_logits).all())


def test_single_precision_differs_by_rounding_only():
    table = random_crystals([4, 2], seed=5)
    double = decode(decoder(), table)
    with torch.no_grad():
        single_precision = decoder().float()(*(x.float() if x.is_floating_point() else x for x in arguments(table)))
    for ours, exact in zip(single_precision, double, strict=True):
        assert float((ours - exact).abs().max() / exact.abs().max()) < 1e-5


def test_same_result_with_and_without_gradients():
    """Without gradients some steps overwrite their arguments."""
    network, table = decoder(), random_crystals([4, 2], seed=5)
    agrees(decode(network, table), tuple(x.detach() for x in network(*arguments(table))))


def test_gradients_reach_the_latent_and_every_parameter():
    network, table = decoder(), random_crystals([4, 3])
    latent = latents(2).requires_grad_()
    out = network(*arguments(table, latent))
    (out.vectors.square().sum() + out.type_logits.square().sum()).backward()
    for name, gradient in [("latent", latent.grad), *((n, p.grad) for n, p in network.named_parameters())]:
        assert gradient is not None, name
        assert bool(torch.isfinite(gradient).all()), name
        assert bool((gradient != 0).any()), name


def test_gradient_equals_finite_differences():
    network, table = decoder(num_blocks=1), random_crystals([2])
    arguments_ = arguments(table)

    def loss():
        out = network(*arguments_)
        return out.vectors.square().sum() + out.type_logits.square().sum()

    network.zero_grad()
    loss().backward()
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        direction = torch.randn_like(parameter)
        step = 1e-6 * direction
        with torch.no_grad():
            up = (parameter.add_(step), loss())[1]
            down = (parameter.sub_(2 * step), loss())[1]
            parameter.add_(step)
        slope = float(up - down) / 2e-6
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-6), name


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
    network, table = decoder(), random_crystals([4, 1, 3], seed=4)
    plain = PlainGemNetT(network)(*arguments(table))
    for ours, theirs in zip(decode(network, table), plain, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)  # constants are kept as float32


def test_overfits_a_displacement():
    """The decoder learns to point back to where the atoms of two crystals were."""
    network, table = decoder().float(), random_crystals([3, 4])
    lattice = torch.from_numpy(table.lattices).float()
    step = 0.3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    crystal = torch.repeat_interleave(torch.arange(2), torch.from_numpy(table.num_atoms))
    latent, num_atoms, _, frac, numbers = arguments(table)
    frac = frac.float() + torch.einsum("na,nab->nb", step, torch.linalg.inv(lattice)[crystal])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        out = network(latent.float(), num_atoms, lattice, frac, numbers)
        loss = (out.vectors + step).square().mean() + torch.nn.functional.cross_entropy(out.type_logits, numbers - 1)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
