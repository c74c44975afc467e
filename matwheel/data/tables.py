"""A user's own table to crystals: CSV, JSON, JSON lines, Parquet, extended XYZ, or a folder of CIFs with a CSV."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matwheel.data.checks import BadStructureError
from matwheel.data.cif_folder import (
    NAMES,
    find_structure_file,
    has_suffix,
    id_of_file,
    list_structure_files,
    names_a_file,
    read_structure_file,
    spellings,
)
from matwheel.data.column_names import ARRAY_NAMES, ID_NAMES, STRUCTURE_NAMES, usual_columns, with_index
from matwheel.data.csv_text import csv_columns, with_cgcnn_header
from matwheel.data.extxyz import read_extxyz
from matwheel.data.json_text import json_columns, jsonl_columns
from matwheel.data.records import Records, load_records, with_distinct_ids
from matwheel.data.rows import LoadedTable
from matwheel.data.structures import looks_like_structure
from matwheel.data.unpacking import check_unpacked_size, read_text
from matwheel.files import PREDICTIONS, SKIPPED_ROWS, VALIDATION_PREDICTIONS, similar_file, skipped_beside

log = logging.getLogger(__name__)

FORMATS = (
    ".csv, .json, .jsonl, .parquet (.csv, .json and .jsonl also with .gz), .extxyz, .xyz, a structure file "
    f"({NAMES}), or a folder"
)
WRITTEN_HERE = frozenset({PREDICTIONS, skipped_beside(Path(PREDICTIONS)).name, VALIDATION_PREDICTIONS, SKIPPED_ROWS})
"""Tables that this package writes: none is one of crystals."""
SAMPLE = 50  # filled cells looked at to tell what a column holds

_Columns = dict[str, list[Any]]
_EXTXYZ = (".extxyz", ".xyz")
_PARQUET_ROWS = 256  # read at a time
_PARQUET_INDEX = "__index_level_0__"  # what pandas calls an index without name


def read_table(
    path: Path, structure_column: str | None = None, id_column: str | None = None, keep_repeated_ids: bool = False
) -> LoadedTable:
    """Read a table with one structure per row; any column of numbers is a property.

    Args:
        path: A file of one of the formats above (a structure file is one row), or a folder that holds structure files
            and at most one CSV, whose first column (or `id_column`) names them; an `id_prop.csv` without header is read
            as CGCNN reads it. Predictions and skipped rows that this package wrote there are not that CSV.
        structure_column: Column with the structures (CIF text, POSCAR text, pymatgen dictionary, or name of a structure
            file in the table's folder); by default the first that holds such.
        id_column: Column, or key of extended XYZ, with unique names; by default one with a usual name such as
            `material_id`, else rows are numbered.
        keep_repeated_ids: Rows with the id of an earlier one get another id instead of being bad.

    Raises:
        ValueError: If the file cannot be read, or no row of it is usable.
    """
    records = read_records(path, structure_column, id_column)
    return load_records(str(path), with_distinct_ids(records) if keep_repeated_ids else records)


def read_records(path: Path, structure_column: str | None = None, id_column: str | None = None) -> Records:
    """Read the rows of a table without parsing their structures.

    Args:
        path: See `read_table`.
        structure_column: See `read_table`.
        id_column: See `read_table`.

    Raises:
        ValueError: If the file cannot be read.
    """
    path = Path(path)
    for option, named in (("structure_column", structure_column), ("id_column", id_column)):
        if named is not None and (reason := why_no_column(path, option)):
            raise ValueError(f"{path} has no column '{named}': {reason}; leave {option} out")
    if path.is_dir():
        return _read_folder(path, id_column)
    if not path.is_file():
        close = similar_file(path)
        raise ValueError(f"no such table: {path}" + (f"; did you mean '{close}'?" if close else ""))
    name = path.name.lower()
    if names_a_file(path.name):
        return Records([read_structure_file(path.parent, path.name)], [id_of_file(path.name)])
    if name.endswith(_EXTXYZ):
        return read_extxyz(path, id_column, frozenset(ID_NAMES))
    targets: Sequence[str] | None = None
    bad: dict[int, BadStructureError] = {}
    if name.endswith((".csv", ".csv.gz")):
        columns, bad = csv_columns(read_text(path), path)
    elif name.endswith((".json", ".json.gz")):
        columns, bad, targets = json_columns(read_text(path), path, structure_column, id_column)
    elif name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        columns, bad = jsonl_columns(read_text(path))
    elif name.endswith(".parquet"):
        columns = _parquet_columns(path, id_column)
    else:
        raise ValueError(f"cannot read {path}: the formats are {FORMATS}")
    return _to_records(columns, bad, targets, path, structure_column, id_column)


def why_no_column(path: Path, option: str) -> str:
    """Why a column of a file or folder cannot be named, empty where it can.

    Args:
        path: See `read_table`.
        option: Which one: `structure_column` or `id_column`.
    """
    if path.is_dir():
        if option == "structure_column":
            return "the structures of a folder are its files"
        return "" if _tables_of(path) else "without a CSV in it, the names of its files are the ids"
    if names_a_file(path.name):
        return "it is one structure"
    if option == "structure_column" and path.name.lower().endswith(_EXTXYZ):
        return "each frame is a structure"
    return ""


def _to_records(
    columns: _Columns,
    bad: dict[int, BadStructureError],
    targets: Sequence[str] | None,
    path: Path,
    structure_column: str | None,
    id_column: str | None,
) -> Records:
    total = len(next(iter(columns.values()), ()))
    if total == 0:
        raise ValueError(f"{path} has no rows")
    structures, used = _structures(columns, path, structure_column)
    id_column = _find_id(columns, path, id_column)
    ids = [""] * total if id_column is None else [_text_of(cell) for cell in columns[id_column]]
    rest = {name: cells for name, cells in columns.items() if name not in used and name != id_column}
    return Records([bad.get(row, structure) for row, structure in enumerate(structures)], ids, rest, targets)


def _structures(columns: _Columns, path: Path, named: str | None) -> tuple[list[object], set[str]]:
    """The structure of each row, and the columns that hold it."""
    if named is None and all(name in columns for name in ARRAY_NAMES):
        arrays = zip(*(columns[name] for name in ARRAY_NAMES), strict=True)
        return [dict(zip(ARRAY_NAMES, row, strict=True)) for row in arrays], set(ARRAY_NAMES)
    column = _find_structure(columns, path) if named is None else named
    if column not in columns:
        raise ValueError(f"{path} has no column '{column}'; its columns: {', '.join(columns)}")
    cells = columns[column]
    return [read_structure_file(path.parent, cell) if names_a_file(cell) else cell for cell in cells], {column}


def _find_structure(columns: _Columns, path: Path) -> str:
    """The first column with structures, those with a usual name before others."""
    usual = usual_columns(columns, STRUCTURE_NAMES)
    filled = {name: [cell for cell in columns[name] if cell not in (None, "")][:SAMPLE] for name in [*usual, *columns]}
    texts = [name for name, cells in filled.items() if any(looks_like_structure(cell) for cell in cells)]
    files = [name for name, cells in filled.items() if any(has_suffix(cell) for cell in cells)]
    found = next((name for name in filled if name in texts or name in files), None)
    if found is not None:
        if len(texts) > 1:
            log.warning("%s: %s hold structures, %s is used; structure_column names another", path, texts, found)
        return found
    if usual:
        return usual[0]
    raise ValueError(
        f"no column of {path} holds structures (CIF, POSCAR or pymatgen dictionaries); its columns: "
        f"{', '.join(columns)}. If one does, name it as structure_column."
    )


def _find_id(columns: _Columns, path: Path, named: str | None) -> str | None:
    if named is not None:
        if named not in columns:
            raise ValueError(f"{path} has no column '{named}'; its columns: {', '.join(columns)}")
        return named
    return next(iter(usual_columns(columns, ID_NAMES)), None)


def _text_of(cell: object) -> str:
    return "" if cell is None or cell != cell else str(cell)


def _parquet_columns(path: Path, id_column: str | None) -> _Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: _Columns = {}
    size = 0
    try:
        # Not as a data set: a name with '=' or a folder must not add columns. In small parts: a value that is stored
        # once may stand in millions of rows.
        for batch in pq.ParquetFile(path).iter_batches(_PARQUET_ROWS):
            size += batch.nbytes + batch.num_rows * batch.num_columns
            check_unpacked_size(size, path)
            if repeated := [name for name, times in Counter(batch.schema.names).items() if times > 1]:
                raise ValueError(f"{path} has the column '{repeated[0]}' twice: give each column a name of its own")
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                columns.setdefault(name, []).extend(map(_decoded, column.to_pylist()))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a Parquet table: {error}") from error
    index = columns.pop(_PARQUET_INDEX, [])
    return with_index(columns, index, id_column)


def _decoded(cell: object) -> object:
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else cell


def _read_folder(folder: Path, id_column: str | None) -> Records:
    tables, files = _tables_of(folder), list_structure_files(folder)
    if len(tables) > 1:
        raise ValueError(f"{folder} has several CSV tables ({', '.join(t.name for t in tables)}): give one by its path")
    if not tables:
        if not files:
            inside = [path for path in sorted(folder.iterdir()) if _holds_crystals(path)]  # as those of samples
            hint = f"; did you mean {' or '.join(map(str, inside))}?" if inside else ""
            raise ValueError(f"{folder} holds neither a CSV table nor structure files ({NAMES}){hint}")
        names = [file.name for file in files]
        return Records([read_structure_file(folder, name) for name in names], [id_of_file(name) for name in names])
    text = read_text(tables[0])
    if _is_cgcnn(tables[0]):
        text = with_cgcnn_header(text, tables[0])
    columns, bad = csv_columns(text, tables[0])
    column = _find_id(columns, tables[0], id_column) or next(iter(columns), None)
    if column is None or not columns[column]:
        raise ValueError(f"{tables[0]} has no rows")
    ids = columns.pop(column)
    _warn_of_others(files, ids, tables[0])
    return Records([bad.get(row) or find_structure_file(folder, id) for row, id in enumerate(ids)], ids, columns)


def _tables_of(folder: Path) -> list[Path]:
    tables = sorted(path for path in folder.iterdir() if _is_csv(path) and path.name not in WRITTEN_HERE)
    return [path for path in tables if _is_cgcnn(path)] or tables


def _is_csv(path: Path) -> bool:
    return path.name.lower().endswith((".csv", ".csv.gz")) and not path.is_dir()


def _is_cgcnn(path: Path) -> bool:
    return path.name.lower() in ("id_prop.csv", "id_prop.csv.gz")


def _holds_crystals(path: Path) -> bool:
    return bool(list_structure_files(path)) if path.is_dir() else path.name.lower().endswith(_EXTXYZ)


def _warn_of_others(files: Sequence[Path], ids: Sequence[str], table: Path) -> None:
    named = {id.strip() for id in ids}
    others = [file.name for file in files if named.isdisjoint((id_of_file(file.name), *spellings(file.name)))]
    if others:
        log.warning(
            "%d of %d structure files are not used: %s does not name them, for example %s",
            len(others),
            len(files),
            table,
            others[0],
        )
