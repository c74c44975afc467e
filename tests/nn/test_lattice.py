"""Cells from network outputs: exact where possible, always possible."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from matwheel.nn.lattice import LatticeScaler, cell_matrix, cell_parameters, smallest_eigenvalue

LENGTH, ANGLE = st.floats(2, 40), st.floats(60, 119)
NUMBER = st.floats(-1e4, 1e4, width=32)


def training_cells() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = 3 + 5 * torch.rand(50, 3, generator=generator).double()
    angles = 75 + 40 * torch.rand(50, 3, generator=generator).double()
    lengths[0], angles[0] = torch.tensor([3.2, 3.2, 26.8]), torch.tensor([90.0, 90, 120])  # a monolayer
    num_atoms = torch.randint(1, 12, (50,), generator=generator)
    return cell_matrix(lengths, angles), num_atoms


@settings(deadline=None)
@given(st.tuples(LENGTH, LENGTH, LENGTH), st.tuples(ANGLE, ANGLE, ANGLE))
def test_parameters_and_matrices_agree_with_pymatgen(
    lengths: tuple[float, float, float], angles: tuple[float, float, float]
) -> None:
    theirs = Lattice.from_parameters(*lengths, *angles)
    ours = cell_matrix(torch.tensor([lengths]).double(), torch.tensor([angles]).double())
    assert float(torch.linalg.det(ours)) == pytest.approx(theirs.volume, rel=1e-5)
    for matrix in (ours, torch.from_numpy(np.array(theirs.matrix))[None]):
        found_lengths, found_angles = cell_parameters(matrix)
        torch.testing.assert_close(found_lengths[0], torch.tensor(lengths).double(), rtol=1e-6, atol=0)
        torch.testing.assert_close(found_angles[0], torch.tensor(angles).double(), rtol=1e-5, atol=1e-4)


@given(st.tuples(*[st.floats(-1, 1, width=32)] * 3))
def test_smallest_eigenvalue_is_that_of_the_gram_matrix(cosines: tuple[float, float, float]) -> None:
    a, b, c = cosines
    gram = torch.tensor([[1, c, b], [c, 1, a], [b, a, 1]], dtype=torch.float64)
    expected = torch.linalg.eigvalsh(gram)[0]
    found = smallest_eigenvalue(torch.tensor([cosines], dtype=torch.float64))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_scaled_parameters_are_standard_on_the_training_set_and_invert() -> None:
    lattices, num_atoms = training_cells()
    scaler = LatticeScaler()
    scaler.fit(lattices, num_atoms)
    scaled = scaler(lattices.float(), num_atoms)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(6), atol=1e-4, rtol=0)
    # Cells of the training set lie within the bounds and come back as they were, up to rotation.
    found, expected = cell_parameters(scaler.cells(scaled, num_atoms)), cell_parameters(lattices.float())
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-2)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(*[NUMBER] * 6), min_size=1, max_size=4), st.integers(1, 64))
def test_any_network_output_is_a_possible_cell(outputs: list[tuple[float, ...]], atoms: int) -> None:
    lattices, num_atoms = training_cells()
    scaler = LatticeScaler()
    scaler.fit(lattices, num_atoms)
    cells = scaler.cells(torch.tensor(outputs), torch.full((len(outputs),), atoms))
    assert torch.isfinite(cells).all()
    volume = torch.linalg.det(cells.double()) / atoms
    low, high = scaler.volume_range.tolist()
    assert volume.min() > 0.99 * low
    assert volume.max() < 1.01 * high
    _, angles = cell_parameters(cells)
    assert angles.min() > 20
    assert angles.max() < 160
    flatness = smallest_eigenvalue(torch.cos(torch.deg2rad(angles.double())))
    assert flatness.min() > 0.95 * float(scaler.flatness)


def test_cubic_training_cells_do_not_blow_up_the_scale() -> None:
    scaler = LatticeScaler()
    scaler.fit(4 * torch.eye(3).repeat(10, 1, 1), torch.full((10,), 2))
    scaled = scaler(4.001 * torch.eye(3)[None], torch.tensor([2]))
    assert scaled.abs().max() < 2
    torch.testing.assert_close(
        scaler.cells(torch.zeros(1, 6), torch.tensor([2]))[0], 4 * torch.eye(3), atol=1e-4, rtol=0
    )


def test_bounds_travel_with_the_checkpoint() -> None:
    trained, fresh = LatticeScaler(), LatticeScaler()
    trained.fit(*training_cells())
    fresh.load_state_dict(trained.state_dict())
    outputs, num_atoms = 5 * torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.full((20,), 3)
    assert torch.equal(fresh.cells(outputs, num_atoms), trained.cells(outputs, num_atoms))
