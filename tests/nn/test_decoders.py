"""What every decoder must do, and does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import CrystalTable
from matwheel.nn.gemnet import GemNetT
from matwheel.nn.painn import PaiNNDecoder
from tests.nn.crystals import isolated_atom, random_crystals, rotation, single, supercell
from tests.nn.decoding import arguments, decode, latents

TINY = {"latent_dim": 6, "hidden": 16, "num_blocks": 2, "cutoff": 6.0, "max_neighbours": 8}
GEMNET = {"num_radial": 12, "num_spherical": 4, "trip": 8, "bilinear": 8, "rbf": 4, "cbf": 4, "num_atom": 2}
KINDS = {"gemnet": (GemNetT, {**TINY, **GEMNET}), "painn": (PaiNNDecoder, {**TINY, "num_radial": 6})}


def decoder(kind, **changes):
    torch.manual_seed(0)
    network, sizes = KINDS[kind]
    return network(**{**sizes, **changes}).double()


def agrees(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.fixture(scope="module")
def crystal():
    return random_crystals([5], seed=3)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_of_the_default_sizes(kind, crystal):
    out = KINDS[kind][0]()(
        *(x.float() if x.is_floating_point() else x for x in arguments(single(crystal), latents(1, 320)))
    )
    assert out.vectors.shape == (5, 3)
    assert out.type_logits.shape == (5, 100)


def test_a_decoder_that_is_given_types_says_nothing_of_them(crystal):
    network = decoder("painn", predict_types=False)
    out = decode(network, single(crystal))
    assert out.vectors.shape == (5, 3)
    assert out.type_logits is None
    assert not [name for name, _ in network.named_parameters() if "type" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_depends_on_every_argument(kind, crystal):
    network, table = decoder(kind), single(crystal)
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


@pytest.mark.parametrize("kind", KINDS)
@given(st.permutations(range(5)), st.integers(0, 100), st.integers(-2, 2))
@settings(max_examples=15, deadline=None)
def test_equivariant_under_permutation_rotation_translation_and_wrapping(kind, order, seed, images):
    network, crystal = decoder(kind), random_crystals([5], seed=3)[0]
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


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_image_gives_mirrored_vectors(kind, crystal):
    network, mirror = decoder(kind), np.diag([1.0, 1.0, -1.0])
    vectors, logits = decode(network, single(crystal))
    mirrored = decode(network, single(crystal, lattice=crystal.lattice @ mirror))
    agrees(mirrored, (vectors @ torch.from_numpy(mirror), logits))


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_of_a_supercell_are_like_those_of_the_cell(kind, crystal):
    network = decoder(kind)
    vectors, logits = decode(network, single(crystal))
    agrees(
        decode(network, supercell(crystal, (1, 2, 2))),
        (vectors.repeat_interleave(4, 0), logits.repeat_interleave(4, 0)),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_perfect_crystal_does_not_depend_on_the_order_of_atoms(kind):
    """Rock salt: every shell is full of ties, and no direction is preferred."""
    network, salt = decoder(kind), random_crystals([2])[0]
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


@pytest.mark.parametrize("kind", KINDS)
def test_crystals_of_a_batch_do_not_mix(kind):
    network, table = decoder(kind), random_crystals([3, 1, 5], seed=1)
    together = decode(network, table)
    alone = [decode(network, table.take([row]), latents(3)[row : row + 1]) for row in range(3)]
    agrees(together, tuple(torch.cat(parts) for parts in zip(*alone, strict=True)))


@pytest.mark.parametrize("kind", KINDS)
def test_isolated_atoms(kind, crystal):
    network = decoder(kind)
    table = CrystalTable.from_crystals([isolated_atom(), crystal])
    out = decode(network, table)
    torch.testing.assert_close(out.vectors[0], torch.zeros(3, dtype=torch.float64))
    agrees((out.vectors[1:], out.type_logits[1:]), decode(network, single(crystal), latents(2)[1:]))
    assert bool(torch.isfinite(decode(network, single(isolated_atom())).type_logits).all())


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_differs_by_rounding_only(kind):
    table = random_crystals([4, 2], seed=5)
    double = decode(decoder(kind), table)
    with torch.no_grad():
        single_precision = decoder(kind).float()(*(x.float() if x.is_floating_point() else x for x in arguments(table)))
    for ours, exact in zip(single_precision, double, strict=True):
        assert float((ours - exact).abs().max() / exact.abs().max()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_same_result_with_and_without_gradients(kind):
    """Without gradients some steps overwrite their arguments."""
    network, table = decoder(kind), random_crystals([4, 2], seed=5)
    agrees(decode(network, table), tuple(x.detach() for x in network(*arguments(table))))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_latent_and_every_parameter(kind):
    network, table = decoder(kind), random_crystals([4, 3])
    latent = latents(2).requires_grad_()
    out = network(*arguments(table, latent))
    (out.vectors.square().sum() + out.type_logits.square().sum()).backward()
    for name, gradient in [("latent", latent.grad), *((n, p.grad) for n, p in network.named_parameters())]:
        assert gradient is not None, name
        assert bool(torch.isfinite(gradient).all()), name
        assert bool((gradient != 0).any()), name


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_finite_differences(kind):
    network, table = decoder(kind, num_blocks=1), random_crystals([2])
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


@pytest.mark.parametrize("kind", KINDS)
def test_overfits_a_displacement(kind):
    """The decoder learns to point back to where the atoms of two crystals were."""
    network, table = decoder(kind).float(), random_crystals([3, 4])
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
