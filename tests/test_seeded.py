"""Counter-based random numbers: right values, right statistics, no dependence on company."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.seeded import atom_seeds, derive_seeds, seeded_normal, seeded_uniform

SEEDS = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def splitmix64(state: int) -> int:
    """Finaliser of SplitMix64 in Python integers."""
    mask = 2**64 - 1
    state &= mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


@given(SEEDS, st.integers(0, 2**31))
def test_derived_seeds_are_splitmix64(seed: int, position: int) -> None:
    golden = 0x9E3779B97F4A7C15
    expected = splitmix64(splitmix64(seed + golden) + position * golden)
    assert int(derive_seeds(torch.tensor([seed]), position)[0]) % 2**64 == expected


def test_known_output_of_splitmix64() -> None:
    # First output of the public reference implementation for seed 1234567.
    assert splitmix64(1234567 + 0x9E3779B97F4A7C15) == 6457827717110365317


@given(st.lists(SEEDS, min_size=1, max_size=5), st.integers(0, 1000), st.integers(1, 7))
def test_rows_do_not_depend_on_their_company(seeds: list[int], stream: int, size: int) -> None:
    together = seeded_normal(torch.tensor(seeds), stream, size)
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(row, seeded_normal(torch.tensor([seed]), stream, size)[0])
        assert torch.equal(row, seeded_normal(torch.tensor([seed]), stream, size + 3)[0, :size])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**40), st.integers(0, 10_000))
def test_uniform_numbers_are_uniform(first_seed: int, stream: int) -> None:
    values = seeded_uniform(torch.arange(first_seed, first_seed + 400), stream, 50).flatten().double()
    n = len(values)
    assert values.min() > 0
    assert values.max() < 1
    ordered = values.sort().values
    distance = (ordered - (torch.arange(n) + 0.5) / n).abs().max()  # Kolmogorov-Smirnov
    assert distance < 2.2 / math.sqrt(n)  # exceeded once in 8,000


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**40), st.integers(0, 10_000))
def test_normal_numbers_are_normal(first_seed: int, stream: int) -> None:
    values = seeded_normal(torch.arange(first_seed, first_seed + 400), stream, 50).double()
    n = values.numel()
    assert abs(values.mean()) < 4.5 / math.sqrt(n)
    assert abs(values.var() - 1) < 4.5 * math.sqrt(2 / n)
    assert abs((values**4).mean() - 3) < 4.5 * math.sqrt(96 / n)
    # Neither rows (consecutive seeds) nor columns nor streams correlate.
    other = seeded_normal(torch.arange(first_seed, first_seed + 400), stream + 1, 50).double()
    for product in (values[1:] * values[:-1], values[:, 1:] * values[:, :-1], values * other):
        assert abs(product.mean()) < 4.5 / math.sqrt(product.numel())


def test_smallest_uniform_gives_a_finite_normal() -> None:
    assert torch.isfinite(seeded_normal(torch.arange(20_000), 0, 50)).all()


def test_atoms_depend_on_crystal_seed_and_place_only() -> None:
    seeds, num_atoms = torch.tensor([5, 6, 7]), torch.tensor([2, 4, 3])
    together = atom_seeds(seeds, num_atoms)
    assert torch.equal(together[2:6], atom_seeds(seeds[1:2], num_atoms[1:2]))
    assert len(together.unique()) == 9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_bits_on_every_device() -> None:
    seeds = torch.arange(100)
    assert torch.equal(seeded_uniform(seeds, 3, 10), seeded_uniform(seeds.cuda(), 3, 10).cpu())
