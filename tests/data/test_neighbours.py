import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.neighbours import SHELL_TOLERANCE, Neighbours, periodic_neighbours

CUBE = torch.eye(3, dtype=torch.float64)[None]


def edges_of(found: Neighbours) -> set[tuple[int, ...]]:
    return set(
        zip(found.edge_index[1].tolist(), found.edge_index[0].tolist(), *found.image.long().T.tolist(), strict=True)
    )


def crystal(seed: int, num_atoms: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A random, possibly very skewed cell."""
    rng = np.random.default_rng(seed)
    lattice = np.diag(rng.uniform(2.5, 12.0, 3)) + rng.uniform(-2.0, 2.0, (3, 3))
    if abs(np.linalg.det(lattice)) < 15:
        lattice = np.diag(rng.uniform(2.5, 12.0, 3))
    frac = rng.uniform(-1.5, 1.5, (num_atoms, 3))
    return torch.from_numpy(frac), torch.from_numpy(lattice)[None], torch.tensor([num_atoms])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([3.0, 6.0, 9.0]), st.sampled_from([1, 8, 20]))
def test_agrees_with_an_independent_search(seed, num_atoms, cutoff, k):
    matscipy = pytest.importorskip("matscipy.neighbours")
    from ase import Atoms

    frac, lattice, n = crystal(seed, num_atoms)
    found = periodic_neighbours(frac, lattice, n, cutoff, k)
    atoms = Atoms(f"H{num_atoms}", scaled_positions=frac.numpy(), cell=lattice[0].numpy(), pbc=True)
    i, j, d, s = matscipy.neighbour_list("ijdS", atoms, cutoff)
    expected = set()
    for centre in range(num_atoms):
        mine = i == centre
        nearest = np.sort(d[mine])
        limit = nearest[k - 1] + SHELL_TOLERANCE if len(nearest) >= k else cutoff
        expected |= {(centre, int(j[e]), *map(int, s[e])) for e in np.flatnonzero(mine & (d < limit))}
    # matscipy gives images relative to the coordinates as they are, and so do we.
    assert edges_of(found) == expected


def test_image_convention():
    frac, lattice, n = crystal(3, 5)
    found = periodic_neighbours(frac, lattice, n, 8.0, 20)
    j, i = found.edge_index
    vector = (frac[j] + found.image - frac[i]) @ lattice[0]
    torch.testing.assert_close(vector.norm(dim=1), found.dist)


def test_sorted_by_centre_then_distance():
    frac, lattice, n = crystal(4, 6)
    found = periodic_neighbours(frac, lattice, n, 8.0, 12)
    centre = found.edge_index[1]
    step = found.dist.diff()
    assert (centre.diff() >= 0).all()
    assert (step[centre.diff() == 0] >= -2e-6).all()


def test_shells_are_never_cut():
    # Simple cubic: shells of 6, 12 and 8 neighbours. Asking for 8 must give 6 + 12.
    found = periodic_neighbours(torch.zeros(1, 3), 3 * CUBE.float(), torch.tensor([1]), 8.0, 8)
    assert len(found.dist) == 18
    assert found.shell.tolist() == [0] * 6 + [6] * 12


def test_exact_number_without_complete_shells():
    found = periodic_neighbours(torch.zeros(1, 3), 3 * CUBE.float(), torch.tensor([1]), 8.0, 8, complete_shells=False)
    assert len(found.dist) == 8
    assert found.shell.tolist() == list(range(8))


def test_isolated_atom_has_no_edges():
    lattice = torch.cat([100 * CUBE, 3 * CUBE])
    found = periodic_neighbours(torch.zeros(2, 3).double(), lattice, torch.tensor([1, 1]), 8.0, 4)
    assert (found.edge_index == 1).all()
    assert len(found.dist) == 6


def test_a_crystal_does_not_see_the_others():
    parts = [crystal(seed, n) for seed, n in ((1, 3), (2, 7), (3, 1))]
    together = periodic_neighbours(*(torch.cat(column) for column in zip(*parts, strict=True)), 8.0, 20)
    offset = 0
    for frac, lattice, n in parts:
        alone = periodic_neighbours(frac, lattice, n, 8.0, 20)
        mine = (together.edge_index[1] >= offset) & (together.edge_index[1] < offset + int(n))
        assert torch.equal(together.edge_index[:, mine] - offset, alone.edge_index)
        assert torch.equal(together.dist[mine], alone.dist)
        offset += int(n)


def test_a_flat_cell_is_refused():
    lattice = torch.diag(torch.tensor([1e-4, 1e-4, 5.0], dtype=torch.float64))[None]
    with pytest.raises(ValueError, match="crystal 0 of the batch has 1 atoms and lattice planes only"):
        periodic_neighbours(torch.zeros(1, 3).double(), lattice, torch.tensor([1]), 8.0, 4000000)


def test_mixed_precision_leaves_distances_alone():
    frac, lattice, n = crystal(seed=1, num_atoms=5)
    plain = periodic_neighbours(frac.float(), lattice.float(), n, 5.0, 12)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = periodic_neighbours(frac.float(), lattice.float(), n, 5.0, 12)
    assert torch.equal(plain.edge_index, mixed.edge_index)
    assert torch.equal(plain.dist, mixed.dist)
