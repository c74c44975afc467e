"""The two parts of a network."""

import pytest
import torch
from torch import nn

from matwheel.nn.cgcnn import CGCNN
from matwheel.nn.chgnet_network import CHGNetNetwork
from matwheel.nn.encoder_network import EncoderNetwork
from matwheel.nn.transfer import TransferNetwork
from tests.models.toys import ToyEncoder
from tests.nn.crystals import batch_of, random_crystals


@pytest.mark.parametrize(
    "network",
    [CGCNN(hidden_dim=8, head_dim=8), CHGNetNetwork(start=None), EncoderNetwork(ToyEncoder(), hidden_dim=8)],
    ids=lambda network: type(network).__name__,
)
def test_the_readout_reads_what_the_body_represents(network: TransferNetwork) -> None:
    table = random_crystals([2, 3, 1])
    table.atomic_numbers[:] = table.atomic_numbers.clip(max=90)
    batch = batch_of(table)
    network.eval()
    own = {name for name, part in network.named_modules() if part is network.readout}
    assert len(own) == 1
    with torch.no_grad():
        torch.testing.assert_close(network(batch), network.readout(network.represent(batch)).squeeze(1))
        for layer in network.readout.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.zero_()
                layer.bias.fill_(0.5)
        assert (network(batch) == 0.5).all()
