import math

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from matwheel.models.optimisation import check_learning_rate, one_cycle
from matwheel.models.predictor import PropertyPredictor


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 100])
def test_the_learning_rate_rises_and_falls_whatever_the_number_of_steps(steps: int) -> None:
    schedule = _schedule(steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert max(rates) <= 0.5
    assert rates[-1] == pytest.approx(0, abs=1e-3)
    if steps >= 10:
        assert max(rates) > 0.4


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_learning_rate_with_which_nothing_is_learnt_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        check_learning_rate(rate)
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        PropertyPredictor(torch.nn.Identity(), learning_rate=rate)


def _schedule(steps: int) -> OneCycleLR:
    class Trainer:
        estimated_stepping_batches = steps

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    return one_cycle(optimizer, Trainer())["lr_scheduler"]["scheduler"]  # type: ignore


def test_a_training_longer_than_the_one_it_continues_is_refused_at_once() -> None:
    state = _schedule(280).state_dict()
    with pytest.raises(ValueError, match=r"ends after 280 steps, this training after 420.*--trainer\.max_steps 280"):
        _schedule(420).load_state_dict(state)
    for steps in (280, 140):
        schedule = _schedule(steps)
        schedule.load_state_dict(state)
        assert schedule.total_steps == 280
