"""A process that does not outlive the one that started it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

PARENT_VARIABLE = "MATWHEEL_PARENT"
"""Environment variable with the number of the process that a run must not outlive."""
_PATIENCE = 2.0  # seconds between two looks at the process that started this one


def parent_to_follow() -> int | None:
    """The process named in the environment, if any."""
    named = os.environ.get(PARENT_VARIABLE)
    return int(named) if named else None


@contextmanager
def ends_with(parent: int | None) -> Iterator[None]:
    """End this process, which nobody could end otherwise, when its parent is no more.

    Args:
        parent: Number of the process that started this one; None not to look.
    """
    finished = threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            if finished.wait(_PATIENCE):
                return
        log.error("process %d, which started this one, is no more: the run ends here", parent)
        os._exit(1)  # the main thread may wait for other processes for ever

    if parent is not None:
        threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    try:
        yield
    finally:
        finished.set()
