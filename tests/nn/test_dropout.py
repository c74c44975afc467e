import pytest
import torch

from matwheel.nn.dropout import SeededDropout

SEEDS = torch.arange(2000)
ROWS = torch.ones(len(SEEDS), 8)


def test_the_seed_of_a_row_decides_whatever_else_is_in_the_batch() -> None:
    dropout = SeededDropout(0.3)
    together = dropout(ROWS, SEEDS)
    torch.testing.assert_close(dropout(ROWS[:5], SEEDS[[7, 3, 1999, 0, 3]]), together[[7, 3, 1999, 0, 3]])


def test_so_many_features_are_hidden_and_the_mean_stays() -> None:
    out = SeededDropout(0.3)(ROWS, SEEDS)
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)
    assert (out == 0).any(0).all()
    assert not (out == 0).all(0).any()


def test_nothing_is_hidden_outside_training() -> None:
    dropout = SeededDropout(0.3).eval()
    assert dropout(ROWS, SEEDS) is ROWS


def test_an_impossible_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\), not 1"):
        SeededDropout(1)
