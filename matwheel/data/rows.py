"""A table that was read, with an account of every row that could not be used."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from matwheel.data.crystal import CrystalTable, IntArray
from matwheel.files import replaced_when_complete

SHOWN_IDS = 3  # of each reason in the summary; all of them are in the CSV
_HEADERS = ("row,id,reason,detail", "row,id,source,reason,detail")
"""Of the list of skipped rows: with the file that holds each where there are several."""
MAX_DETAIL = 200  # characters of a parser's message worth keeping


class Reason(StrEnum):
    """Why a row is skipped."""

    UNREADABLE = "unreadable structure"
    EMPTY = "empty structure"
    DISORDERED = "disordered structure"
    ELEMENT = "unsupported element"
    CELL = "absurd cell"
    OVERLAP = "overlapping atoms"
    TOO_MANY_SITES = "too many sites"
    DUPLICATE = "duplicate id"
    REPEATED = "same crystal as another row"
    HELD_OUT = "same formula as held-out data"
    MISSING = "missing value"
    NOT_A_NUMBER = "value is not a number"
    RANGE = "value out of range"


@dataclass(frozen=True)
class BadRow:
    """One row that is skipped.

    Attributes:
        row: Position in the source, from 0.
        id: The row's id in the source.
        reason: The kind of defect.
        detail: What exactly is wrong, for the person who will repair the row.
    """

    row: int
    id: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class RowReport:
    """Which rows of a source are skipped and why.

    Attributes:
        source: Name of the data set or path of the table.
        total: Rows in the source.
        bad: The skipped rows, by position.
    """

    source: str
    total: int
    bad: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.bad)

    def counts(self) -> dict[Reason, int]:
        """Skipped rows by reason, most frequent first."""
        return dict(Counter(row.reason for row in self.bad).most_common())

    def summary(self) -> str:
        """A few lines for the terminal: how many rows are used and, by reason, which are not."""
        if not self.bad:
            return f"{self.source}: all {self.total} rows used"
        lines = [f"{self.source}: {self.total - len(self.bad)} of {self.total} rows used, {len(self.bad)} skipped"]
        for reason, count in self.counts().items():
            rows = [row for row in self.bad if row.reason is reason]
            ids = ", ".join(row.id for row in rows[:SHOWN_IDS]) + (", ..." if count > SHOWN_IDS else "")
            lines.append(f"  {count} x {reason.value}: {ids} ({rows[0].detail})")
        return "\n".join(lines)

    def to_csv(self, path: Path, files: Sequence[str] = ()) -> None:
        """Write one line per skipped row: row, id, reason, detail.

        Args:
            path: The file.
            files: [rows of the source], the file that each is from, for a column `source`; none where there is one.
        """
        with replaced_when_complete(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")  # as in results.csv
            writer.writerow(_HEADERS[bool(files)].split(","))
            for bad in self.bad:
                source = [files[bad.row]] if files else []
                writer.writerow([bad.row, bad.id, *source, bad.reason.value, bad.detail])

    @staticmethod
    def is_csv(path: Path) -> bool:
        """Whether a file is one that `to_csv` wrote."""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().strip() in _HEADERS

    def extended(self, bad: Iterable[BadRow]) -> RowReport:
        """The report with further skipped rows.

        Raises:
            ValueError: If no row is left; names the most frequent reason.
        """
        report = replace(self, bad=tuple(sorted((*self.bad, *bad), key=lambda row: row.row)))
        if self.total == 0:
            raise ValueError(f"{self.source} has no rows")
        if len(report.bad) == self.total:
            reason, count = next(iter(report.counts().items()))
            example = next(row for row in report.bad if row.reason is reason)
            raise ValueError(
                f"no usable row in {self.source}: {count} of {self.total} rows have the reason "
                f"'{reason.value}', for example row {example.row} ({example.id}): {example.detail}"
            )
        return report


@dataclass(frozen=True)
class LoadedTable:
    """Crystals that were read from a source, and how they relate to it.

    Attributes:
        name: Name of the data set or path of the table.
        table: The usable crystals.
        source_rows: [n], position of each crystal in the source, from 0; published splits refer to these.
        report: The rows that are not in the table.
        default_target: Property to predict when the user names none; None where there is no obvious one.
        units: Units of properties, where known.
        not_numbers: By column and position in the source, cells that hold text instead of a number. A column with fewer
            numbers than texts, or with no number at all, is here and not among the properties.
        own: Whether it is a table of a person's own, in which a crystal may stand twice unnoticed. Data sets by name
            are used as they were published.
        files: [rows of the source], the file or folder that each is from; empty where it is the source itself.
    """

    name: str
    table: CrystalTable
    source_rows: IntArray
    report: RowReport
    default_target: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    not_numbers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    own: bool = False
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.table)

    def choose_target(self, target: str | None) -> str:
        """The property to predict: the one that is named, else the default.

        Raises:
            ValueError: If there is no such numeric property, or none is named and none is obvious.
        """
        chosen = target if target is not None else self.default_target
        if chosen is None:
            raise ValueError(f"name the target property; {self.name} has several or none: {self._known()}")
        self.check_property(chosen)
        return chosen

    def check_property(self, name: str) -> None:
        """Accept the name of a numeric property.

        Raises:
            ValueError: If there is no such property; says what its column holds instead, or lists those there are.
        """
        if name in self.table.properties:
            return
        if name not in self.not_numbers:
            raise ValueError(
                f"{self.name} has no numeric property '{name}'; numeric properties: {self._known()}{self._hint(name)}"
            )
        texts = self.not_numbers[name]
        if not texts:
            raise ValueError(f"column '{name}' of {self.name} holds no number in any of {self.report.total} rows")
        row, text = next(iter(texts.items()))
        raise ValueError(
            f"column '{name}' of {self.name} holds text in {len(texts)} of {self.report.total} rows, for example row "
            f"{row}: '{' '.join(text.split())}'; write numbers without unit and with a decimal point; leave unknown "
            "values empty"
        )

    def _hint(self, name: str) -> str:
        spelled = {known.casefold(): known for known in (*self.not_numbers, *self.table.properties)}
        close = difflib.get_close_matches(name.casefold(), spelled, n=1)
        return f"; did you mean '{spelled[close[0]]}'?" if close else ""

    def _known(self) -> str:
        if not self.table.properties and Path(self.name).is_dir():
            return "none (those of a folder of structures are columns of a CSV table in it)"
        return ", ".join(self.table.properties) or "none"

    def take(self, rows: Sequence[int] | IntArray, bad: Iterable[BadRow] = ()) -> LoadedTable:
        """Rows of the table by position; those left out for a defect are added to the report.

        Raises:
            ValueError: If every row of the source is bad.
        """
        report = self.report.extended(bad)
        return replace(self, table=self.table.take(rows), source_rows=self.source_rows[rows], report=report)
