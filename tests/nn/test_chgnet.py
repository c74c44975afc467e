"""The graph network of CHGNet: that of the package with its weights, and what holds for any weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.catalogue import load
from matwheel.data.crystal import Crystal, CrystalTable, wrap
from matwheel.nn import chgnet_weights
from matwheel.nn.chgnet import FEATURES, CHGNetFeatures
from matwheel.nn.chgnet_network import CHGNetNetwork
from matwheel.nn.chgnet_weights import load_pretrained
from tests.nn.crystals import batch_of, isolated_atom, random_crystals, rotation, single, supercell


def crystals(num_atoms: list[int], seed: int = 0) -> CrystalTable:
    table = random_crystals(num_atoms, seed)
    table.atomic_numbers[:] = np.random.default_rng(seed).integers(1, 95, len(table.atomic_numbers))
    return table


@pytest.fixture(scope="module")
def network() -> CHGNetNetwork:
    """Random weights."""
    torch.manual_seed(0)
    return CHGNetNetwork(start=None, hidden_dim=16).eval()


@pytest.mark.parametrize("version", ["0.3.0", "r2scan"])
def test_features_and_energies_are_those_of_the_package(version: chgnet_weights.Version) -> None:
    pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')
    from chgnet.model import CHGNet as Package

    table = load("mp_poly_total").table
    sparse = Crystal("no angles", 4.5 * np.eye(3), np.zeros((1, 3)), np.array([11]))
    table = CrystalTable.concatenate(
        [table.take(np.arange(0, len(table), 60)), CrystalTable.from_crystals([sparse, isolated_atom()])]
    )
    package = Package.load(model_name=version, use_device="cpu", verbose=False).eval()
    package.graph_converter.set_isolated_atom_response("ignore")
    graphs = [package.graph_converter(crystal.to_structure()) for crystal in table]
    theirs = package(graphs, task="e", return_crystal_feas=True)

    network = CHGNetFeatures()
    load_pretrained(network, version)
    batch = batch_of(table)
    with torch.no_grad():
        atoms = network(batch)
        energies = package.mlp(atoms).squeeze(1)
    summed = torch.zeros(len(table), FEATURES).index_add(0, batch.batch, atoms)
    per_atom = torch.zeros(len(table)).index_add(0, batch.batch, energies) / batch.num_atoms
    torch.testing.assert_close(summed, theirs["crystal_fea"], atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(per_atom + package.composition_model(graphs), theirs["e"], atol=1e-5, rtol=0)


def test_weights_are_loaded_whole_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no weights of CHGNet '0.2.0': choose 0.3.0 or r2scan"):
        load_pretrained(CHGNetFeatures(), "0.2.0")  # type: ignore[arg-type]
    monkeypatch.setattr(chgnet_weights, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"matwheel\[potentials\]\""):
        CHGNetNetwork()


def test_one_number_per_crystal_whatever_the_batch(network: CHGNetNetwork) -> None:
    table = CrystalTable.concatenate([crystals([1, 4, 3, 6]), CrystalTable.from_crystals([isolated_atom()])])
    with torch.no_grad():
        together = network(batch_of(table))
        alone = torch.cat([network(batch_of(table.take([row]))) for row in range(len(table))])
    assert together.shape == (5,)
    assert together.isfinite().all()
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_invariances(seed: int, network: CHGNetNetwork) -> None:
    table, rng = crystals([4], seed), np.random.default_rng(seed)
    crystal = table[0]
    order = rng.permutation(4)
    twins = [
        single(crystal, frac_coords=crystal.frac_coords[order], atomic_numbers=crystal.atomic_numbers[order]),
        single(crystal, lattice=crystal.lattice @ rotation(seed)),
        single(crystal, lattice=-crystal.lattice),
        single(crystal, frac_coords=wrap(crystal.frac_coords + rng.random(3))),
        supercell(crystal, (1, 2, 1)),
    ]
    with torch.no_grad():
        expected = network(batch_of(table))
        for twin in twins:
            torch.testing.assert_close(network(batch_of(twin)), expected, atol=1e-3, rtol=1e-3)


def test_neighbours_are_found_beyond_those_of_the_batch(network: CHGNetNetwork) -> None:
    table = crystals([3, 5])
    with torch.no_grad():
        few, many = (network(batch_of(table, max_neighbours=k)) for k in (1, 50))
    assert torch.equal(few, many)


def test_every_weight_learns_and_a_few_crystals_are_learned_by_heart() -> None:
    torch.manual_seed(0)
    network = CHGNetNetwork(start=None, hidden_dim=16)
    batch, target = batch_of(crystals([2, 3, 4, 3])), torch.tensor([-1.0, 0.5, 2.0, 0.0])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(60):
        loss = (network(batch) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
        optimizer.step()
    assert float(loss) < 0.01


def test_dropout_follows_the_seeds_of_the_crystals() -> None:
    network = CHGNetNetwork(start=None, dropout=0.5).train()
    batch = batch_of(crystals([2, 3]))
    batch.seed = torch.tensor([1, 2])
    assert torch.equal(network(batch), network(batch))
    before = network(batch)
    batch.seed = torch.tensor([3, 2])
    after = network(batch)
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_an_unknown_element_is_named() -> None:
    table = crystals([2])
    table.atomic_numbers[1] = 95
    with pytest.raises(ValueError, match=r"elements up to number 94, not 95: leave out the crystals"):
        CHGNetFeatures()(batch_of(table))
