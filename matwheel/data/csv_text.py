"""CSV text to columns; text of another kind is refused with the mend."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matwheel.data.checks import BadStructureError
from matwheel.data.cif_folder import has_suffix
from matwheel.data.rows import Reason
from matwheel.data.structures import looks_like_structure

SHOWN_CHARACTERS = 40  # of a cell in a message


def csv_columns(text: str, path: Path) -> tuple[dict[str, list[str]], dict[int, BadStructureError]]:
    """Columns by the names in the first line, and what is wrong with rows of another width, by position.

    Args:
        text: Of the file.
        path: The file, for messages.

    Raises:
        ValueError: If this is no CSV, or the first line does not name the columns.
    """
    header, *rows = _rows(text, path) or [[]]
    _check_header(header, path)
    bad = {
        row: BadStructureError(Reason.UNREADABLE, f"the row has {len(cells)} cells, the header {len(header)}")
        for row, cells in enumerate(rows)
        if len(cells) != len(header)
    }
    padded = [(cells + [""] * len(header))[: len(header)] for cells in rows]
    return {name: [cells[column] for cells in padded] for column, name in enumerate(header)}, bad


def with_cgcnn_header(text: str, path: Path) -> str:
    """Text of an `id_prop.csv`, with names of its columns where, as for CGCNN, its first line is a crystal.

    Args:
        text: Of the file.
        path: The file, for messages.

    Raises:
        ValueError: If this is no CSV.
    """
    rows = _rows(text, path)
    if not rows or len(rows[0]) < 2 or not _is_number(rows[0][1]):
        return text
    width = max(map(len, rows))
    names = ["id", "target"] if width == 2 else ["id", *(f"target_{i}" for i in range(1, width))]
    return ",".join(names) + "\n" + text


def _rows(text: str, path: Path) -> list[list[str]]:
    limit = csv.field_size_limit(2**31 - 1)  # the default, 131,072 characters, is less than a large CIF
    try:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV table: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _check_header(header: Sequence[str], path: Path) -> None:
    data = next((cell for cell in header if looks_like_structure(cell) or has_suffix(cell)), None)
    if data is not None:
        raise ValueError(f"the first line of {path} must name the columns; it holds the structure '{_shown(data)}'")
    for separator, name in ((";", "';'"), ("\t", "tabs")):
        if sum(cell.count(separator) for cell in header) >= max(len(header), 1):  # more than commas
            raise ValueError(
                f"the columns of {path} are separated by {name}: save it with commas between the columns and points in "
                f"the numbers, for example by pandas.read_csv('{path.name}', sep={separator!r}, decimal=',')"
                ".to_csv('with_commas.csv', index=False)"
            )
    twice = next((name for name, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{path} has a column name twice, '{_shown(twice)}': the first line must name the columns")


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 3] + "..."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
