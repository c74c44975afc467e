"""Processes on this machine."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from matwheel.studies.command import PAUSE, Command, Finished, end


@dataclass(frozen=True)
class LocalEngine:
    """Runs programs as processes of this machine.

    Attributes:
        jobs: Processes at a time.
        threads: Threads of each.
    """

    jobs: int
    threads: int

    def run(self, commands: Sequence[Command]) -> Generator[Finished]:
        """See `Engine.run`."""
        waiting = deque(commands)
        running: list[tuple[Command, subprocess.Popen[bytes]]] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    command = waiting.popleft()
                    running.append((command, command.start(self.threads)))
                time.sleep(PAUSE)
                ended = [(command, process) for command, process in running if process.poll() is not None]
                running = [pair for pair in running if pair not in ended]
                for command, process in ended:
                    yield Finished.with_status(command, process.returncode)
        finally:
            end([process for _, process in running])
