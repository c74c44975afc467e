"""Samplers on a toy crystal whose clean positions are known."""

import math
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.diffusion.noise import CoordinateNoise
from matwheel.diffusion.periodic import minimum_image
from matwheel.diffusion.samplers import AnnealedLangevin, Cells, DenoisingSampler, Sampler, Sites, Update
from matwheel.diffusion.types import assign_types, initial_types, types_on_sites
from matwheel.seeded import atom_seeds

NUM_ATOMS = torch.tensor([3, 1, 5, 2, 4, 1, 2, 6])
SITES = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.75, 0.1]])  # where atoms of the lattice gas sit


def gas_cells(rows: slice = slice(None)) -> Cells:
    generator = torch.Generator().manual_seed(1)
    lattice = 6 * torch.eye(3) + torch.rand(len(NUM_ATOMS), 3, 3, generator=generator)
    composition = torch.rand(len(NUM_ATOMS), 100, generator=generator)
    composition /= composition.sum(1, keepdim=True)
    cells = Cells(lattice, NUM_ATOMS, composition, torch.ones(len(NUM_ATOMS), 3), torch.arange(100, 108))
    return cells.take(rows)


class LatticeGas:
    """The exact denoiser of atoms that sit on any of the sites with equal probability; types follow the site."""

    def __init__(self, cells: Cells, noise: CoordinateNoise) -> None:
        self.cells, self.noise = cells, noise
        self.batch = torch.repeat_interleave(torch.arange(len(cells.num_atoms)), cells.num_atoms)
        self.calls = 0

    def __call__(
        self, frac: torch.Tensor, numbers: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        assert numbers.min() >= 1
        assert numbers.max() <= 100
        assert frac.min() >= 0
        assert frac.max() < 1
        sigma = self.noise.sigmas[level][self.batch, None]
        to_site = torch.stack([minimum_image(site - frac, self.cells.lattice, self.batch) for site in SITES], 1)
        weight = torch.softmax(-0.5 * to_site.square().sum(2) / sigma**2, 1)
        logits = torch.zeros(len(frac), 100)
        logits[:, :3] = weight
        return (weight[:, :, None] * to_site).sum(1) / sigma, logits


SAMPLERS = [
    DenoisingSampler(),
    DenoisingSampler(num_steps=12, max_sigma=3.0),
    DenoisingSampler(num_steps=30, stochasticity=1.0),
    DenoisingSampler(num_steps=20, stochasticity=0.0, corrector_steps=2),
    AnnealedLangevin(num_levels=15, steps_per_level=2),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_atoms_arrive_at_the_sites(sampler: Sampler) -> None:
    noise, cells = CoordinateNoise(), gas_cells()
    gas = LatticeGas(cells, noise)
    atoms = sampler.sample(gas, noise, cells)
    distance = torch.stack(
        [minimum_image(site - atoms.frac_coords, cells.lattice, gas.batch).norm(dim=1) for site in SITES], 1
    )
    # Langevin dynamics ends with the noise of a step at the last level; the other sampler ends without.
    limit = 5 * math.sqrt(2) * 0.01 if isinstance(sampler, AnnealedLangevin) else 1e-4
    assert distance.min(1).values.max() < limit
    if not sampler.keeps_composition:
        assert torch.equal(atoms.atomic_numbers, distance.argmin(1) + 1)
    assert len(distance.argmin(1).unique()) == 3
    assert gas.calls == len(sampler.steps(noise))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(sampler: Sampler) -> None:
    noise, cells = CoordinateNoise(), gas_cells()
    together = sampler.sample(LatticeGas(cells, noise), noise, cells)
    third = gas_cells(slice(2, 3))
    alone = sampler.sample(LatticeGas(third, noise), noise, third)
    torch.testing.assert_close(together.frac_coords[4:9], alone.frac_coords, atol=1e-4, rtol=0)
    assert torch.equal(together.atomic_numbers[4:9], alone.atomic_numbers)


def on_sites(cells: Cells, max_sigma: float) -> Cells:
    """Every atom begins on a site of the lattice gas, which held hydrogen, helium or lithium."""
    number = torch.arange(int(cells.num_atoms.sum())) % 3
    return replace(cells, sites=Sites(SITES[number], number + 1, max_sigma))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_atoms_that_begin_on_sites_stay_there_and_take_fewer_steps(sampler: Sampler) -> None:
    noise, cells = CoordinateNoise(), on_sites(gas_cells(), max_sigma=0.2)
    gas = LatticeGas(cells, noise)
    atoms = sampler.sample(gas, noise, cells)
    assert cells.sites is not None
    away = minimum_image(cells.sites.frac_coords - atoms.frac_coords, cells.lattice, gas.batch).norm(dim=1)
    assert away.max() < (5 * math.sqrt(2) * 0.01 if isinstance(sampler, AnnealedLangevin) else 1e-4)
    steps = sampler.steps(noise, 0.2)
    assert gas.calls == len(steps) <= len(sampler.steps(noise)) * 2 / 3
    assert steps == sampler.steps(noise)[-len(steps) :]
    assert noise.sigmas[steps[0].level] <= 0.2001
    # Few atoms would come back to the same site from anywhere.
    free = sampler.sample(gas, noise, replace(cells, sites=None))
    wandered = minimum_image(cells.sites.frac_coords - free.frac_coords, cells.lattice, gas.batch).norm(dim=1)
    assert (wandered > 1).float().mean() > 0.4


def test_a_sample_on_sites_does_not_depend_on_its_batch() -> None:
    noise, cells = CoordinateNoise(), on_sites(gas_cells(), max_sigma=0.5)
    together = DenoisingSampler().sample(LatticeGas(cells, noise), noise, cells)
    part = cells.take(slice(2, 4))
    alone = DenoisingSampler().sample(LatticeGas(part, noise), noise, part)
    torch.testing.assert_close(together.frac_coords[4:11], alone.frac_coords, atol=1e-4, rtol=0)
    assert torch.equal(together.atomic_numbers[4:11], alone.atomic_numbers)


def test_less_noise_than_any_step_has_is_refused() -> None:
    cells = on_sites(gas_cells(), max_sigma=0.005)
    with pytest.raises(ValueError, match=r"no step has a noise of at most 0.005 A"):
        DenoisingSampler().sample(LatticeGas(cells, CoordinateNoise()), CoordinateNoise(), cells)


def test_other_seeds_give_other_samples() -> None:
    noise, cells = CoordinateNoise(), gas_cells()
    other = replace(cells, seeds=cells.seeds + 50)
    sampler = DenoisingSampler()
    first, second = (sampler.sample(LatticeGas(some, noise), noise, some) for some in (cells, other))
    assert not torch.equal(first.atomic_numbers, second.atomic_numbers)


def test_paper_preset_of_langevin_dynamics() -> None:
    sigmas = CoordinateNoise().sigmas.tolist()
    updates = AnnealedLangevin().schedule(sigmas)
    assert len(updates) == 5000
    assert [update.level for update in updates[:101:100]] == [0, 1]
    for update in updates[::100]:
        # x + a p / sigma + sqrt(2 a) noise with a = 1e-4 (sigma / 0.01)^2, and the clean estimate is x + sigma p.
        size = 1e-4 * (sigmas[update.level] / 0.01) ** 2
        assert update.gain * sigmas[update.level] == pytest.approx(size / sigmas[update.level], rel=1e-4)
        assert update.noise == pytest.approx(math.sqrt(2 * size), rel=1e-4)


def test_a_single_step_goes_all_the_way_from_the_largest_noise() -> None:
    assert DenoisingSampler(num_steps=1).schedule([5.0, 1.0, 0.1]) == [Update(0, 1.0, 0.0)]


def test_min_sigma_cuts_the_last_levels() -> None:
    sigmas = CoordinateNoise().sigmas.tolist()
    updates = AnnealedLangevin(steps_per_level=1, min_sigma=0.1).schedule(sigmas)
    assert 0 < len(updates) < 50
    assert all(sigmas[update.level] >= 0.1 for update in updates)
    with pytest.raises(ValueError, match="leaves no noise level"):
        AnnealedLangevin(min_sigma=11).schedule(sigmas)


@settings(deadline=None)
@given(st.integers(1, 28), st.floats(0, 1), st.floats(0.5, 10))
def test_denoising_steps_lower_the_noise_to_the_next_level(num_steps: int, stochasticity: float, start: float) -> None:
    sigmas = CoordinateNoise().sigmas.tolist()
    updates = DenoisingSampler(num_steps, stochasticity, start).schedule(sigmas)
    assert len(updates) == num_steps
    assert sigmas[updates[0].level] <= start * 1.001
    for update, following in pairwise(updates):
        kept = (1 - update.gain) * sigmas[update.level]
        assert math.hypot(kept, update.noise) == pytest.approx(sigmas[following.level], rel=1e-6)
        assert update.noise > 0 if stochasticity > 1e-3 else update.noise < 1e-2
    assert updates[-1].level == (49 if num_steps > 1 else updates[0].level)
    assert updates[-1].gain == 1
    assert updates[-1].noise == 0


def test_correctors_are_langevin_steps_at_the_level_reached() -> None:
    sigmas = CoordinateNoise().sigmas.tolist()
    plain = DenoisingSampler(10).schedule(sigmas)
    corrected = DenoisingSampler(10, corrector_steps=2, corrector_size=0.3).schedule(sigmas)
    assert corrected[::3] == plain
    assert len(corrected) == 10 + 2 * 9
    for following, *correctors in zip(plain[1:], corrected[1::3], corrected[2::3], strict=False):
        for update in correctors:
            # x + a p / sigma + sqrt(2 a) noise with a = 0.3 sigma^2
            sigma = sigmas[following.level]
            assert update == (following.level, 0.3, pytest.approx(math.sqrt(2 * 0.3 * sigma**2)))


@pytest.mark.parametrize("temperature", [0.0, 0.25])
def test_cold_correctors_add_less_noise(temperature: float) -> None:
    sigmas = CoordinateNoise().sigmas.tolist()
    warm = DenoisingSampler(10, corrector_steps=2).schedule(sigmas)
    cold = DenoisingSampler(10, corrector_steps=2, corrector_temperature=temperature).schedule(sigmas)
    assert cold[::3] == warm[::3]
    for step in (1, 2):
        for one, other in zip(cold[step::3], warm[step::3], strict=True):
            assert (one.level, one.gain) == (other.level, other.gain)
            assert one.noise == pytest.approx(math.sqrt(temperature) * other.noise)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (DenoisingSampler(num_steps=51), "there are 50"),
        (DenoisingSampler(max_sigma=0.001), "below the smallest noise level"),
        (AnnealedLangevin(num_levels=51), "there are 50"),
    ],
)
def test_impossible_schedules_are_refused(sampler: Sampler, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler.schedule(CoordinateNoise().sigmas.tolist())


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps"):
        DenoisingSampler(num_steps=0)
    with pytest.raises(ValueError, match="stochasticity"):
        DenoisingSampler(stochasticity=1.5)
    with pytest.raises(ValueError, match="corrector_size"):
        DenoisingSampler(corrector_size=0.0)
    with pytest.raises(ValueError, match="corrector_temperature must lie in"):
        DenoisingSampler(corrector_temperature=-0.1)
    with pytest.raises(ValueError, match="steps_per_level"):
        AnnealedLangevin(steps_per_level=0)


def types_of(composition: torch.Tensor, num_atoms: list[int]) -> list[list[int]]:
    count = torch.tensor(num_atoms)
    types = initial_types(composition, count, atom_seeds(torch.arange(len(num_atoms)), count))
    return [part.tolist() for part in types.split(num_atoms)]


def test_whole_compositions_are_met_exactly() -> None:
    composition = torch.zeros(3, 100)
    composition[0, [21, 7]] = torch.tensor([1 / 3, 2 / 3])  # TiO2
    composition[1, 99] = 1.0
    composition[2, [0, 1, 2, 3]] = 0.25
    types = types_of(composition, [12, 1, 8])
    assert sorted(types[0]) == [8] * 8 + [22] * 4
    assert types[0] != sorted(types[0])  # in random order
    assert types[1] == [100]
    assert sorted(types[2]) == [1, 1, 2, 2, 3, 3, 4, 4]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 8))
