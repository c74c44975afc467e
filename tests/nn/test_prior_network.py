import pytest
import torch

from matwheel.nn.prior_network import PriorNetwork


def test_latent_step_and_condition_are_used() -> None:
    torch.manual_seed(0)
    network = PriorNetwork(32, 6, time_dim=8)
    latent, condition, step = torch.randn(3, 32), torch.randn(3, 6), torch.tensor([0, 5, 9])
    out = network(latent, step, condition)
    assert out.shape == (3, 32)
    for other in (
        network(latent + 1, step, condition),
        network(latent, step + 1, condition),
        network(latent, step, condition + 1),
    ):
        assert not torch.allclose(out, other)


def test_layers_of_the_published_network() -> None:
    network = PriorNetwork(latent_dim=32, condition_dim=6, time_dim=8)
    widths = [layer.out_features for layer in [*network.down, network.middle, *network.up, network.out]]
    assert widths == [16, 8, 4, 4, 8, 16, 32, 32]
    with pytest.raises(ValueError, match="halved"):
        PriorNetwork(latent_dim=20)
