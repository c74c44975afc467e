"""Perceptrons and the embedding of time."""

import pytest
import torch
from torch import nn

from matwheel.nn.batch_norm import BatchNorm
from matwheel.nn.mlp import TimeEmbedding, mlp
from matwheel.nn.prior_network import PriorNetwork


def test_shape_of_the_heads() -> None:
    kinds = [type(layer) for layer in mlp(4, 8, 2, 3, batch_norm=True)]
    assert kinds == [nn.Linear, BatchNorm, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert mlp(4, 8, 1, 3)(torch.zeros(5, 4)).shape == (5, 3)


def test_batch_norm_equals_torch_and_takes_single_rows() -> None:
    ours, torchs = BatchNorm(3), nn.BatchNorm1d(3)
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), torchs(x))
    mean = ours.running_mean.clone()
    with pytest.raises(ValueError, match="more than 1 value"):
        torchs(x[:1])
    single = ours(x[:1])
    torch.testing.assert_close(single, ours.eval()(x[:1]))
    torch.testing.assert_close(ours.running_mean, mean)


def test_time_embedding_tells_all_levels_apart() -> None:
    embedding = TimeEmbedding(64)
    vectors = embedding(torch.arange(300))
    assert vectors.shape == (300, 64)
    assert torch.pdist(vectors).min() > 1e-3
    with pytest.raises(ValueError, match="even"):
        TimeEmbedding(7)


def test_prior_network_uses_latent_step_and_condition() -> None:
    network = PriorNetwork(latent_dim=32, condition_dim=6, time_dim=8)
    widths = [layer.out_features for layer in [*network.down, network.middle, *network.up, network.out]]
    assert widths == [16, 8, 4, 4, 8, 16, 32, 32]
    latent, condition, step = torch.randn(3, 32), torch.randn(3, 6), torch.tensor([0, 5, 9])
    out = network(latent, step, condition)
    assert out.shape == (3, 32)
    for other in (
        network(latent + 1, step, condition),
        network(latent, step + 1, condition),
        network(latent, step, condition + 1),
    ):
        assert not torch.allclose(out, other)
    with pytest.raises(ValueError, match="halved"):
        PriorNetwork(latent_dim=20)
