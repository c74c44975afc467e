"""Structure files beside a table: read only where they lie inside the table's folder."""

from __future__ import annotations

from pathlib import Path

from matwheel.data.checks import BadStructureError
from matwheel.data.rows import Reason
from matwheel.data.structures import MAX_TEXT

SUFFIXES = (".cif", ".vasp", ".poscar")


def names_a_file(cell: object) -> bool:
    """Whether a table's cell is the name of a structure file."""
    return isinstance(cell, str) and "\n" not in cell and cell.strip().lower().endswith(SUFFIXES)


def read_structure_file(folder: Path, name: str) -> str | BadStructureError:
    """Text of a structure file, or why it is not read.

    Args:
        folder: Nothing outside of it is read, neither by `..` nor through a link.
        name: Path relative to the folder.
    """
    try:
        path = (folder / name.strip()).resolve()
        if not path.is_relative_to(folder.resolve()):
            return BadStructureError(Reason.UNREADABLE, f"{name} lies outside the folder of the table")
        if not path.is_file():
            return BadStructureError(Reason.UNREADABLE, f"no file {name} in the folder of the table")
        if path.stat().st_size > MAX_TEXT:
            return BadStructureError(Reason.UNREADABLE, f"{name} is larger than {MAX_TEXT} bytes")
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError, RuntimeError) as error:  # no such name can exist (too long, NUL byte, link loop)
        return BadStructureError(Reason.UNREADABLE, f"{name} cannot be read: {error}")


def find_structure_file(folder: Path, id: str) -> str | BadStructureError:
    """Text of the structure file of an id: the id itself where it names a file, else with a known suffix."""
    if names_a_file(id):
        return read_structure_file(folder, id)
    attempts = [read_structure_file(folder, id + suffix) for suffix in SUFFIXES]
    return next((text for text in attempts if isinstance(text, str)), attempts[0])