def test_rounded_counts_bound_the_types(seed: int, num_atoms: list[int], num_elements: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    composition = torch.zeros(len(num_atoms), 100)
    for row in composition:
        row[torch.randperm(100, generator=generator)[:num_elements]] = torch.rand(num_elements, generator=generator)
    composition = composition / composition.sum(1, keepdim=True)
    for row, count, types in zip(composition, num_atoms, types_of(composition, num_atoms), strict=True):
        assert len(types) == count
        found = torch.bincount(torch.tensor(types), minlength=101)[1:]
        rounded = (row * count).round()
        if rounded.sum() <= count:
            assert (found >= rounded).all()  # the rest was drawn
        else:
            assert (found <= rounded).all()  # the surplus was dropped
        assert found[row == 0].sum() == 0


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_types_are_assigned_as_they_fit_best(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    types = torch.randint(1, 4, (count,), generator=generator)
    logits = torch.randn(count, 100, generator=generator)
    assigned = assign_types(types, logits, torch.tensor(sizes))
    parts = zip(types.split(sizes), assigned.split(sizes), logits.split(sizes), strict=True)
    for own, given_, said in parts:
        assert sorted(own.tolist()) == sorted(given_.tolist())
        rows = torch.arange(len(own))
        best = max(float(said[rows, torch.tensor(order) - 1].sum()) for order in permutations(own.tolist()))
        assert float(said[rows, given_ - 1].sum()) == pytest.approx(best, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_types_on_sites_are_those_of_the_crystal_and_stay_where_the_sites_held_them(
    sizes: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    held, types = torch.randint(1, 101, (2, sum(sizes)), generator=generator)
    placed = types_on_sites(types, held, torch.tensor(sizes))
    for own, given_ in zip(types.split(sizes), placed.split(sizes), strict=True):
        assert sorted(own.tolist()) == sorted(given_.tolist())
    order = torch.cat([torch.randperm(size, generator=generator) + sum(sizes[:i]) for i, size in enumerate(sizes)])
    assert torch.equal(types_on_sites(held[order], held, torch.tensor(sizes)), held)


def test_cations_come_where_cations_were() -> None:
    # Perovskite BaTiO3 becomes KMgF3, whatever the order, and CsCl next to it LiH.
    held = torch.tensor([56, 22, 8, 8, 8, 55, 17])
    placed = types_on_sites(torch.tensor([9, 12, 9, 19, 9, 1, 3]), held, torch.tensor([5, 2]))
    assert placed.tolist() == [19, 12, 9, 9, 9, 3, 1]


def test_crystals_end_with_the_predicted_composition() -> None:
    noise, cells = CoordinateNoise(), gas_cells()
    composition = torch.zeros_like(cells.composition)
    composition[:, 3] = 1.0  # beryllium everywhere, of which the network knows nothing
    cells = replace(cells, composition=composition)
    assert set(DenoisingSampler().sample(LatticeGas(cells, noise), noise, cells).atomic_numbers.tolist()) == {4}
    free = AnnealedLangevin(num_levels=15, steps_per_level=2)
    assert set(free.sample(LatticeGas(cells, noise), noise, cells).atomic_numbers.tolist()) == {1, 2, 3}
