"""What every encoder must do, and does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import CrystalTable, wrap
from matwheel.nn.dimenet import DimeNetPlusPlus
from matwheel.nn.painn import PaiNNEncoder
from tests.nn.crystals import batch_of, isolated_atom, random_crystals, rotation, single, supercell

DIMENET = {"int_emb": 8, "basis_emb": 4, "out_emb": 16, "num_spherical": 4, "num_radial": 3}
KINDS = {
    "dimenet": (DimeNetPlusPlus, {"hidden": 16, "num_blocks": 2, **DIMENET}),
    "painn": (PaiNNEncoder, {"hidden": 16, "num_blocks": 2, "num_radial": 6}),
}


def encoder(kind, **changes):
    torch.manual_seed(0)
    network, sizes = KINDS[kind]
    made = network(**{"out_channels": 5, **sizes, "max_neighbours": 12, **changes}).double()
    for output in made.outputs if kind == "dimenet" else ():
        torch.nn.init.normal_(output.out.weight, std=0.1)  # zero when new: nothing to see
    return made


def encode(network, table):
    batch = batch_of(table)
    for key, value in batch.to_dict().items():
        if value.is_floating_point():
            batch[key] = value.double()
    with torch.no_grad():
        return network(batch)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def network(kind):
    return encoder(kind)


@pytest.fixture(scope="module")
def crystal():
    return random_crystals([4], seed=3)[0]


@pytest.fixture(scope="module")
def code(network, crystal):
    return encode(network, single(crystal))


def agrees(actual, expected):
    torch.testing.assert_close(actual, expected.expand_as(actual), rtol=1e-4, atol=1e-5)  # graphs are stored as float32


def test_depends_on_every_part_of_a_crystal(network, crystal, code):
    moved, other = crystal.frac_coords.copy(), crystal.atomic_numbers.copy()
    moved[0] += 0.05
    other[0] = other[0] % 100 + 1
    for changes in ({"frac_coords": wrap(moved)}, {"atomic_numbers": other}, {"lattice": crystal.lattice * 1.05}):
        assert not torch.allclose(encode(network, single(crystal, **changes)), code, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@given(st.permutations(range(4)), st.integers(0, 100), st.integers(-2, 2))
@settings(max_examples=10, deadline=None)
def test_invariant_under_permutation_rotation_translation_and_wrapping(kind, order, seed, images):
    network, crystal = encoder(kind), random_crystals([4], seed=3)[0]
    rng = np.random.default_rng(seed)
    shifts = rng.integers(-abs(images), abs(images) + 1, (4, 3))
    table = single(
        crystal,
        lattice=crystal.lattice @ rotation(seed),
        frac_coords=(crystal.frac_coords + rng.random(3))[list(order)] + shifts,
        atomic_numbers=crystal.atomic_numbers[list(order)],
    )
    agrees(encode(network, table), encode(network, single(crystal)))


def test_mean_is_the_same_for_a_supercell(network, crystal, code):
    agrees(encode(network, supercell(crystal, (2, 1, 2))), code)


def test_perfect_crystal_in_another_cell(network):
    """All shells are full of ties: rock salt as primitive and as conventional cell."""
    primitive = single(
        random_crystals([2])[0],
        lattice=2.8 * (np.ones((3, 3)) - np.eye(3)),
        frac_coords=np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
        atomic_numbers=np.array([11, 17]),
    )
    agrees(encode(network, supercell(primitive[0], (2, 2, 1))), encode(network, primitive))


def test_crystals_of_a_batch_do_not_mix(network):
    table = random_crystals([3, 1, 5], seed=1)
    together = encode(network, table)
    alone = torch.cat([encode(network, table.take([row])) for row in range(3)])
    agrees(together, alone)


def test_isolated_atoms(network, crystal, code):
    table = CrystalTable.from_crystals([isolated_atom(), crystal])
    out = encode(network, table)
    assert bool(torch.isfinite(out).all())
    agrees(out[1:], code)
    assert encode(network, single(isolated_atom())).shape == (1, 5)


def test_uses_no_edge_beyond_its_neighbours_and_cutoff(kind, crystal):
    few = encode(encoder(kind, max_neighbours=5), single(crystal))
    near = encode(encoder(kind, cutoff=3.0), single(crystal))
    full = encode(encoder(kind), single(crystal))
    assert not torch.allclose(few, full)
    batch = batch_of(single(crystal), max_neighbours=5)
    agrees(few, encoder(kind, max_neighbours=5).float()(batch).detach().double())
    batch = batch_of(single(crystal), cutoff=3.0)
    agrees(near, encoder(kind, cutoff=3.0).float()(batch).detach().double())


def test_single_precision_differs_by_rounding_only(kind):
    network = encoder(kind)
    table = random_crystals([4, 2], seed=5)
    double = encode(network, table)
    single_precision = network.float()(batch_of(table)).detach().double()
    assert float((single_precision - double).abs().max() / double.abs().max()) < 1e-5


def test_gradients_reach_every_parameter(kind):
    network = encoder(kind).float()
    network(batch_of(random_crystals([4, 3]))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


def test_overfits_a_few_crystals(kind):
    torch.manual_seed(0)
    network = KINDS[kind][0](out_channels=1, **KINDS[kind][1])
    batch, target = batch_of(random_crystals([2, 3, 4, 5])), torch.tensor([[-1.0], [0.5], [2.0], [0.0]])
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(batch) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2
