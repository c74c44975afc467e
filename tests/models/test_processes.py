from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matwheel.models.processes import step_seeds, weight_of_share


def _process(rank: int, world_size: int, total: int) -> Any:
    strategy = SimpleNamespace(
        root_device=torch.device("cpu"), reduce=lambda own, reduce_op: torch.tensor(float(total))
    )
    return SimpleNamespace(global_rank=rank, world_size=world_size, strategy=strategy)


@given(total=st.integers(5, 40), world_size=st.integers(1, 5))
def test_the_average_over_processes_is_the_mean_of_the_batch(total: int, world_size: int) -> None:
    errors = torch.arange(total, dtype=torch.float64)
    shares = [errors[rank::world_size] for rank in range(world_size)]
    losses = [
        share.mean() * weight_of_share(_process(rank, world_size, total), len(share))
        for rank, share in enumerate(shares)
    ]
    assert float(torch.stack(losses).mean()) == pytest.approx(float(errors.mean()))


def test_a_step_in_which_nothing_counts_has_no_weight() -> None:
    assert float(weight_of_share(_process(0, 2, 0), 0)) == 0


@given(total=st.integers(5, 40), world_size=st.integers(1, 5))
def test_a_crystal_has_the_seed_of_its_place_in_the_batch(total: int, world_size: int) -> None:
    seeds = torch.empty(total, dtype=torch.long)
    for rank in range(world_size):
        torch.manual_seed(3)  # all processes are seeded alike
        count = len(range(rank, total, world_size))
        seeds[rank::world_size] = step_seeds(_process(rank, world_size, total), count, torch.device("cpu"))
    torch.manual_seed(3)
    assert torch.equal(seeds, step_seeds(_process(0, 1, total), total, torch.device("cpu")))
    assert len(seeds.unique()) == total
