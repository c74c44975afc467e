import os

import pytest

from matwheel.metrics import pool
from matwheel.metrics.pool import CRASH, TIME_OUT, Pool, of_the_machine
from tests.metrics.crystals import misbehave


def test_every_item_has_its_outcome() -> None:
    items = ["a", "sleep", "b", "fail", "die", "c", "die"]
    outcomes = Pool(processes=2, timeout=3.0).map(misbehave, items)
    assert [outcome.value for outcome in outcomes] == ["A", None, "B", None, None, "C", None]
    failures = [outcome.failure for outcome in outcomes]
    assert failures == ["", TIME_OUT, "", "ValueError: as told", CRASH, "", CRASH]


def test_there_are_as_many_processes_as_processors_for_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that the node has, a task of a cluster may use some."""
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert len({outcome.value for outcome in Pool(timeout=60.0).map(_process, [0.05] * 12)}) == 1


def test_an_item_of_many_structures_may_take_longer() -> None:
    short = Pool(processes=1, timeout=0.02)
    assert short.map(_nap, [0.5], sizes=[1])[0].failure == TIME_OUT
    assert short.map(_nap, [0.5], sizes=[1000])[0].value == 0.5


def test_an_answer_that_comes_too_late_is_a_time_out() -> None:
    outcomes = Pool(processes=2, timeout=1e-9).map(_nap, [0.0] * 50)
    assert {outcome.failure for outcome in outcomes} == {TIME_OUT}


def test_processes_that_cannot_start_are_no_endless_loop() -> None:
    with pytest.raises(RuntimeError, match="could not start"):
        Pool(processes=1).map(_Unreadable(), ["a"])


def test_a_worker_that_dies_after_its_answer_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    give = pool._Worker.give

    def late(worker: pool._Worker, item: int, content: float, timeout: float) -> bool:
        if item:
            worker.process.join(5)
        return give(worker, item, content, timeout)

    monkeypatch.setattr(pool._Worker, "give", late)
    outcomes = Pool(processes=1).map(_answer_and_die, [0.0, 1.0, 2.0])
    assert [(outcome.value, outcome.failure) for outcome in outcomes] == [(0.0, ""), (1.0, ""), (2.0, "")]


def test_failures_of_the_machine_are_told_from_those_of_an_item() -> None:
    failures = [outcome.failure for outcome in Pool(processes=1, timeout=3.0).map(_fail, ["disk", "memory", "item"])]
    assert failures == ["machine: OSError: full", "machine: MemoryError: ", "ValueError: as told"]
    assert list(map(of_the_machine, [*failures, TIME_OUT, CRASH, ""])) == [True, True, False, True, True, False]


@pytest.mark.parametrize("options", [{"processes": -1}, {"timeout": 0}, {"timeout": float("nan")}])
def test_absurd_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Pool(**options)  # type: ignore[arg-type]


def _process(seconds: float) -> int:
    import time

    time.sleep(seconds)
    return os.getpid()


def _answer_and_die(value: float) -> float:
    import threading

    threading.Timer(0.2, os._exit, [1]).start()
    return value


def _fail(how: str) -> None:
    raise {"disk": OSError("full"), "memory": MemoryError(), "item": ValueError("as told")}[how]


def _nap(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


class _Unreadable:
    """A function that cannot be sent to another process."""

    def __call__(self, item: str) -> str:
        return item

    def __setstate__(self, state: object) -> None:
        raise OSError("as told")

    def __getstate__(self) -> dict[str, int]:
        return {"state": 1}
