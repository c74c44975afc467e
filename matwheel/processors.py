"""How many processors there are for this process."""

from __future__ import annotations

import os

LIMIT_VARIABLE = "MATWHEEL_PROCESSORS"
"""Environment variable with the largest number of processors to use; a study divides them among its cells."""


def available_processors() -> int:
    """Processors that this process may use: a task of a cluster has some of its node's, where the system tells."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get(LIMIT_VARIABLE, "")
    return min(known, int(limit)) if limit.isdecimal() and int(limit) else known
