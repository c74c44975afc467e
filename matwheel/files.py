"""Writing files that are complete or not there at all, whatever interrupts the program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_when_complete(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error.

    Args:
        path: The file to write; its folder is created if missing.
        sync: Wait until the disk has it, so that not even a power cut leaves half of it. That takes some milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what `replaced_when_complete` left in a folder and below it when the program was killed."""
    for temporary in folder.rglob(".*.tmp"):
        temporary.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file as a whole."""
    with replaced_when_complete(path) as temporary:
        temporary.write_text(text)
