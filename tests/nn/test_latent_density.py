"""A kernel density against what can be worked out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.nn.condition import EncodedConditions
from matwheel.nn.latent_density import LatentDensity


def conditions(scalar: torch.Tensor, member: torch.Tensor | None = None) -> EncodedConditions:
    """A scalar and, if given, a class for each."""
    classes = torch.zeros(len(scalar), 0, dtype=torch.long) if member is None else member[:, None]
    return EncodedConditions(scalar[:, None], classes)


def fitted(count: int = 500, dim: int = 6) -> tuple[LatentDensity, torch.Tensor, torch.Tensor]:
    """Density of latents whose first number is their condition."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(count, dim, generator=generator) @ torch.randn(dim, dim, generator=generator) + 3
    scalar = (latents[:, 0] - latents[:, 0].mean()) / latents[:, 0].std()
    density = LatentDensity(dim)
    density.fit(latents, conditions(scalar))
    return density, latents, scalar


@settings(deadline=None, max_examples=20)
@given(bandwidth=st.floats(0, 1), dim=st.integers(1, 6))
def test_without_conditions_mean_and_covariance_are_those_of_the_latents(bandwidth: float, dim: int) -> None:
    density, latents, _ = fitted(dim=dim)
    drawn = density.sample(conditions(torch.full((20_000,), torch.nan)), torch.arange(20_000), bandwidth)
    spread = latents.std(0)
    assert ((drawn.mean(0) - latents.mean(0)).abs() < 0.06 * spread).all()
    scaled = torch.cov((drawn / spread).T) - torch.cov((latents / spread).T)
    assert scaled.abs().max() < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_density_on_a_gpu_is_the_same() -> None:
    density, latents, scalar = fitted()
    other = LatentDensity(latents.shape[1]).cuda()
    other.fit(latents.cuda(), conditions(scalar.cuda()))
    torch.testing.assert_close(other.factor.cpu(), density.factor)
    assert other.sample(conditions(scalar[:9].cuda()), torch.arange(9).cuda(), 0.4).device.type == "cuda"


def test_conditions_are_followed_the_more_the_less_noise() -> None:
    density, latents, scalar = fitted()
    asked = torch.linspace(-1.5, 1.5, 4000)
    agreement = []
    for bandwidth in (0.0, 0.4, 0.8, 1.0):
        drawn = density.sample(conditions(asked), torch.arange(4000), bandwidth)
        agreement.append(float(torch.corrcoef(torch.stack([drawn[:, 0], asked]))[0, 1]))
    assert agreement == sorted(agreement, reverse=True)
    assert agreement[0] > 0.9
    assert abs(agreement[-1]) < 0.05
    near = density.sample(conditions(torch.full((500,), 1.0)), torch.arange(500), 0.0)
    own = [int((latents - row).abs().sum(1).argmin()) for row in near]
    torch.testing.assert_close(near, latents[own])  # nothing but training latents
    assert (scalar[own] - 1).std() == pytest.approx(density.width, rel=0.3)


def test_classes_are_kept_and_crystals_of_unknown_conditions_are_not_near_any() -> None:
    latents = torch.arange(400.0)[:, None]
    scalar, member = torch.zeros(400), torch.arange(400) % 2
    scalar[::4], member[1::4] = torch.nan, -1
    density = LatentDensity(1)
    density.fit(latents, conditions(scalar, member))
    given = conditions(torch.zeros(3000), torch.ones(3000, dtype=torch.long))
    drawn = density.sample(given, torch.arange(3000), 0.0).squeeze(1).long()
    assert set((drawn % 4).tolist()) == {3}  # of class 1, as far as it is known
    given = conditions(torch.zeros(3000), torch.full((3000,), -1))
    drawn = density.sample(given, torch.arange(3000), 0.0).squeeze(1).long()
    assert set((drawn % 4).tolist()) == {1, 2, 3}  # a class that is not asked for does not matter, the scalar does
    density.fit(latents, conditions(torch.full((400,), torch.nan)))
    drawn = density.sample(conditions(torch.zeros(3000)), torch.arange(3000), 0.0)
    assert len(drawn.unique()) > 350  # all are equally far


def test_a_draw_depends_on_its_own_seed_and_condition_alone() -> None:
    density, _, _ = fitted()
    asked, seeds = torch.linspace(-1, 1, 8), 100 + torch.arange(8)
    together = density.sample(conditions(asked), seeds, 0.5)
    alone = torch.cat([density.sample(conditions(asked[i : i + 1]), seeds[i : i + 1], 0.5) for i in range(8)])
    torch.testing.assert_close(together, alone)
    assert len(together.unique(dim=0)) == 8


def test_fewer_latents_than_dimensions() -> None:
    density = LatentDensity(20)
    latents = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    density.fit(latents, conditions(torch.randn(4)))
    drawn = density.sample(conditions(torch.zeros(50)), torch.arange(50), 0.5)
    assert drawn.isfinite().all()
    directions = torch.linalg.svd(latents - latents.mean(0)).Vh[3:]
    assert ((drawn - latents.mean(0)) @ directions.T).abs().max() < 0.02  # no further than the latents spread
    with pytest.raises(ValueError, match="two at least"):
        density.fit(latents[:1], conditions(torch.zeros(1)))
