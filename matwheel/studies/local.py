"""Processes on this machine."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from matwheel.studies.cards import divided, visible_cards
from matwheel.studies.command import PAUSE, Command, Finished, end


@dataclass(frozen=True)
class LocalEngine:
    """Runs programs as processes of this machine.

    Attributes:
        jobs: Processes at a time.
        threads: Threads of each.
        gpus: GPUs of each, see `matwheel.studies.cards.divided`.
    """

    jobs: int
    threads: int
    gpus: int | None

    def __post_init__(self) -> None:
        self._cards()  # too few are said at once

    def run(self, commands: Sequence[Command]) -> Generator[Finished]:
        """See `Engine.run`."""
        waiting, free = deque(commands), self._cards()
        running: list[tuple[Command, subprocess.Popen[bytes], Sequence[str]]] = []
        try:
            while waiting or running:
                while waiting and free:
                    command, cards = waiting.popleft(), free.pop(0)
                    running.append((command, command.start(self.threads, cards), cards))
                time.sleep(PAUSE)
                ended = [one for one in running if one[1].poll() is not None]
                running = [one for one in running if one not in ended]
                free += [cards for _, _, cards in ended]
                for command, process, _ in ended:
                    yield Finished.with_status(command, process.returncode)
        finally:
            end([process for _, process, _ in running])

    def _cards(self) -> list[Sequence[str]]:
        """The GPUs of each process at a time."""
        return divided(visible_cards(), self.jobs, self.gpus)
