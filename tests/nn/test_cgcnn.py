import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.nn.cgcnn import CGCNN, GatedConvolution


def random_crystal(seed: int, num_atoms: int = 4) -> Crystal:
    rng = np.random.default_rng(seed)
    lattice = 4.5 * np.eye(3) + rng.uniform(-0.8, 0.8, (3, 3))
    return Crystal(f"c{seed}", lattice, rng.random((num_atoms, 3)), rng.integers(1, 84, num_atoms), {"y": rng.random()})


def lone_atom(z: int = 18) -> Crystal:
    return Crystal("lone", 30 * np.eye(3), np.zeros((1, 3)), np.array([z]), {"y": 1.0})


def batch_of(crystals, **per_crystal):
    graphs = CrystalGraphs.build(CrystalTable.from_crystals(crystals))
    return graphs.batch(torch.arange(len(graphs)), **per_crystal)


@pytest.fixture
def network() -> CGCNN:
    """A network in evaluation whose batch norms have seen data."""
    torch.manual_seed(0)
    network = CGCNN()
    for start in range(0, 20, 5):
        network(batch_of([random_crystal(start + i) for i in range(5)]))
    return network.eval()


def assert_same(network, crystals, others):
    with torch.no_grad():
        torch.testing.assert_close(network(batch_of(crystals)), network(batch_of(others)), atol=2e-4, rtol=2e-4)


def test_one_number_per_crystal_whatever_the_batch(network):
    crystals = [random_crystal(i, 1 + i) for i in range(5)]
    with torch.no_grad():
        together = network(batch_of(crystals))
        alone = torch.cat([network(batch_of([crystal])) for crystal in crystals])
    assert together.shape == (5,)
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_invariances(seed):
    torch.manual_seed(0)
    network = CGCNN()
    network(batch_of([random_crystal(i) for i in range(8)]))
    network.eval()
    crystal, rng = random_crystal(seed), np.random.default_rng(seed + 1)
    lattice, frac, numbers = crystal.lattice, crystal.frac_coords, crystal.atomic_numbers
    order = rng.permutation(len(numbers))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    doubled = np.concatenate([frac, frac + np.array([0, 1, 0])]) / [1, 2, 1]
    twins = [
        Crystal("permuted", lattice, frac[order], numbers[order]),
        Crystal("rotated", lattice @ rotation, frac, numbers),
        Crystal("translated and wrapped", lattice, (frac + rng.random(3)) % 1, numbers),
        Crystal(
            "other cell vectors",
            np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ lattice,
            frac - frac[:, [1]] * [[1, 0, 0]],
            numbers,
        ),
        Crystal("supercell", lattice * [[1], [2], [1]], doubled, np.tile(numbers, 2)),
    ]
    for twin in twins:
        assert_same(network, [crystal], [twin])


def test_isolated_atoms_are_predicted_and_trained(network):
    with torch.no_grad():
        alone, other = network(batch_of([lone_atom()])), network(batch_of([lone_atom(11)]))
        among_others = network(batch_of([random_crystal(0), lone_atom()]))[1:]
    assert torch.isfinite(alone).all()
    assert not torch.allclose(alone, other)
    torch.testing.assert_close(alone, among_others)
    network.train()
    network(batch_of([lone_atom()])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("option", "value"), [("max_neighbours", 1), ("cutoff", 3.0)])
def test_far_neighbours_are_ignored(option, value):
    batch = batch_of([random_crystal(i) for i in range(3)])
    near = batch.edge_shell < value if option == "max_neighbours" else batch.edge_dist <= value
    assert 0 < int(near.sum()) < len(near)
    network = CGCNN(**{option: value})
    whole = network(batch)
    for name in ("edge_dist", "edge_shell", "edge_repeats"):
        batch[name] = batch[name][near]
    batch.edge_index = batch.edge_index[:, near]
    torch.testing.assert_close(whole, network(batch))


def plain_convolution(conv: GatedConvolution, atoms, edges, neighbour, centre):
    """Equation 5 as it is written, one edge at a time."""
    hidden = atoms.shape[1]
    gates = torch.stack(
        [
            conv.gate.weight @ torch.cat([atoms[i], atoms[j], edge])
            for i, j, edge in zip(centre.tolist(), neighbour.tolist(), edges, strict=True)
        ]
    )
    gates = nn.BatchNorm1d.forward(conv.gate_norm, gates)
    summed = torch.zeros_like(atoms)
    for i, gate in zip(centre.tolist(), gates, strict=True):
        summed[i] = summed[i] + torch.sigmoid(gate[:hidden]) * nn.functional.softplus(gate[hidden:])
    return nn.functional.softplus(atoms + conv.sum_norm(summed))


def test_convolution_equals_the_plain_formula_with_its_gradients():
    torch.manual_seed(0)
    fast, plain = GatedConvolution(6, 5).double(), GatedConvolution(6, 5).double()
    plain.load_state_dict(fast.state_dict())
    atoms, edges = torch.randn(7, 6, dtype=torch.float64), torch.randn(30, 5, dtype=torch.float64)
    neighbour, centre = torch.randint(7, (30,)), torch.randint(6, (30,)).sort().values
    count = torch.randint(1, 4, (30,))
    every = [x.repeat_interleave(count, 0) for x in (edges, neighbour, centre)]
    results = []
    for convolution in (
        lambda inputs: fast(inputs, edges, neighbour, centre, count.double()),
        lambda inputs: plain_convolution(plain, inputs, *every),
    ):
        inputs = atoms.clone().requires_grad_()
        output = convolution(inputs)
        output.square().sum().backward()
        results.append((output.detach(), inputs.grad))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in zip(fast.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_equal_edges_counted_or_listed():
    """In small cells of high symmetry most edges are copies of others."""
    torch.manual_seed(0)
    salt = Crystal(
        "salt", 2.8 * (np.ones((3, 3)) - np.eye(3)), np.array([[0, 0, 0], [0.5] * 3]), np.array([11, 17]), {"y": 1.0}
    )
    counted, network, outputs = batch_of([salt, random_crystal(1)]), CGCNN(), []
    assert float(counted.edge_repeats.max()) == 12
    assert float(counted.edge_repeats.sum()) == len(counted.edge_repeats)
    listed = counted.clone()
    listed.edge_repeats = torch.ones_like(counted.edge_repeats)
    for training in (True, False):
        network.train(training)
        for batch in (counted, listed):
            outputs.append(network(batch).detach())
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs[2], outputs[3], rtol=1e-4, atol=1e-5)


def test_expansion_is_gaussian_without_subnormal_numbers():
    network = CGCNN()
    expanded = network.expand(torch.tensor([0.0, 2.1, 8.0]))
    assert expanded.shape == (3, 41)
    exact = torch.exp(-(((torch.tensor(2.1) - torch.arange(41) * 0.2) / 0.2) ** 2))
    torch.testing.assert_close(expanded[1], exact, atol=1e-7, rtol=1e-5)
    assert bool(((expanded == 0) | (expanded > 1e-30)).all())


def test_overfits_one_batch():
    torch.manual_seed(0)
    batch = batch_of([random_crystal(i) for i in range(8)])
    target = torch.randn(8)
    network = CGCNN(hidden_dim=32)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(batch), target)
        loss.backward()
        optimizer.step()
    assert loss < 1e-3
