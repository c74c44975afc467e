"""Crystals that a person hands over to be predicted or judged: files, pymatgen structures, ASE atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import Crystal
from matwheel.data.extxyz import crystal_from_atoms
from matwheel.data.records import Records, concatenate_records, distinct_ids, load_records
from matwheel.data.rows import LoadedTable
from matwheel.data.structures import parse_structure
from matwheel.data.tables import read_records

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    StructureLike: TypeAlias = str | Path | Structure | Atoms | Crystal


def read_structures(
    given: StructureLike | Sequence[StructureLike],
    parse: Callable[[object, str], Crystal] = parse_structure,
) -> LoadedTable:
    """One table of everything that is given; bad rows are in its report.

    Args:
        given: One or several of: path of a structure file, of a table (see `matwheel.data.tables.read_table`) or of a
            folder; pymatgen structure; ASE atoms. Crystals without an id are numbered; a repeated id gets a number.
        parse: See `matwheel.data.records.load_records`.

    Raises:
        ValueError: If nothing is given, a file cannot be read, or no row is usable.
    """
    items = list(given) if isinstance(given, list | tuple) else [given]  # a pymatgen structure is a sequence, too
    records = concatenate_records([_records(item) for item in items])
    if not len(records.structures):
        raise ValueError("no structures were given")
    paths = [str(item) for item in items if isinstance(item, str | Path)]
    name = paths[0] if len(items) == 1 and paths else f"{len(items)} inputs"
    return load_records(name, replace(records, ids=distinct_ids(records.ids)), parse=parse)


def _records(item: object) -> Records:
    from ase import Atoms

    if isinstance(item, str | Path):
        return read_records(Path(item).expanduser())
    if isinstance(item, Atoms):
        try:
            return Records([crystal_from_atoms(item)], [str(item.info.get("id", ""))])
        except BadStructureError as error:
            return Records([error], [""])
    return Records([item], [item.id if isinstance(item, Crystal) else ""])
