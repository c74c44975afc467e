"""Diffusion of latent vectors (DDPM; Ho, Jain & Abbeel, NeurIPS 2020), as Con-CDVAE's prior uses it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.seeded import seeded_normal


class LatentDiffusion(nn.Module):
    """Gaussian diffusion with a linear schedule of noise; step 0 is the least noisy.

    Args:
        num_steps: Steps from a latent to noise, at least 2.
        beta_min: Variance added by the first step.
        beta_max: Variance added by the last step, below 1.
    """

    betas: Tensor

    def __init__(self, num_steps: int = 300, beta_min: float = 0.001, beta_max: float = 0.02) -> None:
        super().__init__()
        if num_steps < 2 or not 0 < beta_min <= beta_max < 1:
            raise ValueError(
                f"need num_steps >= 2 and 0 < beta_min <= beta_max < 1; got {num_steps}, {beta_min}, {beta_max}"
            )
        self.register_buffer("betas", torch.linspace(beta_min, beta_max, num_steps))

    @property
    def num_steps(self) -> int:
        """Steps from a latent to noise."""
        return len(self.betas)

    @property
    def kept(self) -> Float[Tensor, " steps"]:
        """Share of the latent's variance left after each step."""
        return torch.cumprod(1 - self.betas, 0)

    def corrupt(
        self, latent: Float[Tensor, "n latent"], step: Int[Tensor, " n"], noise: Float[Tensor, "n latent"]
    ) -> Float[Tensor, "n latent"]:
        """Latents after `step + 1` steps of diffusion, given standard normal `noise`."""
        kept = self.kept[step, None]
        return kept.sqrt() * latent + (1 - kept).sqrt() * noise

    def sample(
        self, predict_noise: Callable[[Tensor, Tensor], Tensor], seeds: Int[Tensor, " n"], latent_dim: int
    ) -> Float[Tensor, "n latent"]:
        """Ancestral sampling with the posterior variance; the last step adds no noise.

        Args:
            predict_noise: (latent [n, D], step [n]) -> [n, D], the network.
            seeds: [n], a seed for each latent.
            latent_dim: D.
        """
        kept = self.kept
        kept_before = torch.cat([torch.ones_like(kept[:1]), kept[:-1]])
        noise_scale = (1 - kept).sqrt()
        posterior_std = (self.betas * (1 - kept_before) / (1 - kept)).sqrt()
        latent = seeded_normal(seeds, self.num_steps, latent_dim)
        for step in range(self.num_steps - 1, -1, -1):
            noise = predict_noise(latent, torch.full_like(seeds, step))
            latent = (latent - self.betas[step] / noise_scale[step] * noise) / (1 - self.betas[step]).sqrt()
            if step:
                latent = latent + posterior_std[step] * seeded_normal(seeds, step, latent_dim)
        return latent
