"""Noise processes: what they do to crystals and how predictions are scored."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.diffusion.draws import NoiseDraws, spread
from matwheel.diffusion.noise import CoordinateNoise, TypeNoise, draw_types
from matwheel.diffusion.periodic import minimum_image

LATTICE = torch.stack([20 * torch.eye(3), torch.tensor([[30.0, 0, 0], [-9, 25, 0], [4, 5, 28]])])
BATCH = torch.tensor([0, 0, 1, 1, 1])


def test_levels_are_geometric_and_saved() -> None:
    noise = CoordinateNoise()
    sigmas = noise.state_dict()["sigmas"]
    assert len(sigmas) == noise.num_levels == 50
    assert float(sigmas[0]) == pytest.approx(10)
    assert float(sigmas[-1]) == pytest.approx(0.01)
    torch.testing.assert_close(sigmas[1:] / sigmas[:-1], torch.full((49,), (0.001) ** (1 / 49)))
    assert float(TypeNoise().sigmas[0]) == pytest.approx(5)


@pytest.mark.parametrize("levels", [(0.01, 10.0, 50), (10.0, 0.0, 50), (10.0, 0.01, 1)])
def test_impossible_levels_are_refused(levels: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="sigma_max > sigma_min > 0"):
        CoordinateNoise(*levels)


@settings(deadline=None)
@given(st.integers(0, 49), st.integers(0, 49), st.integers(0, 2**32))
def test_coordinates_move_by_sigma_times_noise(level_0: int, level_1: int, seed: int) -> None:
    process = CoordinateNoise(sigma_max=1.0)  # far below half a cell, so that the displacement can be told
    generator = torch.Generator().manual_seed(seed)
    frac = torch.rand(5, 3, generator=generator)
    noise = torch.randn(5, 3, generator=generator).clamp(-3, 3)
    level = torch.tensor([level_0, level_1])
    noisy = process.corrupt(frac, LATTICE, level, BATCH, noise)
    assert noisy.min() >= 0
    assert noisy.max() < 1
    moved = minimum_image(noisy - frac, LATTICE, BATCH)
    torch.testing.assert_close(moved, process.sigmas[level][BATCH, None] * noise, atol=3e-5, rtol=1e-4)
    # The perfect network predicts minus the noise: its loss is zero, and the estimate is the clean position.
    loss = process.loss(-noise, frac, noisy, LATTICE, level, BATCH)
    assert loss.shape == (2,)
    assert loss.max() < 1e-4 + 1e-4 / process.sigmas[level].min() ** 2 * 3e-3
    back = process.move(noisy, process.clean_displacement(-noise, level, BATCH), LATTICE, BATCH)
    torch.testing.assert_close(minimum_image(back - frac, LATTICE, BATCH), torch.zeros(5, 3), atol=3e-5, rtol=0)


def test_coordinate_loss_is_the_formula_averaged_per_crystal() -> None:
    process = CoordinateNoise()
    frac = torch.full((5, 3), 0.5)
    displacement = torch.tensor([[0.3, 0, 0], [0, 0.1, 0], [0, 0, 0.2], [0.1, 0.1, 0], [0, 0, 0]])
    noisy = process.move(frac, -displacement, LATTICE, BATCH)
    prediction = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([20, 30])
    sigma = process.sigmas[level][BATCH]
    score_error = displacement / sigma[:, None] ** 2 - prediction / sigma[:, None]
    per_atom = 0.5 * sigma**2 * score_error.square().sum(1)
    expected = torch.stack([per_atom[:2].mean(), per_atom[2:].mean()])
    torch.testing.assert_close(
        process.loss(prediction, frac, noisy, LATTICE, level, BATCH), expected, rtol=1e-3, atol=0
    )


def test_noise_larger_than_the_cell_has_a_target_within_it() -> None:
    process = CoordinateNoise()
    lattice = 4 * torch.eye(3)[None]
    batch = torch.zeros(1000, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    frac = torch.rand(1000, 3, generator=generator)
    noisy = process.corrupt(frac, lattice, torch.tensor([0]), batch, torch.randn(1000, 3, generator=generator))
    assert minimum_image(frac - noisy, lattice, batch).abs().max() <= 2 + 1e-5
    loss = process.loss(torch.zeros(1000, 3), frac, noisy, lattice, torch.tensor([0]), batch)
    assert float(loss) == pytest.approx(0.5 * 3 * (4**2 / 12) / 10**2, rel=0.1)  # of uniform displacements


@pytest.mark.parametrize("level", [0, 25, 49])
def test_types_follow_their_distribution(level: int) -> None:
    process = TypeNoise()
    n = 40_000
    composition = torch.zeros(1, 100)
    composition[0, [5, 7, 99]] = torch.tensor([0.2, 0.5, 0.3])
    uniform = torch.rand(n, 2, generator=torch.Generator().manual_seed(level))
    noisy = process.corrupt(
        torch.full((n,), 8), composition, torch.tensor([level]), torch.zeros(n, dtype=torch.long), uniform
    )
    sigma = process.sigmas[level]
    expected = sigma * composition[0] / (1 + sigma)
    expected[7] += 1 / (1 + sigma)
    found = torch.bincount(noisy, minlength=101)[1:] / n
    assert (found - expected).abs().max() < 4.5 * 0.5 / math.sqrt(n)
    assert found[expected == 0].sum() == 0


def test_type_loss_is_cross_entropy_over_sigma() -> None:
    process = TypeNoise()
    logits = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    numbers = torch.tensor([1, 100, 8, 22, 22])
    level = torch.tensor([0, 49])
    per_atom = -logits.log_softmax(1)[torch.arange(5), numbers - 1] / process.sigmas[level][BATCH]
    torch.testing.assert_close(
        process.loss(logits, numbers, level, BATCH), torch.stack([per_atom[:2].mean(), per_atom[2:].mean()])
    )


def test_types_are_drawn_at_the_ends_of_the_table() -> None:
    probabilities = torch.zeros(2, 100)
    probabilities[0, 0] = probabilities[1, 99] = 3.0
    uniform = torch.tensor([1e-9, 1 - 6e-8, 1e-9, 1 - 6e-8])
    assert draw_types(probabilities, torch.tensor([0, 0, 1, 1]), uniform).tolist() == [1, 1, 100, 100]


@given(st.integers(1, 200), st.integers(0, 500), st.integers(1, 400))
def test_levels_are_dealt_out_evenly(count: int, start: int, length: int) -> None:
    dealt = torch.bincount(spread(torch.arange(start, start + length), count), minlength=count)
    assert dealt.max() - dealt.min() <= 1


def test_incomplete_turns_cover_all_depths() -> None:
    for count in (50, 300):
        dealt = spread(torch.arange(count // 5), count).sort().values
        assert torch.diff(dealt).max() <= 0.2 * count


def test_fixed_draws_repeat_and_do_not_depend_on_the_batch() -> None:
    seeds, num_atoms = torch.tensor([3, 4, 5]), torch.tensor([2, 1, 4])
    position = torch.arange(3)
    together = NoiseDraws.seeded(seeds, num_atoms, 8, 50, position)
    alone = NoiseDraws.seeded(seeds[2:], num_atoms[2:], 8, 50, position[2:])
    assert torch.equal(together.level[2:], alone.level)
    assert torch.equal(together.latent[2:], alone.latent)
    assert torch.equal(together.coordinates[3:], alone.coordinates)
    assert torch.equal(together.types[3:], alone.types)
    assert not torch.equal(together.coordinates[0], together.coordinates[2])


def test_levels_are_drawn_evenly_and_by_seed_where_no_position_is_given():
    seeds = torch.arange(5000)
    num_atoms = torch.ones(5000, dtype=torch.long)
    draws = NoiseDraws.seeded(seeds, num_atoms, 2, 10)
    counts = torch.bincount(draws.level, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 400
    part = NoiseDraws.seeded(seeds[100:110], num_atoms[:10], 2, 10)
    torch.testing.assert_close(part.level, draws.level[100:110])
    torch.testing.assert_close(part.condition, draws.condition[100:110])
