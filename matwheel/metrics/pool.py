"""Slow work on many structures: in processes, with a time-out each, and with every failure on record."""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from matwheel.processors import available_processors
from matwheel.progress import progress_bar

TIME_OUT = "time-out"
CRASH = "crash"
_MACHINE = "machine: "
# A server that has these loaded makes new workers in milliseconds: a time-out then costs no more than itself.
_HEAVY_IMPORTS = [
    "matminer.featurizers.site.fingerprint",
    "matwheel.metrics.fingerprints",
    "matwheel.metrics.matching",
    "pymatgen.analysis.structure_matcher",
    "spglib",
]
_READY = "ready"
_MAX_MESSAGE = 200

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of one item.

    Attributes:
        value: The answer; None where there is none.
        failure: Why there is none: `time-out`, `crash` or the error, after `machine: ` where this is not the item's;
            empty where there is an answer.
    """

    value: R | None
    failure: str = ""


def of_the_machine(failure: str) -> bool:
    """Whether a failure may not be the crystal's fault: slow processors, no memory, a full disk, a missing package.

    They are worth another try.
    """
    return failure in (TIME_OUT, CRASH) or failure.startswith(_MACHINE)


def attempt(function: Callable[[T], R], item: T) -> Outcome[R]:
    """Apply a function to an item, here and for as long as it takes."""
    try:
        return Outcome(function(item))
    except Exception as error:  # any failure on one structure is a result of the evaluation, not its end
        whose = _MACHINE if isinstance(error, MemoryError | OSError | ImportError) else ""
        return Outcome(None, f"{whose}{type(error).__name__}: {error}"[:_MAX_MESSAGE])


@dataclass(frozen=True)
class Pool:
    """How slow work is done.

    Attributes:
        processes: Worker processes; 0 for one per processor that this process may use.
        timeout: s, time that one structure may take.
        progress: Show progress with the time left.
    """

    processes: int = 0
    timeout: float = 60.0
    progress: bool = False

    def __post_init__(self) -> None:
        if self.processes < 0 or not self.timeout > 0:
            raise ValueError(f"processes ({self.processes}) must be 0 or more, timeout ({self.timeout}) more than 0")

    def map(
        self, function: Callable[[T], R], items: Sequence[T], label: str = "", sizes: Sequence[int] | None = None
    ) -> list[Outcome[R]]:
        """Apply a function to each item.

        A worker that takes too long is killed and replaced, and so is one that dies (a crash in compiled code, lack of
        memory). Scripts that call this need the guard `if __name__ == "__main__":`, as always with processes.

        Args:
            function: Defined at the top level of a module; sent to each worker once.
            items: What it is applied to.
            label: Title of the progress bar.
            sizes: How many structures each item holds, which multiplies its time-out; one by default.

        Returns:
            One outcome per item, in their order.

        Raises:
            RuntimeError: If worker processes cannot start.
        """
        sizes = [1] * len(items) if sizes is None else sizes
        outcomes: list[Outcome[R]] = [Outcome(None)] * len(items)
        waiting = deque(range(len(items)))
        workers: list[_Worker] = []
        if not items:
            return outcomes
        try:
            for _ in range(min(self.processes or available_processors(), len(items))):
                workers.append(_Worker(function))
            wait([worker.pipe for worker in workers])  # their start is not part of the time per structure
            bar = progress_bar(label, sum(sizes), "structure", self.progress)
            while waiting or any(worker.item is not None for worker in workers):
                first_deadline = min(worker.deadline for worker in workers) - time.monotonic()
                wait([worker.pipe for worker in workers], max(first_deadline, 0) if first_deadline < math.inf else None)
                for worker in workers:
                    item = worker.item
                    outcome = worker.collect()
                    if item is not None and outcome is not None:
                        outcomes[item] = outcome
                        bar.update(sizes[item])
                    if worker.ready and worker.item is None and waiting:
                        item = waiting[0]
                        if worker.give(item, items[item], self.timeout * sizes[item]):
                            waiting.popleft()
            bar.close()
        finally:
            for worker in workers:
                worker.stop()
        return outcomes


class _Worker:
    """One process and the item it works on."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self._start()

    def _start(self) -> None:
        self.item: int | None = None
        self.deadline = math.inf
        self.ready = False
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context: Any = get_context(method)
        context.set_forkserver_preload(_HEAVY_IMPORTS)
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_work, args=(self.function, other_end), daemon=True)
        self.process.start()
        other_end.close()  # else the end of the process could not be noticed

    def give(self, item: int, content: Any, timeout: float) -> bool:
        """Send an item; whether it was sent: a process may have died since its last answer."""
        try:
            self.pipe.send(content)
        except ConnectionError:
            self._replace()
            return False
        self.item = item
        self.deadline = time.monotonic() + timeout
        return True

    def collect(self) -> Outcome[Any] | None:
        """The outcome of the item at hand, None as long as there is none."""
        try:
            message = self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, ConnectionError) as error:
            if not self.ready:
                raise RuntimeError(
                    "a worker process could not start (its error is printed above): a script that uses processes needs "
                    "the guard `if __name__ == '__main__':`"
                ) from error
            self._replace()
            return Outcome(None, CRASH)
        if message == _READY:
            self.ready = True
            return None
        late = time.monotonic() > self.deadline
        if isinstance(message, Outcome):
            self.item, self.deadline = None, math.inf
            return Outcome(None, TIME_OUT) if late else message  # who looks first must not decide
        if late:
            self._replace()
            return Outcome(None, TIME_OUT)
        return None

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _replace(self) -> None:
        self.stop()
        self._start()


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Answer items until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    warnings.simplefilter("ignore")
    pipe.send(_READY)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(function, item))
