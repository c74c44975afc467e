"""A program to run, with a log, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matwheel.parent import PARENT_VARIABLE
from matwheel.processors import LIMIT_VARIABLE
from matwheel.studies.cards import VISIBLE

PAUSE = 0.2  # seconds between two looks at a program
_PATIENCE = 15.0  # seconds that a program may take to end when it is told to


@dataclass(frozen=True)
class Command:
    """A program to run.

    Attributes:
        name: What it is called.
        arguments: The program and its arguments.
        log: File to which its output is added.
        cwd: Folder to run it in.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    cwd: Path

    def start(self, threads: int, cards: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start it, in a process group of its own: a signal from the keyboard is then for the caller to pass on.

        Args:
            threads: Threads that it may compute with.
            cards: GPUs that it sees; None for those that this process sees.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            LIMIT_VARIABLE: str(threads),
            PARENT_VARIABLE: str(os.getpid()),
        }
        if cards is not None:
            environment[VISIBLE] = ",".join(cards)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.cwd,
                start_new_session=True,
            )

    def run(self, threads: int, cards: Sequence[str] | None = None) -> int:
        """Run it to its end, see `start`; returns its exit status."""
        process = self.start(threads, cards)
        try:
            while (status := process.poll()) is None:
                time.sleep(PAUSE)  # a cancelled Ray task gets its exception between two of these, not within a wait()
            return status
        finally:
            end([process])

    def last_lines(self, count: int) -> str:
        """The end of its log."""
        text = self.log.read_bytes().decode(errors="replace") if self.log.is_file() else ""
        # A progress bar overwrites its line again and again; text mode would make a line of each.
        lines = [line.rstrip().rpartition("\r")[2] for line in text.rstrip().split("\n")]
        return "\n".join(lines[-count:])


@dataclass(frozen=True)
class Finished:
    """A program that ended.

    Attributes:
        command: The program.
        problem: Why it failed; empty if it did not.
    """

    command: Command
    problem: str = ""

    @classmethod
    def with_status(cls, command: Command, status: int) -> Finished:
        """By its exit status, negative for a signal."""
        if status < 0:
            return cls(command, f"ended by {signal.Signals(-status).name}")
        return cls(command, f"exit status {status}" if status else "")


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Tell processes and all that they started to end, and see to it that they do."""
    _signal(processes, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            _signal([process], signal.SIGKILL)
            process.wait()


def _signal(processes: list[subprocess.Popen[bytes]], signum: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signum)
