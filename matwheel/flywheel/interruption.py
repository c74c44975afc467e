"""How a run ends before its time: told by a signal, or left alone by the process that started this one.

Whatever is finished is on disk at any moment, so that an interrupted process has nothing to save: it says what happened
and ends. Lightning's own handlers wait for the end of a batch, talk to the other processes from inside the handler, and
belong to one trainer, whereas a wheel is a sequence of many with other work in between.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from matwheel.parent import ends_with, parent_to_follow
from matwheel.signals import handled

log = logging.getLogger(__name__)


class Terminated(SystemExit):
    """The process was asked to end.

    Args:
        signum: By which signal. The exit status is that of a program ended by SIGINT, 130, or SIGTERM, 143; the latter
            also for signals that do not end a program as a rule.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + (signum if signum == signal.SIGINT else signal.SIGTERM))

    def __str__(self) -> str:
        return "ended by a signal; the same command continues"


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """End this process soon after a signal, or when the process that started it is no more.

    SIGTERM ends the run with the exit status 143, SIGINT (Ctrl-C), of which Lightning would say nothing here, with 130;
    processes that Lightning started are told as well. Under SLURM with automatic requeueing (Lightning's default) the
    requeue signal, SIGUSR1, puts the job back into the queue first.

    Args:
        trainer: Knows the processes and how they were started.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None and SLURMEnvironment.detect():
        environment = SLURMEnvironment()  # one process needs none to talk to others, but its job may be requeued

    def end(signum: int, _: FrameType | None) -> None:
        log.warning("received %s: the run ends here, the same command continues it", signal.Signals(signum).name)
        launcher: Any = trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGTERM)
        raise Terminated(signum)

    def requeue(signum: int, frame: FrameType | None) -> None:
        if trainer.is_global_zero:  # SLURM then sends SIGTERM to the others: one that ended first would end the job
            _requeue_job()
            end(signum, frame)

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGTERM: end, signal.SIGINT: end}
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        handlers[environment.requeue_signal or signal.SIGUSR1] = requeue
    is_child = isinstance(environment, TorchElasticEnvironment) or (
        isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
    )
    with handled(handlers), ends_with(os.getppid() if is_child else parent_to_follow()):
        try:
            yield
        except Exception:
            _report_dead(getattr(trainer.strategy.launcher, "procs", ()))
            raise


def _report_dead(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Name the processes whose end is the cause of an error that only speaks of a lost connection."""
    for rank, process in enumerate(processes, 1):
        if process.poll():
            how = signal.Signals(-process.returncode).name if process.returncode < 0 else f"code {process.returncode}"
            log.error(
                "rank %d (process %d) ended with %s: see its own error above, or whether memory ran out; the same "
                "command continues the run",
                rank,
                process.pid,
                how,
            )


def _requeue_job() -> None:
    """Put this SLURM job, or this task of a job array, back into the queue."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not re.fullmatch(r"[0-9_]+", job):
        raise ValueError(f"not the number of a SLURM job: {job!r}")
    log.warning("putting job %s back into the queue", job)
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.error("job %s could not be put back into the queue (%s): submit it again to continue", job, error)
