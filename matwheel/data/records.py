"""Rows as any reader finds them, turned into crystals; what cannot be used is reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain, count

import numpy as np

from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import Crystal, CrystalTable, FloatArray
from matwheel.data.rows import BadRow, LoadedTable, Reason, RowReport
from matwheel.data.structures import parse_structure

log = logging.getLogger(__name__)

MISSING_TEXTS = frozenset({"", "nan", "na", "n/a", "none", "null", "<na>", "-", "?"})
TRUTH_TEXTS = {"true": 1.0, "false": 0.0}
UNNAMED_COLUMNS = frozenset({"", "unnamed: 0"})  # what pandas writes its index as
COUNTERS = frozenset({"index", "idx", "row"})  # where they hold whole numbers: a refractive index is a property


@dataclass(frozen=True)
class Records:
    """Rows of a source before anything is parsed.

    Attributes:
        structures: [n], what `parse_structure` accepts, or the error that reading the row gave.
        ids: [n], names; an empty one is replaced by the row number.
        columns: Columns of [n] cells of any kind; those that hold numbers become properties.
        targets: The properties to offer, the default first; None for all numeric columns.
    """

    structures: Sequence[object]
    ids: Sequence[str]
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)
    targets: Sequence[str] | None = None


def load_records(
    name: str,
    records: Records,
    units: Mapping[str, str] | None = None,
    parse: Callable[[object, str], Crystal] = parse_structure,
) -> LoadedTable:
    """Parse the structures, find the numeric columns, and set bad rows aside.

    Args:
        name: Of the source.
        records: Its rows.
        units: Units of properties, where known.
        parse: Makes a crystal of a row's structure and id, and refuses with `BadStructureError` what cannot be used.

    Raises:
        ValueError: If no row can be used.
    """
    crystals: list[Crystal] = []
    source_rows: list[int] = []
    bad: list[BadRow] = []
    seen: dict[str, int] = {}
    for row, (structure, id) in enumerate(zip(records.structures, _named(records.ids), strict=True)):
        try:
            if isinstance(structure, BadStructureError):
                raise structure
            crystal = parse(structure, id)
            if id in seen:
                raise BadStructureError(Reason.DUPLICATE, f"row {seen[id]} has the same id")
        except BadStructureError as error:
            bad.append(BadRow(row, id, error.reason, str(error)))
            continue
        seen[id] = row
        crystals.append(replace(crystal, id=id))
        source_rows.append(row)
    report = RowReport(name, len(records.structures)).extended(bad)

    columns, not_numbers = _numeric_columns(records)
    rows = np.array(source_rows, dtype=np.int64)
    table = CrystalTable.from_crystals(crystals).with_properties(
        **{property: values[rows] for property, values in columns.items()}
    )
    return LoadedTable(
        name=name,
        table=table,
        source_rows=rows,
        report=report,
        default_target=next(iter(columns)) if columns and (records.targets or len(columns) == 1) else None,
        units=units or {},
        not_numbers=not_numbers,
    )


def clean_id(text: str) -> str:
    """An id without control characters, which terminals, file names and numpy's strings do not keep."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def with_distinct_ids(records: Records) -> Records:
    """An id that came before gets a number. Empty ones stay: rows without an id are numbered later."""
    ids = [clean_id(id) for id in records.ids]
    free = _FreeNames(ids)
    seen: set[str] = set()
    renamed: list[str] = []
    for position, id in enumerate(ids):
        if id in seen:
            ids[position] = free.of(id)
            renamed.append(ids[position])
        elif id:
            seen.add(id)
    if renamed:
        log.info("rows with the id of an earlier one get another: %d, such as %s", len(renamed), renamed[0])
    return replace(records, ids=ids)


def _named(ids: Sequence[str]) -> list[str]:
    """Clean ids; `row-N` for rows without one."""
    names = [clean_id(id) for id in ids]
    free = _FreeNames(names)
    for row, name in enumerate(names):
        if not name:
            names[row] = free.of(f"row-{row}")
    return names


class _FreeNames:
    """Gives names that nothing has: the name itself, or the first of `name#2`, `name#3`, ... that is not taken."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, Iterator[int]] = {}  # goes on after the last one given: thousands may share a name

    def of(self, name: str) -> str:
        numbers = self._numbers.setdefault(name, count(2))
        free = next(new for new in chain([name], (f"{name}#{number}" for number in numbers)) if new not in self._taken)
        self._taken.add(free)
        return free


def concatenate_records(tables: Sequence[Records]) -> Records:
    """Rows below each other; a column that only some have is empty for the others."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    return Records(
        [structure for table in tables for structure in table.structures],
        [id for table in tables for id in table.ids],
        {
            name: [cell for table in tables for cell in table.columns.get(name, [None] * len(table.structures))]
            for name in names
        },
    )


def _numeric_columns(records: Records) -> tuple[dict[str, FloatArray], dict[str, dict[int, str]]]:
    """Columns of which at least half of the filled cells are numbers; and the text among these and in other columns."""
    names = list(records.columns) if records.targets is None else list(records.targets)
    columns: dict[str, FloatArray] = {}
    not_numbers: dict[str, dict[int, str]] = {}
    for name in names:
        values = np.full(len(records.structures), np.nan)
        texts: dict[int, str] = {}
        for row, cell in enumerate(records.columns.get(name, ())):
            number = _to_number(cell)
            if number is None:
                texts[row] = str(cell)[:100]
            else:
                values[row] = number
        if records.targets is None and _counts_rows(name.strip().lower(), values):
            continue
        numbers = int(np.isfinite(values).sum())  # a formula such as InF reads as infinity
        if numbers and numbers >= len(texts):
            columns[name] = values
        if texts or name not in columns:
            not_numbers[name] = texts
    return columns, not_numbers


def _counts_rows(name: str, values: FloatArray) -> bool:
    known = values[np.isfinite(values)]
    return name in UNNAMED_COLUMNS or (name in COUNTERS and bool((known == np.round(known)).all()))


def _to_number(cell: object) -> float | None:
    """The number in a cell, NaN for a missing one, None for anything else."""
    if cell is None:
        return float("nan")
    if isinstance(cell, str):
        text = cell.strip().lower()
        if text in MISSING_TEXTS:
            return float("nan")
        if text in TRUTH_TEXTS:
            return TRUTH_TEXTS[text]
        try:
            return float(text) if "_" not in text else None  # Python reads 1_5 as 15
        except ValueError:
            return None
    if isinstance(cell, (bool, int, float, Decimal, np.number, np.bool_)) and not isinstance(cell, np.complexfloating):
        try:
            return float(cell)
        except OverflowError:
            return None
    return None
