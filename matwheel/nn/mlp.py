"""Multi-layer perceptrons and the embedding of time."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.nn.batch_norm import BatchNorm


def mlp(in_dim: int, hidden_dim: int, num_hidden: int, out_dim: int, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        in_dim: Width of the input.
        hidden_dim: Width of the hidden layers.
        num_hidden: Hidden layers, at least 1.
        out_dim: Width of the output.
        batch_norm: Normalise the first hidden layer over the batch, as the heads of Con-CDVAE do.
    """
    layers: list[nn.Module] = [nn.Linear(in_dim, hidden_dim)]
    if batch_norm:
        layers.append(BatchNorm(hidden_dim))
    layers.append(nn.ReLU())
    for _ in range(num_hidden - 1):
        layers += [nn.Linear(hidden_dim, hidden_dim), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden_dim, out_dim))


class TimeEmbedding(nn.Module):
    """Sines and cosines of a step number (Vaswani et al. 2017), then a linear layer with ReLU.

    Args:
        dim: Width, even and at least 4.
    """

    frequencies: Tensor

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"the width of a time embedding must be even and at least 4, not {dim}")
        half = dim // 2
        self.dim = dim
        frequencies = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.linear = nn.Linear(dim, dim)

    def forward(self, step: Int[Tensor, " n"]) -> Float[Tensor, "n dim"]:
        """Embed step numbers."""
        phase = step[:, None] * self.frequencies
        return torch.relu(self.linear(torch.cat([phase.sin(), phase.cos()], 1)))
