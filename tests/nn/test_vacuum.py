"""Layers in empty space begin as layers."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.diffusion.noise import CoordinateNoise
from matwheel.diffusion.samplers import AnnealedLangevin, Cells, DenoisingSampler
from matwheel.nn.vacuum import Vacuum

AREA, THICKNESS, VOLUME = 12.0, 4.0, 20.0


def layers(heights: list[float], start: float = 0.9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cells of four atoms in a layer of 4 A along the second vector, across the boundary of the cell."""
    lattice = torch.stack(
        [torch.diag(torch.tensor([3.0, height, AREA / 3], dtype=torch.float64)) for height in heights]
    )
    lattice[:, 1, 0] = 1.0  # sheared: the normal of the layer is no lattice vector
    place = torch.tensor([0.0, 0.5, 0.7, 1.0], dtype=torch.float64)[None] * THICKNESS / torch.tensor(heights)[:, None]
    frac = torch.full((len(heights), 4, 3), 0.5, dtype=torch.float64)
    frac[:, :, 1] = (place + start) % 1
    return frac.view(-1, 3), lattice, torch.full((len(heights),), 4)


def test_layers_begin_as_thick_as_those_trained_on() -> None:
    vacuum = Vacuum()
    vacuum.fit(*layers([20.0, 25.0, 31.0]))
    torch.testing.assert_close(float(vacuum.matter), (THICKNESS + 3) * AREA / 4, rtol=1e-6, atol=0)
    _, lattice, num_atoms = layers([18.0, 40.0])
    extent = vacuum.extent(lattice, num_atoms)
    torch.testing.assert_close(extent[:, 1] * torch.tensor([18.0, 40.0]), torch.full((2,), THICKNESS).double())
    assert (extent[:, [0, 2]] == 1).all()
    assert vacuum.extent(lattice, 2 * num_atoms)[0, 1] > extent[0, 1]
    bulk = vacuum.extent(lattice, torch.full((2,), 30))
    assert (bulk == 1).all()


def test_crystals_without_vacuum_begin_everywhere() -> None:
    vacuum, generator = Vacuum(), torch.Generator().manual_seed(0)
    lattice = 6 * torch.eye(3, dtype=torch.float64) + torch.rand(20, 3, 3, generator=generator).double()
    num_atoms = torch.arange(1, 21)
    vacuum.fit(torch.rand(int(num_atoms.sum()), 3, generator=generator).double(), lattice, num_atoms)
    assert vacuum.matter == 0
    assert (vacuum.extent(4 * lattice, num_atoms) == 1).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 0.999), st.integers(1, 5))
def test_where_the_layer_lies_does_not_matter(start: float, copies: int) -> None:
    vacuum, other = Vacuum(), Vacuum()
    vacuum.fit(*layers([20.0] * copies))
    other.fit(*layers([20.0] * copies, start))
    torch.testing.assert_close(vacuum.matter, other.matter)


def test_samplers_begin_within_the_extent_of_the_atoms() -> None:
    n = 2000
    extent = torch.tensor([[1.0, 0.2, 1.0]])
    cells = Cells(30 * torch.eye(3)[None], torch.tensor([n]), torch.ones(1, 100) / 100, extent, torch.tensor([1]))
    for sampler in (DenoisingSampler(max_sigma=1.0), AnnealedLangevin(num_levels=2, steps_per_level=1)):
        noise = CoordinateNoise(1.0, 0.01)
        seen: list[torch.Tensor] = []

        def denoise(frac: torch.Tensor, numbers: torch.Tensor, level: torch.Tensor, seen: list = seen) -> tuple:  # type: ignore[type-arg]
            seen.append(frac)
            return torch.zeros_like(frac), torch.zeros(len(frac), 100)

        sampler.sample(denoise, noise, cells)
        place = (seen[0] + 0.4) % 1 * 30  # A
        spread = place.std(0)
        torch.testing.assert_close(spread[1], torch.tensor((6**2 / 12 + 1) ** 0.5), rtol=0.05, atol=0)
        torch.testing.assert_close(spread[[0, 2]], torch.full((2,), 30 / 12**0.5), rtol=0.05, atol=0)
