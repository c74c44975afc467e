"""JSON content to columns, whether it is written by record, by id or by column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from matwheel.data.checks import BadStructureError
from matwheel.data.cif_folder import has_suffix
from matwheel.data.column_names import ARRAY_NAMES, ID_NAMES, STRUCTURE_NAMES, usual_columns, with_index
from matwheel.data.rows import Reason
from matwheel.data.structures import looks_like_structure

_PARTS = frozenset({"@module", "@class", "@version", "charge", "lattice", "sites", "properties"})
"""What `Structure.as_dict` of pymatgen writes."""

_Columns = dict[str, list[Any]]
_Bad = dict[int, BadStructureError]


def json_columns(
    text: str, path: Path, structure_column: str | None = None, id_column: str | None = None
) -> tuple[_Columns, _Bad, Sequence[str] | None]:
    """Columns, what is wrong with rows that are no records, by position, and the properties that the file offers.

    Args:
        text: Records (a list, under the key `records`, or by id), columns (lists, or dictionaries by row as of pandas),
            or one pymatgen dictionary.
        path: The file, for messages.
        structure_column: Name of the column with the structures, where it is known.
        id_column: Name of the column with the ids, where it is known.

    Raises:
        ValueError: If this is no such JSON.
    """
    content = _decode(text, path)
    targets = None
    if isinstance(content, Mapping) and isinstance(content.get("lattice"), Mapping) and "sites" in content:
        content = [content]
    if isinstance(content, Mapping) and isinstance(content.get("records"), list):
        targets = content.get("targets")
        if targets is not None and not (isinstance(targets, list) and all(isinstance(t, str) for t in targets)):
            raise ValueError(f"'targets' in {path} must be a list of property names")
        content = content["records"]
    if isinstance(content, list):
        return *_record_columns(content), targets
    if isinstance(content, Mapping):
        known = {name: value for name, value in content.items() if value is not None}
        if all(isinstance(value, Mapping) for value in known.values()):
            if _is_by_id(known, path, (structure_column, id_column)):
                return *_record_columns([{"id": id, **(record or {})} for id, record in content.items()]), None
            if len(known) == len(content):
                return _aligned(content, path, id_column), {}, None
    if isinstance(content, Mapping) and all(isinstance(cells, list) for cells in content.values()):
        columns: _Columns = dict(content)
        if len({len(cells) for cells in columns.values()}) == 1:
            return columns, {}, None
    raise ValueError(f"{path} must hold a list of records or columns of equal length")


def jsonl_columns(text: str) -> tuple[_Columns, _Bad]:
    """Columns, and what is wrong with lines that are no records, by position.

    Args:
        text: A record a line.
    """
    records: list[object] = []
    for line in filter(str.strip, text.split("\n")):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):
            records.append(None)
    return _record_columns(records)


def _decode(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _is_by_id(content: Mapping[str, Mapping[str, Any]], path: Path, known: Sequence[str | None]) -> bool:
    """Whether the outer names are those of crystals and the inner ones those of columns, not the other way round."""
    inner = list(dict.fromkeys(chain.from_iterable(content.values())))
    if all(map(str.isdecimal, inner)):  # pandas' numbers of rows
        return False
    outer_are_columns, inner_are_columns = (_are_columns(names, known) for names in (list(content), inner))
    if outer_are_columns != inner_are_columns:
        return inner_are_columns
    # Structures share the name of their column, crystals do not share theirs.
    held = [(a, b) for a, cells in content.items() for b, cell in cells.items() if _holds_structure(cell)]
    outer_names, inner_names = len({outer for outer, _ in held}), len({inner for _, inner in held})
    if outer_names == inner_names:
        raise ValueError(
            f"which names in {path} are columns and which are crystals cannot be told: call the column of structures "
            "'structure', or name it as structure_column"
        )
    return outer_names > inner_names


def _are_columns(names: Sequence[str], known: Sequence[str | None]) -> bool:
    usual = usual_columns(names, (*STRUCTURE_NAMES, *ID_NAMES, *ARRAY_NAMES))
    return bool(usual) or any(name in names for name in known)


def _holds_structure(cell: object) -> bool:
    return looks_like_structure(cell) or has_suffix(cell)


def _aligned(content: Mapping[str, Mapping[str, Any]], path: Path, id_column: str | None) -> _Columns:
    """Cells of all columns in the order of the first one's rows, whose names are the ids where they are no numbers."""
    rows = list(next(iter(content.values()), ()))
    for name, cells in content.items():
        if differing := cells.keys() ^ set(rows):
            raise ValueError(
                f"column '{name}' of {path} does not have the rows of column '{next(iter(content))}', "
                f"for example '{min(differing)}': give each column a cell, or null, for every row"
            )
    return with_index({name: [cells[row] for row in rows] for name, cells in content.items()}, rows, id_column)


def _as_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record; one that is a pymatgen dictionary becomes its cell `structure`, beside what else it holds."""
    if not ("lattice" in record and "sites" in record):
        return record
    return {"structure": record, **{name: cell for name, cell in record.items() if name not in _PARTS}}


def _record_columns(records: Sequence[object]) -> tuple[_Columns, _Bad]:
    rows = [_as_record(record) if isinstance(record, Mapping) else {} for record in records]
    bad = {
        row: BadStructureError(Reason.UNREADABLE, "the record is not a JSON object")
        for row, record in enumerate(records)
        if not isinstance(record, Mapping)
    }
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, bad
