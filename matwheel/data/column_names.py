"""Usual names of columns, by which structures and ids are found in tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

STRUCTURE_NAMES = ("structure", "cif", "poscar", "cif_string", "cif_str", "structure_dict", "file", "filename", "path")
ID_NAMES = ("id", "material_id", "mpid", "mp_id", "mp-id", "jid", "jarvis_id", "task_id", "identifier")
ARRAY_NAMES = ("lattice", "species", "frac_coords")


def usual_columns(columns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The columns called by one of the names, in any case, in the order of the names."""
    by_name = {column.strip().lower(): column for column in reversed(list(columns))}
    return [by_name[name] for name in names if name in by_name]


def with_index(columns: dict[str, list[Any]], index: Sequence[object], id_column: str | None) -> dict[str, list[Any]]:
    """The columns, with the names that rows have beside them as ids if no column holds ids; numbers of rows are none.

    Args:
        columns: Cells by column.
        index: Names of the rows.
        id_column: The column with the ids, where it is known.
    """
    numbered = list(map(str, index)) == list(map(str, range(len(index))))
    if numbered or id_column in columns or usual_columns(columns, ID_NAMES):
        return columns
    return {"id": list(index), **columns}
