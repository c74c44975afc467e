"""Memory of freed tensors is kept for the next ones."""

from __future__ import annotations

import ctypes
import sys

# mallopt(3) of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP_UP_TO = 2**30


def keep_freed_memory() -> None:
    """Let glibc reuse freed blocks of up to a gigabyte instead of giving each back to the system.

    Every operation on a CPU allocates its result. Above 32 MB, and at the top of the heap, glibc returns freed memory
    at once, so that the next tensor is mapped and cleared anew page by page. Without glibc nothing is done; the peak of
    memory stays the same.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEEP_UP_TO)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
