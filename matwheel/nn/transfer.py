"""Networks in two parts: a body, which may have learned from other data, and a readout made for one property."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.data import Batch

from matwheel.precision import full_precision


class TransferNetwork(nn.Module, ABC):
    """One number per crystal, read out from what the body makes of it.

    The body is everything but the readout, and can be trained on other properties before, see
    `matwheel.flywheel.predictor_pretraining`.
    """

    @property
    @abstractmethod
    def readout(self) -> nn.Module:
        """Maps [B, D] to [B, 1]; one of this network's own parts."""

    @abstractmethod
    def represent(self, batch: Batch) -> Float[Tensor, "crystals features"]:
        """What the body makes of crystals.

        Args:
            batch: See `matwheel.data.keys`.
        """

    def forward(self, batch: Batch) -> Float[Tensor, " crystals"]:
        """Predict one number per crystal, on the scale that the network is trained on."""
        return read_out(self.readout, self.represent(batch))


@full_precision
def read_out(readout: nn.Module, represented: Float[Tensor, "crystals features"]) -> Float[Tensor, " crystals"]:
    """One number per crystal."""
    value: Tensor = readout(represented.float()).squeeze(1)
    return value
