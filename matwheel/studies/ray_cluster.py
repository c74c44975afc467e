"""Tasks of a Ray cluster (https://docs.ray.io)."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from matwheel.studies.command import Command, Finished
from matwheel.studies.engine import import_extra

_PATIENCE = 30.0  # seconds that cancelled tasks may take to end their programs


@dataclass(frozen=True)
class RayEngine:
    """Runs programs as tasks of the cluster that RAY_ADDRESS names, else of this machine.

    Attributes:
        jobs: Tasks at a time.
        threads: Threads, and processors asked for, of each.
        gpus: GPUs asked for of each; it sees no others.
    """

    jobs: int
    threads: int
    gpus: int

    def run(self, commands: Sequence[Command]) -> Generator[Finished]:
        """See `Engine.run`."""
        ray = import_extra("ray", extra="ray")
        ray.init(ignore_reinit_error=True, log_to_driver=False)
        task = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(Command.run)
        cards = None if self.gpus else ()  # some versions of Ray show all to a task that asks for none
        waiting = deque(commands)
        running: dict[Any, Command] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    command = waiting.popleft()
                    running[task.remote(command, self.threads, cards)] = command
                for ended in ray.wait(list(running))[0]:
                    command = running.pop(ended)
                    try:
                        yield Finished.with_status(command, ray.get(ended))
                    except ray.exceptions.RayError as error:  # its node is gone, for example
                        yield Finished(command, f"{type(error).__name__}: {error}")
        finally:
            for ended in running:
                ray.cancel(ended)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=_PATIENCE)
            ray.shutdown()
