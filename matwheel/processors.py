"""How many processors there are for this process."""

from __future__ import annotations

import os


def available_processors() -> int:
    """Processors that this process may use: a task of a cluster has some of its node's, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
