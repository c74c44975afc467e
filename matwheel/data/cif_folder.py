"""Structure files beside a table: read only where they lie inside the table's folder."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import TextIO, TypeGuard

from matwheel.data.checks import BadStructureError
from matwheel.data.rows import Reason
from matwheel.data.structures import MAX_TEXT

SUFFIXES = (".cif", ".vasp", ".poscar")
BEGINNINGS = ("POSCAR", "CONTCAR")
NAMES = ", ".join((*SUFFIXES, *(f"{beginning}*" for beginning in BEGINNINGS))) + "; each also with .gz"
"""What structure files are called, for messages."""
_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})(\.gz|)$", re.IGNORECASE)
_OTHER_FILES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".extxyz", ".xyz", ".zip", ".tar", ".tgz")


def has_suffix(cell: object) -> bool:
    """Whether a table's cell is a name with the suffix of structure files."""
    return isinstance(cell, str) and "\n" not in cell and _SUFFIX.search(cell.strip()) is not None


def names_a_file(cell: object) -> TypeGuard[str]:
    """Whether a table's cell is the name of a structure file: by its suffix, or as VASP calls them (`POSCAR_mp-1`)."""
    if not isinstance(cell, str) or "\n" in cell or has_suffix(cell):
        return has_suffix(cell)
    name = cell.strip().rpartition("/")[2]
    return name.startswith(BEGINNINGS) and not name.lower().removesuffix(".gz").endswith(_OTHER_FILES)


def id_of_file(name: str) -> str:
    """Id of the crystal in a structure file: its name without the suffix, all of it where there is none."""
    return _SUFFIX.sub("", name).removesuffix(".gz")


def spellings(name: str) -> list[str]:
    """The name of a structure file, and with its suffix in small and in capital letters, as some systems write it."""
    found = _SUFFIX.search(name)
    if found is None:
        return [name]
    suffix, packed = found.groups()
    return [name, *(name[: found.start()] + spelling + packed for spelling in (suffix.lower(), suffix.upper()))]


def list_structure_files(folder: Path) -> list[Path]:
    """The structure files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if names_a_file(path.name) and not path.is_dir())


def read_structure_file(folder: Path, name: str) -> str | BadStructureError:
    """Text of a structure file, or why it is not read.

    Args:
        folder: Nothing outside of it is read, neither by `..` nor through a link.
        name: Path relative to the folder.
    """
    try:
        paths = [(folder / spelling).resolve() for spelling in spellings(name.strip())]
        path = next((path for path in paths if path.is_file()), paths[0])
        if not path.is_relative_to(folder.resolve()):
            return BadStructureError(Reason.UNREADABLE, f"{name} lies outside the folder of the table")
        if not path.is_file():
            return BadStructureError(Reason.UNREADABLE, f"no file {name} in the folder of the table")
        with _open(path) as file:
            text = file.read(MAX_TEXT + 1)
    # No such name can exist (too long, NUL byte, link loop), or what is packed is damaged.
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error) as error:
        return BadStructureError(Reason.UNREADABLE, f"{name} cannot be read: {error}")
    if len(text) > MAX_TEXT:
        return BadStructureError(Reason.UNREADABLE, f"{name} is larger than {MAX_TEXT} characters")
    return text


def _open(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def find_structure_file(folder: Path, id: str) -> str | BadStructureError:
    """Text of the structure file of an id: the id with a known suffix, or the id itself where it names a file."""
    id = id.strip()
    if has_suffix(id):
        return read_structure_file(folder, id)
    names = [id + suffix + packed for packed in ("", ".gz") for suffix in SUFFIXES]
    names += [id, id + ".gz"] if names_a_file(id) else []
    attempts = [read_structure_file(folder, name) for name in names]
    return next((text for text in attempts if isinstance(text, str)), attempts[0])
