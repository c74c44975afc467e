"""Crystals that a person hands over to be predicted or judged: files, pymatgen structures, ASE atoms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import pandas as pd
from pymatgen.core.structure import SiteCollection

from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import Crystal
from matwheel.data.extxyz import crystal_from_atoms
from matwheel.data.records import Records, concatenate_records, load_records, with_distinct_ids
from matwheel.data.rows import LoadedTable
from matwheel.data.structures import looks_like_structure, parse_structure
from matwheel.data.tables import read_records, why_no_column

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    StructureLike: TypeAlias = str | Path | Mapping[str, object] | Structure | Atoms | Crystal


def read_structures(
    given: StructureLike | Iterable[StructureLike],
    parse: Callable[[object, str], Crystal] = parse_structure,
    structure_column: str | None = None,
    id_column: str | None = None,
) -> LoadedTable:
    """One table of everything that is given; bad rows are in its report.

    Args:
        given: One or several (a list, a pandas series, an array, a generator) of: path of a structure file, of a table
            (see `matwheel.data.tables.read_table`) or of a folder; text of a CIF or POSCAR; pymatgen structure or its
            dictionary; ASE atoms. Crystals without an id are numbered; a repeated id gets a number.
        parse: See `matwheel.data.records.load_records`.
        structure_column: Of tables, see `matwheel.data.tables.read_table`; what has no columns may stand beside them.
        id_column: Of tables, too.

    Raises:
        ValueError: If nothing or a data frame is given, a file cannot be read, or no row is usable.
    """
    items = list(given) if _holds_several(given) else [given]
    named = {"structure_column": structure_column, "id_column": id_column}
    useless = {option for option in named if not any(_has_columns(item, option) for item in items)}
    tables = [
        _records(item, *(name if o in useless or _has_columns(item, o) else None for o, name in named.items()))
        for item in items
    ]
    records = concatenate_records(tables)
    if not len(records.structures):
        raise ValueError("no structures were given")
    name = str(items[0]) if len(items) == 1 and is_path(items[0]) else f"{len(items)} inputs"
    loaded = load_records(name, with_distinct_ids(records), parse=parse)
    files = [str(item) if is_path(item) else "" for item in items]
    return replace(loaded, files=[file for file, table in zip(files, tables, strict=True) for _ in table.structures])


def _holds_several(given: object) -> TypeGuard[Iterable[object]]:
    from ase import Atoms

    one = (str, bytes, Mapping, SiteCollection, Atoms, pd.DataFrame)  # iterable, too
    return isinstance(given, Iterable) and not isinstance(given, one)


def is_path(item: object) -> TypeGuard[str | Path]:
    """Whether it names a file or a folder, unlike the text of a structure."""
    return isinstance(item, Path) or (isinstance(item, str) and "\n" not in item and not looks_like_structure(item))


def _has_columns(item: object, option: str) -> bool:
    return is_path(item) and not why_no_column(Path(item).expanduser(), option)


def _records(item: object, structure_column: str | None, id_column: str | None) -> Records:
    from ase import Atoms

    if is_path(item):
        return read_records(Path(item).expanduser(), structure_column, id_column)
    if isinstance(item, pd.DataFrame):
        raise ValueError(
            f"a data frame (columns {', '.join(map(str, item.columns))}) is not read: give its column of structures, "
            "such as frame['structure']"
        )
    if isinstance(item, Atoms):
        try:
            return Records([crystal_from_atoms(item)], [str(item.info.get("id", ""))])
        except BadStructureError as error:
            return Records([error], [""])
    return Records([item], [item.id if isinstance(item, Crystal) else ""])
