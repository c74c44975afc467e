"""Noise predictors against what can be worked out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.diffusion.latent import LatentDiffusion
from matwheel.nn.prior_network import GaussianPrior, NoisePredictor, PriorNetwork


def _networks() -> list[NoisePredictor]:
    torch.manual_seed(0)
    gaussian = GaussianPrior(32, 6, 2, num_directions=8, hidden_dim=16, time_dim=8)
    torch.nn.init.normal_(gaussian.end.weight)  # zero when new: nothing to see
    return [PriorNetwork(32, 6, time_dim=8), gaussian]


@pytest.mark.parametrize("network", _networks(), ids=lambda n: type(n).__name__)
def test_latent_step_and_condition_are_used(network: NoisePredictor) -> None:
    network.fit(_latents(100, 32, 20, seed=1), torch.randn(100, 2))
    latent, condition, step = torch.randn(3, 32), torch.randn(3, 6), torch.tensor([0, 5, 9])
    kept, features = torch.tensor([0.9, 0.5, 0.1]), torch.randn(3, 2)
    out = network(latent, step, kept, condition, features)
    assert out.shape == (3, 32)
    for other in (
        network(latent + 1, step, kept, condition, features),
        network(latent, step + 1, kept, condition, features),
        network(latent, step, kept, condition + 1, features),
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
@given(
    dim=st.integers(1, 12),
    rank=st.integers(1, 4),
    num_features=st.integers(0, 3),
    kept=st.floats(0.02, 0.98),
    seed=st.integers(0, 1000),
)
def test_a_new_network_says_what_is_to_be_expected_of_a_normal_distribution(
    dim: int, rank: int, num_features: int, kept: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = 20_000  # the ridge's penalty is that of one crystal
    features = torch.randn(count, num_features, generator=generator)
    slope = torch.randn(num_features, dim, generator=generator)
    latents = _latents(count, dim, rank, seed) + features @ slope
    network = GaussianPrior(dim, 3, num_features, num_directions=4, hidden_dim=8, time_dim=8)
    network.fit(latents, features)
    noisy, asked = torch.randn(5, dim, generator=generator), torch.randn(5, num_features, generator=generator)
    with torch.no_grad():
        found = network(noisy, torch.zeros(5, dtype=torch.long), torch.full((5,), kept), torch.zeros(5, 3), asked)
    # E[noise | noisy, features] of jointly normal variables, in the coordinates of the latents
    joint = torch.cov(torch.cat([latents, features], 1).double().T).view(dim + num_features, -1)
    to_latent = torch.linalg.solve(joint[dim:, dim:], joint[dim:, :dim])
    covariance = joint[:dim, :dim] - joint[:dim, dim:] @ to_latent
    mean = latents.double().mean(0) + (asked - features.mean(0)).double() @ to_latent
    of_noisy = kept * covariance + (1 - kept) * torch.eye(dim, dtype=torch.float64)
    expected = (1 - kept) ** 0.5 * torch.linalg.solve(of_noisy, (noisy.double() - kept**0.5 * mean).T).T
    torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=5e-3)


def test_samples_of_a_new_network_have_mean_and_covariance_of_the_latents() -> None:
    latents = _latents(4000, 6, 2, seed=3)
    latents[:2000] += 1  # of the first class
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(2000, 0)
    network = GaussianPrior(6, 3, num_directions=3, hidden_dim=8, time_dim=8)
    network.fit(latents, features)
    diffusion = LatentDiffusion(num_steps=400, beta_max=0.04)
    for member in range(2):
        given = (torch.zeros(5000, 3), features[2000 * member].expand(5000, -1))
        with torch.no_grad():
            drawn = diffusion.sample(
                lambda latent, step, given=given: network(latent, step, diffusion.kept[step], *given),
                torch.arange(5000),
                6,
            )
        real = latents[2000 * member : 2000 * (member + 1)]
        torch.testing.assert_close(drawn.mean(0), real.mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(torch.cov(drawn.T), torch.cov(real.T), atol=0.25, rtol=0.1)


def test_what_is_not_given_counts_as_its_mean() -> None:
    latents = _latents(50, 8, 3, seed=4)
    features = torch.randn(50, 2, generator=torch.Generator().manual_seed(5))
    features[::2] = torch.nan
    network = GaussianPrior(8, 3)
    network.fit(latents, features)
    rest = torch.zeros(1, 8), torch.tensor([3]), torch.tensor([0.5]), torch.zeros(1, 3)
    none, mean = torch.full((1, 2), torch.nan), features.nanmean(0, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(network(*rest, none), network(*rest, mean))
        assert not torch.allclose(network(*rest, none), network(*rest, mean + 1))
    unlabelled = GaussianPrior(8, 3)
    unlabelled.fit(latents, torch.full_like(features, torch.nan))
    assert (unlabelled.slope == 0).all()


def test_a_fit_does_not_depend_on_the_order_of_latents_or_on_signs_of_eigenvectors() -> None:
    latents, features = _latents(50, 8, 3, seed=4), torch.randn(50, 2, generator=torch.Generator().manual_seed(5))
    first, second = GaussianPrior(8, 3), GaussianPrior(8, 3)
    first.fit(latents, features)
    second.fit(latents.flip(0), features.flip(0))
    torch.testing.assert_close(first.directions[:, :3], second.directions[:, :3], atol=1e-4, rtol=0)
    assert (first.directions.gather(0, first.directions.abs().argmax(0, keepdim=True)) > 0).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="two at least"):
        GaussianPrior(8, 3).fit(torch.zeros(1, 8), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="set its num_features to 34"):
        GaussianPrior(8, 3).fit(torch.zeros(5, 8), torch.zeros(5, 34))
