"""A predictor network made of a generator's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.checkpoint_file import read_checkpoint
from matwheel.nn.dropout import SeededDropout
from matwheel.nn.mlp import mlp
from matwheel.nn.transfer import TransferNetwork

_PREFIXES = ("vae.encoder.", "encoder.")
"""Of the encoder's weights in the checkpoint of a whole generator and of an autoencoder."""


class EncoderNetwork(TransferNetwork):
    """One number per crystal from an encoder, which may bring what it has learnt as part of a generator.

    Args:
        encoder: Batch -> [B, encoder.out_channels].
        hidden_dim: Width of the head's hidden layer.
        dropout: Of what the head sees.
        start: Checkpoint of an autoencoder, or of a prior with its autoencoder, whose encoder's weights are taken when
            this network is made.

    Raises:
        ValueError: If the checkpoint holds no such encoder.
    """

    def __init__(
        self, encoder: nn.Module, hidden_dim: int = 128, dropout: float = 0.0, start: Path | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = SeededDropout(dropout)
        self.head = mlp(cast(int, encoder.out_channels), hidden_dim, 1, 1)
        if start is not None:
            self._load(start)

    @property
    def readout(self) -> nn.Module:
        """The head."""
        return self.head

    def represent(self, batch: Batch) -> Float[Tensor, "crystals features"]:
        """What the encoder gives, as the autoencoder reads it."""
        encoded = torch.tanh(self.encoder(batch).float())
        represented: Tensor = self.dropout(encoded, batch.seed if "seed" in batch else None)
        return represented

    def _load(self, checkpoint: Path) -> None:
        content: dict[str, Any] = read_checkpoint(checkpoint)["state_dict"]
        for prefix in _PREFIXES:
            weights = {name.removeprefix(prefix): w for name, w in content.items() if name.startswith(prefix)}
            if weights:
                break
        try:
            self.encoder.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{checkpoint} does not hold the weights of this encoder: {error}") from error
