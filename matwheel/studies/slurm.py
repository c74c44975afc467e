"""A job array of SLURM, through submitit (https://github.com/facebookincubator/submitit)."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matwheel.studies.command import Command, Finished
from matwheel.studies.engine import import_extra

_PAUSE = 2.0  # seconds between two looks at the jobs; submitit asks SLURM less often


@dataclass(frozen=True)
class SlurmEngine:
    """Runs programs as a job array.

    Attributes:
        jobs: Tasks of the array at a time.
        threads: Threads, and processors asked for, of each.
        gpus: GPUs asked for of each.
        folder: Where submitit keeps its scripts and logs, on a file system that all nodes see.
        minutes: Time limit of a task.
        partition: Partition; that of the cluster by default.
        cluster: `local` starts processes of this machine instead, to try it without SLURM.
    """

    jobs: int
    threads: int
    gpus: int
    folder: Path
    minutes: int = 240
    partition: str | None = None
    cluster: Literal["slurm", "local"] = "slurm"

    def run(self, commands: Sequence[Command]) -> Generator[Finished]:
        """See `Engine.run`."""
        submitit = import_extra("submitit", extra="slurm")
        executor = submitit.AutoExecutor(self.folder, cluster=self.cluster)
        executor.update_parameters(
            name="study",
            timeout_min=self.minutes,
            cpus_per_task=self.threads,
            gpus_per_node=self.gpus or None,  # a cluster without any refuses to be asked for 0; a task is on one node
            slurm_array_parallelism=self.jobs,
            slurm_partition=self.partition,
        )
        jobs = executor.map_array(Command.run, commands, [self.threads] * len(commands))
        running: dict[Any, Command] = dict(zip(jobs, commands, strict=True))
        try:
            while running:
                for job in [job for job in running if job.done()]:
                    command = running.pop(job)
                    try:
                        yield Finished.with_status(command, job.result())
                    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
                        yield Finished(command, f"job {job.job_id}: {str(error).strip().splitlines()[0]}")
                time.sleep(_PAUSE if running else 0)
        finally:
            for job in running:
                job.cancel()
