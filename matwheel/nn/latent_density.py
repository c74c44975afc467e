"""Kernel density of latents under conditions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.nn.condition import EncodedConditions
from matwheel.seeded import seeded_normal, seeded_uniform

_CHOICE, _NOISE = 0, 1  # streams of random numbers of a latent
_FAR = 1e4  # squared distance, in kernel widths, of a crystal of another class, or whose condition is not known
_JITTER = 1e-6  # of the mean variance: fewer latents than dimensions have a singular covariance


class LatentDensity(nn.Module):
    """Kernel density estimate of latents given conditions, kept to the mean and covariance of the latents.

    A latent is that of a training crystal, chosen with a Gaussian kernel by its conditions, drawn towards the mean and
    moved by normal noise with the covariance of all latents: the smoothed bootstrap with its variance corrected
    (Silverman & Young, Biometrika 74, 469, 1987), for a conditional density (Rosenblatt 1969).

    Args:
        latent_dim: D.
    """

    latents: Tensor
    scalars: Tensor
    known: Tensor
    classes: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("latents", torch.zeros(0, latent_dim))
        self.register_buffer("scalars", torch.zeros(0, 0))
        self.register_buffer("known", torch.zeros(0, 0, dtype=torch.bool))
        self.register_buffer("classes", torch.zeros(0, 0, dtype=torch.long))
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("factor", torch.zeros(latent_dim, latent_dim))

    @torch.inference_mode(False)  # what is kept must be loadable over afterwards
    def fit(self, latents: Float[Tensor, "N latent"], encoded: EncodedConditions) -> None:
        """Take over the latents of N training crystals and their conditions.

        Raises:
            ValueError: If there is one crystal only.
        """
        if len(latents) < 2:
            raise ValueError(f"{len(latents)} crystal has no covariance: the prior needs two at least")
        device, latents = self.mean.device, latents.clone().cpu()  # the same factor whatever the device
        mean = latents.double().mean(0)
        covariance = torch.cov(latents.double().T).view(len(mean), -1)
        jitter = (_JITTER * covariance.diagonal().mean()).clamp_min(1e-12)
        self.factor = torch.linalg.cholesky(covariance + jitter * torch.eye(len(mean))).T.float().to(device)
        self.mean = mean.float().to(device)
        self.latents = latents.to(device)
        self.known = ~encoded.scalars.isnan().to(device)
        self.scalars = encoded.scalars.nan_to_num().to(device)
        self.classes = encoded.classes.clone().to(device)

    @property
    def width(self) -> float:
        """Of the kernel over conditions, in standard deviations of each: Scott's rule."""
        return float(len(self.latents) ** (-1 / (self.scalars.shape[1] + 4)))

    def sample(
        self, encoded: EncodedConditions, seeds: Int[Tensor, " n"], bandwidth: float
    ) -> Float[Tensor, "n latent"]:
        """Draw latents.

        Args:
            encoded: Conditions of n latents; one that is not given is not looked at.
            seeds: [n] int64.
            bandwidth: h, in [0, 1]: a latent is sqrt(1 - h^2) that of a training crystal and h noise, both about the
                mean. 0 repeats latents of training crystals, 1 is a normal distribution that ignores conditions.
        """
        weights = torch.softmax(-0.5 * self._distances(encoded), 1).cumsum(1)
        chance = seeded_uniform(seeds, _CHOICE, 1) * weights[:, -1:]
        chosen = torch.searchsorted(weights, chance).squeeze(1).clamp_max(len(self.latents) - 1)
        noise = seeded_normal(seeds, _NOISE, len(self.mean)) @ self.factor
        kept = (1 - bandwidth**2) ** 0.5
        drawn: Tensor = self.mean + kept * (self.latents[chosen] - self.mean) + bandwidth * noise
        return drawn

    def _distances(self, encoded: EncodedConditions) -> Float[Tensor, "n N"]:
        """Squared distances of conditions in widths of the kernel."""
        distances = torch.zeros(len(encoded.scalars), len(self.latents), device=self.mean.device)
        for asked, own, known in zip(encoded.scalars.T, self.scalars.T, self.known.T, strict=True):
            squared = torch.where(known, (asked[:, None] - own) ** 2 / self.width**2, _FAR)
            distances += torch.where(asked.isnan()[:, None], 0.0, squared)
        for wanted, other in zip(encoded.classes.T, self.classes.T, strict=True):
            distances += _FAR * ((wanted[:, None] != other) & (wanted >= 0)[:, None])
        return distances

    def make_room(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Take the sizes of what is about to be loaded, as far as they depend on the data."""
        for name in ("latents", "scalars", "known", "classes"):
            given, own = state.get(prefix + name), getattr(self, name)
            if given is not None and (name != "latents" or given.shape[1:] == own.shape[1:]):
                setattr(self, name, own.new_empty(given.shape))
