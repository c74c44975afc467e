import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.neighbours import periodic_neighbours
from matwheel.nn.symmetric_graph import SymmetricGraph, match_reverse, unit_vectors
from tests.nn.crystals import random_crystals

CUTOFF, NEIGHBOURS = 6.0, 5


def geometry(num_atoms, seed=0):
    table = random_crystals(num_atoms, seed)
    return torch.from_numpy(table.frac_coords), torch.from_numpy(table.lattices), torch.from_numpy(table.num_atoms)


def as_set(graph):
    vectors = (graph.direction * graph.dist[:, None]).numpy().round(6) + 0.0
    return set(zip(graph.centre.tolist(), graph.neighbour.tolist(), map(tuple, vectors), strict=True))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_edges_are_the_nearest_and_their_reverses(num_atoms, seed):
    frac, lattice, num_atoms = geometry(num_atoms, seed)
    graph = SymmetricGraph.build(frac, lattice, num_atoms, CUTOFF, NEIGHBOURS)
    near = periodic_neighbours(frac, lattice, num_atoms, CUTOFF, NEIGHBOURS)
    crystal = torch.repeat_interleave(torch.arange(len(num_atoms)), num_atoms)
    neighbour, centre = near.edge_index
    vectors = torch.einsum("ea,eab->eb", frac[neighbour] + near.image - frac[centre], lattice[crystal[centre]])
    expected = set()
    for a, b, vector in zip(centre.tolist(), neighbour.tolist(), vectors.numpy(), strict=True):
        expected |= {(a, b, tuple(vector.round(6) + 0.0)), (b, a, tuple((-vector).round(6) + 0.0))}
    assert as_set(graph) == expected
    assert len(graph.centre) == len(expected)
    assert bool((graph.centre.diff() >= 0).all())


def test_reverse_runs_the_other_way():
    graph = SymmetricGraph.build(*geometry([3, 1, 6]), CUTOFF, NEIGHBOURS)
    back = graph.reverse
    torch.testing.assert_close(back[back], torch.arange(len(back)))
    torch.testing.assert_close(graph.centre[back], graph.neighbour)
    torch.testing.assert_close(graph.direction[back], -graph.direction)
    torch.testing.assert_close(graph.dist[back], graph.dist)
    assert not bool((back == torch.arange(len(back))).any())


@pytest.mark.parametrize("perfect", [False, True])
def test_graph_does_not_depend_on_the_order_of_atoms(perfect):
    frac, lattice, num_atoms = geometry([8])
    if perfect:  # rock salt: every shell is full of ties
        lattice = 5.6 * torch.eye(3, dtype=torch.float64)[None]
        frac = torch.tensor(
            [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]],
            dtype=torch.float64,
        )
        frac = frac / 2
    order = torch.tensor([3, 1, 7, 5, 0, 2, 6, 4])
    graph = SymmetricGraph.build(frac, lattice, num_atoms, CUTOFF, NEIGHBOURS)
    moved = SymmetricGraph.build(frac[order], lattice, num_atoms, CUTOFF, NEIGHBOURS)
    renamed = moved._replace(centre=order[moved.centre], neighbour=order[moved.neighbour])
    assert as_set(renamed) == as_set(graph)


def test_isolated_and_coinciding_atoms():
    lattice = 40.0 * torch.eye(3)[None]
    graph = SymmetricGraph.build(torch.zeros(1, 3), lattice, torch.tensor([1]), CUTOFF, NEIGHBOURS)
    assert len(graph.centre) == len(graph.reverse) == 0
    graph = SymmetricGraph.build(torch.zeros(2, 3), lattice, torch.tensor([2]), CUTOFF, NEIGHBOURS)
    assert bool(torch.isfinite(graph.direction).all())


def test_match_reverse_finds_exactly_the_ways_back():
    frac, lattice, num_atoms = geometry([4, 2])
    edges = periodic_neighbours(frac, lattice, num_atoms, CUTOFF, NEIGHBOURS)
    pairs = match_reverse(edges.edge_index, edges.image.long(), len(frac))
    rows = [
        (a, b, *image) for (b, a), image in zip(edges.edge_index.t().tolist(), edges.image.long().tolist(), strict=True)
    ]
    place = {row: n for n, row in enumerate(rows)}
    expected = {(n, place[b, a, -x, -y, -z]) for n, (a, b, x, y, z) in enumerate(rows) if (b, a, -x, -y, -z) in place}
    assert set(map(tuple, pairs.t().tolist())) == expected
    assert 0 < len(expected) < len(rows)


def test_unit_vectors_keep_zero():
    vectors = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(unit_vectors(vectors), [[0.6, 0, 0.8], [0, 0, 0]], atol=1e-7)
