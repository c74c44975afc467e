"""The network of Con-CDVAE's latent prior."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.nn.mlp import TimeEmbedding


class PriorNetwork(nn.Module):
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
        condition: Float[Tensor, "n condition"],
    ) -> Float[Tensor, "n latent"]:
        """The noise in a latent.

        Args:
            latent: After some steps of the diffusion.
            step: The last of them.
            condition: Embedded conditions.
        """
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
