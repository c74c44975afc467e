"""The minimum image is the minimum, in whatever cell."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.diffusion.periodic import is_reduced, minimum_image

FRACTION = st.floats(-3, 3, allow_nan=False, width=32)


def brute_force(difference: torch.Tensor, lattice: torch.Tensor, reach: int) -> torch.Tensor:
    """Length of the shortest of (2 reach + 1)^3 images."""
    shifts = torch.tensor(list(itertools.product(range(-reach, reach + 1), repeat=3)), dtype=difference.dtype)
    return ((difference - difference.round() + shifts) @ lattice).norm(dim=1).min()


@st.composite
def cells(draw: st.DrawFn) -> torch.Tensor:
    """Cells from orthogonal to badly skewed: a reduced one whose vectors are then added to each other."""
    lengths = torch.tensor([draw(st.floats(2, 12)) for _ in range(3)], dtype=torch.float64)
    lattice = torch.diag(lengths)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        lattice[i, j] = draw(st.floats(-0.5, 0.5)) * lengths[j]
    for i, j in ((0, 1), (2, 0), (1, 2)):
        lattice[i] += draw(st.integers(-1, 1)) * lattice[j]
    return lattice


@settings(deadline=None, max_examples=60)
@given(cells(), st.lists(st.tuples(FRACTION, FRACTION, FRACTION), min_size=1, max_size=4))
def test_equals_brute_force(lattice: torch.Tensor, differences: list[tuple[float, float, float]]) -> None:
    difference = torch.tensor(differences, dtype=torch.float64)
    batch = torch.zeros(len(difference), dtype=torch.long)
    found = minimum_image(difference, lattice[None], batch)
    for row, shortest in zip(difference, found, strict=True):
        torch.testing.assert_close(shortest.norm(), brute_force(row, lattice, 12), rtol=1e-9, atol=1e-9)
        image = (shortest @ lattice.inverse()) - row  # and it is an image of the displacement
        torch.testing.assert_close(image, image.round(), rtol=0, atol=1e-6)


def test_a_needle_of_a_cell_needs_far_images() -> None:
    lattice = torch.tensor([[3.0, 0, 0], [14.0, 3.0, 0], [0, 0, 3.0]], dtype=torch.float64)
    assert not is_reduced(lattice[None])[0]
    difference = torch.tensor([[0.1, 0.5, 0.2]], dtype=torch.float64)
    found = minimum_image(difference, lattice[None], torch.tensor([0])).norm()
    assert found == pytest.approx(float(brute_force(difference[0], lattice, 8)))
    assert found < 0.99 * brute_force(difference[0], lattice, 1)


def test_crystals_of_a_batch_keep_their_own_cell() -> None:
    lattice = torch.stack([2 * torch.eye(3), torch.tensor([[3.0, 0, 0], [14.0, 3.0, 0], [0, 0, 3.0]])])
    difference = torch.tensor([[0.9, 0.0, 0.0], [0.1, 0.5, 0.2], [0.0, 0.75, 0.0]])
    batch = torch.tensor([0, 1, 0])
    together = minimum_image(difference, lattice, batch)
    for i in range(3):
        alone = minimum_image(difference[i : i + 1], lattice[batch[i : i + 1]], torch.tensor([0]))
        torch.testing.assert_close(together[i : i + 1], alone)
    torch.testing.assert_close(together[0], torch.tensor([-0.2, 0.0, 0.0]))
    torch.testing.assert_close(together[2], torch.tensor([0.0, -0.5, 0.0]))
