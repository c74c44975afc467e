"""Noise predictors of the latent prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.nn.mlp import TimeEmbedding


class NoisePredictor(nn.Module, ABC):
    """Predicts the noise in a latent."""

    def fit(self, latents: Float[Tensor, "n latent"], features: Float[Tensor, "n features"]) -> None:
        """Take what is needed from the crystals to be trained on, before training; nothing by default.

        Args:
            latents: What is to be learnt.
            features: Conditions of the same crystals (`ConditionEmbedding.features`), NaN where not known.
        """

    @abstractmethod
    def forward(
        self,
        latent: Float[Tensor, "n latent"],
        step: Int[Tensor, " n"],
        kept: Float[Tensor, " n"],
        condition: Float[Tensor, "n condition"],
        features: Float[Tensor, "n features"],
    ) -> Float[Tensor, "n latent"]:
        """The noise.

        Args:
            latent: sqrt(kept) (clean latent) + sqrt(1 - kept) noise.
            step: Of the diffusion.
            kept: Share of the clean latent's variance after that step, in (0, 1).
            condition: Embedded conditions.
            features: The same conditions as a linear model reads them, NaN where not given.
        """


class GaussianPrior(NoisePredictor):
    """The noise to be expected if latents were normal about a mean that depends on the condition, then corrected.

    Latents of a few hundred crystals fill few of their dimensions: of 256, twenty directions hold 97 % of the variance.
    Of a normal distribution with their covariance the best guess of the noise is linear and known; a network that has
    to find it by training gets nowhere near it. So does what the latents owe to the condition: it is a small part of
    them, hence of the loss, and which of it a network learns is chance. Both are given here: the mean by regression of
    the latents on the conditions, the covariance by what that leaves over. In the principal directions of largest
    variance a perceptron then learns how the distribution differs from a normal one. (The preconditioning of Karras et
    al., arXiv 2206.00364, with a covariance in place of one variance.)

    Args:
        latent_dim: Width of the latent.
        condition_dim: Width of the condition's embedding.
        num_features: Width of the conditions' features: two for each scalar, `max_classes` for each class.
        num_directions: In how many directions the perceptron corrects.
        hidden_dim: Width of the perceptron.
        num_blocks: Residual blocks.
        time_dim: Width of the time embedding.
    """

    mean: Tensor
    centre: Tensor
    slope: Tensor
    directions: Tensor
    variances: Tensor

    def __init__(
        self,
        latent_dim: int = 256,
        condition_dim: int = 128,
        num_features: int = 2,
        num_directions: int = 32,
        hidden_dim: int = 256,
        num_blocks: int = 2,
        time_dim: int = 64,
    ) -> None:
        super().__init__()
        self.num_directions = min(num_directions, latent_dim)
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("centre", torch.zeros(num_features))  # of the features
        self.register_buffer("slope", torch.zeros(num_features, latent_dim))
        self.register_buffer("directions", torch.eye(latent_dim))
        self.register_buffer("variances", torch.ones(latent_dim))
        self.time = TimeEmbedding(time_dim)
        self.begin = nn.Linear(self.num_directions + time_dim + condition_dim, hidden_dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden_dim),
                nn.Linear(hidden_dim, hidden_dim),
                nn.SiLU(),
                nn.Linear(hidden_dim, hidden_dim),
            )
            for _ in range(num_blocks)
        )
        self.end = nn.Linear(hidden_dim, self.num_directions)
        nn.init.zeros_(self.end.weight)  # the normal distribution to begin with
        nn.init.zeros_(self.end.bias)

    @torch.no_grad()
    def fit(self, latents: Float[Tensor, "n latent"], features: Float[Tensor, "n features"]) -> None:
        """Take over mean, its dependence on the conditions, and covariance.

        The regression is a ridge whose penalty weighs as much as one crystal. A feature that is not known counts as
        its mean.

        Raises:
            ValueError: If there is one latent only, or the features are not as many as this network was made for.
        """
        if len(latents) < 2:
            raise ValueError(f"{len(latents)} crystal has no covariance: the prior needs two at least to train on")
        if features.shape[1] != len(self.centre):
            raise ValueError(
                f"the conditions have {features.shape[1]} features, the prior's network was made for "
                f"{len(self.centre)}: set its num_features to {features.shape[1]}"
            )
        latents, features = latents.cpu().double(), features.cpu().double()
        mean, centre = latents.mean(0), features.nanmean(0).nan_to_num()
        given = (features - centre).nan_to_num()
        penalty = torch.eye(len(centre), dtype=torch.float64)
        slope = torch.linalg.solve(given.T @ given + penalty, given.T @ (latents - mean))
        rest = latents - mean - given @ slope
        variances, directions = torch.linalg.eigh(rest.T @ rest / (len(rest) - 1))
        variances, directions = variances.flip(0).clamp_min(0), directions.flip(1)
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        self.mean.copy_(mean)
        self.centre.copy_(centre)
        self.slope.copy_(slope)
        self.directions.copy_(directions * largest.sign())  # which sign eigh gives is chance
        self.variances.copy_(variances)

    def forward(
        self,
        latent: Float[Tensor, "n latent"],
        step: Int[Tensor, " n"],
        kept: Float[Tensor, " n"],
        condition: Float[Tensor, "n condition"],
        features: Float[Tensor, "n features"],
    ) -> Float[Tensor, "n latent"]:
        """See `NoisePredictor.forward`."""
        kept = kept[:, None]
        mean = self.mean + (features - self.centre).nan_to_num() @ self.slope
        along = (latent - kept.sqrt() * mean) @ self.directions
        variance = kept * self.variances + 1 - kept  # of the noisy latents
        noise = (1 - kept).sqrt() * along / variance
        some = self.num_directions
        hidden = self.begin(torch.cat([(along / variance.sqrt())[:, :some], self.time(step), condition], 1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        # The standard deviation of the noise about its expectation is the unit of the correction.
        deviation = (kept * self.variances / variance).sqrt()[:, :some]
        corrected = torch.cat([noise[:, :some] + deviation * self.end(hidden), noise[:, some:]], 1)
        predicted: Tensor = corrected @ self.directions.T
        return predicted


class PriorNetwork(NoisePredictor):
    """U-shaped perceptron: the latent is halved in width a few times and doubled again, with skip additions.

    Condition and time are concatenated to the input of every layer (Con-CDVAE's prior).

    Args:
        latent_dim: Width of the latent.
        condition_dim: Width of the condition's embedding.
        time_dim: Width of the time embedding.
        num_halvings: How often the width is halved: 3 gives 256-128-64-32 and back.
    """

    def __init__(
        self, latent_dim: int = 256, condition_dim: int = 128, time_dim: int = 64, num_halvings: int = 3
    ) -> None:
        super().__init__()
        if num_halvings < 1 or latent_dim % 2**num_halvings:
            raise ValueError(f"a latent of width {latent_dim} cannot be halved {num_halvings} times")
        self.time = TimeEmbedding(time_dim)
        context = condition_dim + time_dim
        widths = [latent_dim // 2**i for i in range(num_halvings + 1)]
        self.down = nn.ModuleList(nn.Linear(wide + context, narrow) for wide, narrow in pairwise(widths))
        self.middle = nn.Linear(widths[-1] + context, widths[-1])
        self.up = nn.ModuleList(nn.Linear(narrow + context, wide) for wide, narrow in reversed(list(pairwise(widths))))
        self.out = nn.Linear(latent_dim + context, latent_dim)

    def forward(
        self,
        latent: Float[Tensor, "n latent"],
        step: Int[Tensor, " n"],
        kept: Float[Tensor, " n"],
        condition: Float[Tensor, "n condition"],
        features: Float[Tensor, "n features"],
    ) -> Float[Tensor, "n latent"]:
        """See `NoisePredictor.forward`; step and condition say what `kept` and `features` do."""
        context = torch.cat([condition, self.time(step)], 1)
        hidden = latent
        skips = []
        for layer in self.down:
            hidden = torch.relu(layer(torch.cat([hidden, context], 1)))
            skips.append(hidden)
        hidden = torch.relu(self.middle(torch.cat([hidden, context], 1)))
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            hidden = torch.relu(layer(torch.cat([hidden + skip, context], 1)))
        noise: Tensor = self.out(torch.cat([hidden + latent, context], 1))
        return noise
