"""Noise predictors against what can be worked out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.diffusion.latent import LatentDiffusion
from matwheel.nn.prior_network import GaussianPrior, NoisePredictor, PriorNetwork


def _networks() -> list[NoisePredictor]:
    torch.manual_seed(0)
    gaussian = GaussianPrior(32, 6, num_directions=8, hidden_dim=16, time_dim=8)
    torch.nn.init.normal_(gaussian.end.weight)  # zero when new: nothing to see
    return [PriorNetwork(32, 6, time_dim=8), gaussian]


@pytest.mark.parametrize("network", _networks(), ids=lambda n: type(n).__name__)
def test_latent_step_and_condition_are_used(network: NoisePredictor) -> None:
    network.fit(_latents(100, 32, 20, seed=1))
    latent, condition, step = torch.randn(3, 32), torch.randn(3, 6), torch.tensor([0, 5, 9])
    kept = torch.tensor([0.9, 0.5, 0.1])
    out = network(latent, step, kept, condition)
    assert out.shape == (3, 32)
    for other in (
        network(latent + 1, step, kept, condition),
        network(latent, step + 1, kept, condition),
        network(latent, step, kept, condition + 1),
    ):
        assert not torch.allclose(out, other)


def test_layers_of_the_published_network() -> None:
    network = PriorNetwork(latent_dim=32, condition_dim=6, time_dim=8)
    widths = [layer.out_features for layer in [*network.down, network.middle, *network.up, network.out]]
    assert widths == [16, 8, 4, 4, 8, 16, 32, 32]
    with pytest.raises(ValueError, match="halved"):
        PriorNetwork(latent_dim=20)


def _latents(count: int, dim: int, rank: int, seed: int) -> torch.Tensor:
    """Normal around a mean, with most of their variance in a few directions."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(rank, dim, generator=generator)
    mean = torch.randn(dim, generator=generator)
    inside = torch.randn(count, rank, generator=generator) @ basis
    return mean + inside + 0.05 * torch.randn(count, dim, generator=generator)


@settings(deadline=None, max_examples=25)
@given(dim=st.integers(1, 12), rank=st.integers(1, 4), kept=st.floats(0.02, 0.98), seed=st.integers(0, 1000))
def test_a_new_network_says_what_is_to_be_expected_of_a_normal_distribution(
    dim: int, rank: int, kept: float, seed: int
) -> None:
    latents = _latents(200, dim, rank, seed)
    network = GaussianPrior(dim, 3, num_directions=4, hidden_dim=8, time_dim=8)
    network.fit(latents)
    noisy = torch.randn(5, dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found = network(noisy, torch.zeros(5, dtype=torch.long), torch.full((5,), kept), torch.zeros(5, 3))
    # E[noise | noisy] of jointly normal variables, in the coordinates of the latents
    covariance = torch.cov(latents.double().T).view(dim, dim)  # a number for a single variable
    of_noisy = kept * covariance + (1 - kept) * torch.eye(dim, dtype=torch.float64)
    about_mean = noisy.double() - kept**0.5 * latents.double().mean(0)
    expected = (1 - kept) ** 0.5 * torch.linalg.solve(of_noisy, about_mean.T).T
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


def test_samples_of_a_new_network_have_mean_and_covariance_of_the_latents() -> None:
    latents = _latents(4000, 6, 2, seed=3)
    network = GaussianPrior(6, 3, num_directions=3, hidden_dim=8, time_dim=8)
    network.fit(latents)
    diffusion = LatentDiffusion(num_steps=400, beta_max=0.04)
    condition = torch.zeros(5000, 3)
    with torch.no_grad():
        drawn = diffusion.sample(
            lambda latent, step: network(latent, step, diffusion.kept[step], condition), torch.arange(5000), 6
        )
    torch.testing.assert_close(drawn.mean(0), latents.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(latents.T), atol=0.15, rtol=0.1)


def test_a_fit_does_not_depend_on_the_order_of_latents_or_on_signs_of_eigenvectors() -> None:
    latents = _latents(50, 8, 3, seed=4)
    first, second = GaussianPrior(8, 3), GaussianPrior(8, 3)
    first.fit(latents)
    second.fit(latents.flip(0))
    torch.testing.assert_close(first.directions[:, :3], second.directions[:, :3], atol=1e-4, rtol=0)
    assert (first.directions.gather(0, first.directions.abs().argmax(0, keepdim=True)) > 0).all()
    with pytest.raises(ValueError, match="two at least"):
        first.fit(latents[:1])
