from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.data.shares import Shares
from matwheel.flywheel.trainers import SeededEpochs


def _together(shares: list[Shares]) -> list[list[int]]:
    """What all processes see in each step."""
    each = [list(share) for share in shares]
    assert len({len(batches) for batches in each}) == 1, "processes would wait for each other for ever"
    return [[item for batch in step for item in batch] for step in zip(*each, strict=True)]


@given(
    count=st.integers(1, 60),
    size=st.integers(5, 20),
    processes=st.integers(1, 5),
    shuffle=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_processes_see_the_batches_of_one(count: int, size: int, processes: int, shuffle: bool, epoch: int) -> None:
    items = range(count)
    shares = [Shares(items, size, processes, process, shuffle) for process in range(processes)]
    alone = Shares(items, size, shuffle=shuffle)
    for sampler in (*shares, alone):
        sampler.set_epoch(epoch)
    together, expected = _together(shares), list(alone)
    assert [len(batch) for batch in expected[:-1]] == [size] * (len(expected) - 1)
    if len(expected[-1]) < processes:  # nobody is left without
        assert len(together[-1]) == processes
        assert set(expected[-1]) == set(together[-1])
        del together[-1], expected[-1]
    assert [sorted(batch) for batch in together] == [sorted(batch) for batch in expected]
    assert sorted(item for batch in alone for item in batch) == list(items)
    assert [len(list(sampler)) for sampler in shares] == [len(sampler) for sampler in shares]


def test_the_order_is_seeded_by_training_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = Shares(range(12), 4, shuffle=True)
        sampler.set_epoch(epoch)
        trainer: Any = SimpleNamespace(train_dataloader=SimpleNamespace(sampler=sampler), current_epoch=epoch)
        SeededEpochs(seed).on_train_epoch_start(trainer, L.LightningModule())
        return list(sampler)

    assert order(7, 0) == order(7, 0)
    assert order(7, 0) != order(7, 1)
    assert order(7, 0) != order(8, 0)


def test_without_a_wheel_the_order_is_that_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def order(seed: int) -> list[list[int]]:
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        return list(Shares(range(12), 4, shuffle=True))

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_batch_has_something_for_every_process() -> None:
    with pytest.raises(ValueError, match=r"16 processes cannot share batches of 8: .* at least 16"):
        Shares(range(100), 8, 16)
