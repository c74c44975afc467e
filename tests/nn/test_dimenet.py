import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn.models import dimenet as pyg

from matwheel.data.crystal import CrystalTable, wrap
from matwheel.nn.dimenet import DimeNetPlusPlus
from tests.nn.crystals import batch_of, isolated_atom, random_crystals, rotation, single, supercell

TINY = {"hidden": 16, "num_blocks": 2, "int_emb": 8, "basis_emb": 4, "out_emb": 16, "num_spherical": 4, "num_radial": 3}


def encoder(**changes):
    torch.manual_seed(0)
    network = DimeNetPlusPlus(**{"out_channels": 5, **TINY, "max_neighbours": 12, **changes}).double()
    for output in network.outputs:
        torch.nn.init.normal_(output.out.weight, std=0.1)  # zero when new: nothing to see
    return network


def encode(network, table):
    batch = batch_of(table)
    for key, value in batch.to_dict().items():
        if value.is_floating_point():
            batch[key] = value.double()
    with torch.no_grad():
        return network(batch)


@pytest.fixture(scope="module")
def network():
    return encoder()


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


@given(st.permutations(range(4)), st.integers(0, 100), st.integers(-2, 2))
@settings(max_examples=10, deadline=None)
def test_invariant_under_permutation_rotation_translation_and_wrapping(order, seed, images):
    network, crystal = encoder(), random_crystals([4], seed=3)[0]
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


def test_uses_no_edge_beyond_its_neighbours_and_cutoff(crystal):
    few = encode(encoder(max_neighbours=5), single(crystal))
    near = encode(encoder(cutoff=3.0), single(crystal))
    full = encode(encoder(), single(crystal))
    assert not torch.allclose(few, full)
    batch = batch_of(single(crystal), max_neighbours=5)
    agrees(few, encoder(max_neighbours=5).float()(batch).detach().double())
    batch = batch_of(single(crystal), cutoff=3.0)
    agrees(near, encoder(cutoff=3.0).float()(batch).detach().double())


def test_single_precision_differs_by_rounding_only():
    network = encoder()
    table = random_crystals([4, 2], seed=5)
    double = encode(network, table)
    single_precision = network.float()(batch_of(table)).detach().double()
    assert float((single_precision - double).abs().max() / double.abs().max()) < 1e-5


def test_gradients_reach_every_parameter():
    network = encoder().float()
    network(batch_of(random_crystals([4, 3]))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


def test_equals_the_blocks_of_torch_geometric_on_listed_triplets():
    network, batch = encoder(), batch_of(random_crystals([3, 2], seed=2), max_neighbours=6)
    for module in network.modules():  # zero when new: they would not be compared
        if isinstance(module, torch.nn.Linear) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.1)
    (j, i), image = batch.edge_index, batch.edge_image.long()
    vector = torch.einsum(
        "ea,eab->eb",
        batch.frac_coords[j] + batch.edge_image - batch.frac_coords[i],
        batch.lattice[batch.batch[i]],
    ).double()
    # Paths k -> j -> i: edge kj has centre j; the way back to the same image of i is left out.
    idx_ji, idx_kj = (j[:, None] == i[None]).nonzero().t()
    back = (j[idx_kj] == i[idx_ji]) & (image[idx_kj] == -image[idx_ji]).all(1)
    assert bool(back.any())
    idx_ji, idx_kj = idx_ji[~back], idx_kj[~back]
    cosine = torch.nn.functional.cosine_similarity(vector[idx_ji], vector[idx_kj])
    legendre = torch.stack([torch.special.legendre_polynomial_p(cosine, n) for n in range(4)], 1)
    dist = batch.edge_dist.double()
    rbf = network.radial_basis(dist)
    sbf = (network.spherical_basis(dist).view(-1, 4, 3)[idx_kj] * legendre[:, :, None]).flatten(1)

    act, num_atoms = torch.nn.functional.silu, len(batch.batch)
    embedding = pyg.EmbeddingBlock(3, 16, act).double()
    embedding.emb = torch.nn.Embedding(101, 16).double()
    elements = torch.cat([torch.zeros(1, 16).double(), network.embedding.elements.weight.detach()])
    embedding.emb.weight.data = elements
    embedding.lin_rbf.load_state_dict(network.embedding.radial.state_dict())
    embedding.lin.load_state_dict(network.embedding.dense.state_dict())

    def plain_output(block, x):
        plain = pyg.OutputPPBlock(3, 16, 16, 5, 3, act).double()
        for theirs, ours in [(plain.lin_rbf, block.radial), (plain.lin_up, block.up), (plain.lin, block.out)]:
            theirs.load_state_dict(ours.state_dict())
        plain.lins.load_state_dict(block.layers.state_dict())
        return plain(x, rbf, i, num_nodes=num_atoms)

    def plain_interaction(block, x):
        plain = pyg.InteractionPPBlock(16, 8, 4, 4, 3, 1, 2, act).double()
        pairs = [
            (plain.lin_rbf1, block.radial.first),
            (plain.lin_rbf2, block.radial.second),
            (plain.lin_sbf1, block.spherical.first),
            (plain.lin_sbf2, block.spherical.second),
            (plain.lin_kj, block.dense_kj),
            (plain.lin_ji, block.dense_ji),
            (plain.lin_down, block.down),
            (plain.lin_up, block.up),
            (plain.lin, block.dense),
        ]
        for theirs, ours in zip(
            [*plain.layers_before_skip, *plain.layers_after_skip], [*block.before_skip, *block.after_skip], strict=True
        ):
            pairs += [(theirs.lin1, ours.first), (theirs.lin2, ours.second)]
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
        return plain(x, rbf, sbf, idx_kj, idx_ji)

    x = embedding(batch.atomic_numbers, rbf, i, j)
    out = plain_output(network.outputs[0], x)
    for block, output in zip(network.blocks, network.outputs[1:], strict=True):
        x = plain_interaction(block, x)
        out = out + plain_output(output, x)
    mean = torch.zeros(2, 5, dtype=torch.float64).index_add(0, batch.batch, out) / batch.num_atoms[:, None]
    for key in ("frac_coords", "lattice", "edge_dist", "edge_image"):
        batch[key] = batch[key].double()
    torch.testing.assert_close(network(batch), mean, rtol=1e-5, atol=1e-7)


def test_overfits_a_few_crystals():
    torch.manual_seed(0)
    network = DimeNetPlusPlus(out_channels=1, **TINY)
    batch, target = batch_of(random_crystals([2, 3, 4, 5])), torch.tensor([[-1.0], [0.5], [2.0], [0.0]])
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(batch) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


def test_new_encoder_returns_zero_and_default_sizes():
    network = DimeNetPlusPlus()
    assert network.out_channels == 256
    out = network(batch_of(random_crystals([2])))
    assert out.shape == (1, 256)
    assert bool((out == 0).all())
