"""Perceptrons and the embedding of time."""

import pytest
import torch
from torch import nn

from matwheel.nn.batch_norm import BatchNorm
from matwheel.nn.mlp import TimeEmbedding, mlp


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
