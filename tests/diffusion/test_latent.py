"""Latent diffusion against a case that can be worked out."""

import pytest
import torch

from matwheel.diffusion.latent import LatentDiffusion


def test_corruption_keeps_unit_variance_and_ends_noisy() -> None:
    diffusion = LatentDiffusion()
    generator = torch.Generator().manual_seed(0)
    latent, noise = torch.randn(2, 20_000, 2, generator=generator)
    kept = torch.cumprod(1 - torch.linspace(0.001, 0.02, 300), 0)
    for step in (0, 100, 299):
        corrupted = diffusion.corrupt(latent, torch.full((20_000,), step), noise)
        assert float(corrupted.var()) == pytest.approx(1, abs=0.03)
        torch.testing.assert_close((corrupted * latent).mean(), kept[step].sqrt(), atol=0.03, rtol=0)


def test_sampling_with_the_true_noise_predictor_gives_the_data() -> None:
    # Of latents normal around `mean` with unit variance, the best guess of the noise is known.
    diffusion = LatentDiffusion(num_steps=400, beta_max=0.04)
    mean = torch.tensor([2.0, -1.0, 0.0])
    kept = torch.cumprod(1 - diffusion.betas, 0)

    def predict_noise(latent: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        rest = (1 - kept[step, None]).sqrt()
        return rest * (latent - kept[step, None].sqrt() * mean)

    latents = diffusion.sample(predict_noise, torch.arange(10_000), 3)
    torch.testing.assert_close(latents.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(latents.var(0), torch.ones(3), atol=0.06, rtol=0)


def test_samples_depend_on_their_seed_only() -> None:
    diffusion = LatentDiffusion(num_steps=20)

    def shrink(latent: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return 0.1 * latent

    together = diffusion.sample(shrink, torch.tensor([7, 8, 9]), 4)
    torch.testing.assert_close(together[1:2], diffusion.sample(shrink, torch.tensor([8]), 4))
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("options", [{"num_steps": 1}, {"beta_min": 0.0}, {"beta_max": 1.0}])
def test_impossible_schedules_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="num_steps >= 2"):
        LatentDiffusion(**options)  # type: ignore[arg-type]
