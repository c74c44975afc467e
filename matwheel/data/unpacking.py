"""Compressed files are unpacked up to a bound: a few kilobytes can hide more than any memory holds."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from pathlib import Path

LIMIT_VARIABLE = "MATWHEEL_MAX_UNPACKED_GB"
_DEFAULT_GB = 2.0


class UnpackedSizeError(ValueError):
    """A file would unpack to more than is allowed."""


def unpacked_limit() -> int:
    """Bytes that one file may have when unpacked: 2 GB, or what the environment variable says.

    Raises:
        ValueError: If the variable is not a positive number.
    """
    text = os.environ.get(LIMIT_VARIABLE, str(_DEFAULT_GB))
    try:
        limit = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise ValueError(f"the environment variable {LIMIT_VARIABLE} is {text!r}, not a number of gigabytes above 0")
    return limit


def check_unpacked_size(size: int, path: Path) -> None:
    """Accept the unpacked size of a file, or of what is known of it so far, in bytes.

    Raises:
        UnpackedSizeError: If it exceeds the limit.
    """
    limit = unpacked_limit()
    if size > limit:
        raise UnpackedSizeError(
            f"{path} unpacks to more than {limit / 1e9:g} GB: if you trust it, raise the environment variable "
            f"{LIMIT_VARIABLE} (gigabytes)"
        )


def read_text(path: Path, errors: str = "strict") -> str:
    """Text of a file, unpacked if its name ends in `.gz`.

    Args:
        path: The file, UTF-8.
        errors: What to do with bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        ValueError: If it cannot be read, or unpacks to more than the limit.
    """
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as file:
                content = file.read(unpacked_limit() + 1)
        else:
            content = path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as text: {error}") from error
    if path.suffix.lower() == ".gz":
        check_unpacked_size(len(content), path)
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as text: {error}. Save it as UTF-8") from error


def check_archive(path: Path) -> None:
    """Accept an archive of arrays (`.npz`) by the sizes that it declares; no more than those are ever unpacked.

    Raises:
        ValueError: If they exceed the limit.
        zipfile.BadZipFile: If it is no such archive.
    """
    with zipfile.ZipFile(path) as archive:
        check_unpacked_size(sum(entry.file_size for entry in archive.infolist()), path)
