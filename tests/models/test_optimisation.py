import pytest
import torch

from matwheel.models.optimisation import one_cycle


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 100])
def test_the_learning_rate_rises_and_falls_whatever_the_number_of_steps(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.5)

    class Trainer:
        estimated_stepping_batches = steps

    schedule = one_cycle(optimizer, Trainer())["lr_scheduler"]["scheduler"]  # type: ignore
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert max(rates) <= 0.5
    assert rates[-1] == pytest.approx(0, abs=1e-3)
    if steps >= 10:
        assert max(rates) > 0.4
