"""Rows of a table that a split file names."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from matwheel.data.crystal import IntArray
from matwheel.data.rows import LoadedTable

log = logging.getLogger(__name__)

SHOWN = 5  # names in a message


class RowFinder:
    """Finds rows by id (text) or by position in the table's source (whole numbers).

    Rows of the source that were set aside, as bad or without a label, are left out and remembered for `warn`.

    Args:
        loaded: The usable rows, with the report of the others.
        path: The split file, for messages.
    """

    def __init__(self, loaded: LoadedTable, path: Path) -> None:
        self._path, self._name, self._total = path, loaded.name, loaded.report.total
        self._by_position = {position: row for row, position in enumerate(loaded.source_rows.tolist())}
        self._by_id = {name: row for row, name in enumerate(loaded.table.ids.tolist())}
        self._bad_ids = {bad.id for bad in loaded.report.bad}
        self._left_out: dict[str, None] = {}

    def rows(self, content: Mapping[str, Any], part: str, required: bool = False) -> IntArray:
        """Rows listed under the name of a part, in the order of the list.

        Raises:
            ValueError: If the list names rows that the source does not have, or a required part has no usable row.
        """
        entries = content.get(part, None if required else [])
        if not isinstance(entries, list):
            raise ValueError(f"{self._path} needs a list of ids or row positions under '{part}'")
        found = [row for entry in entries if (row := self._row(entry, part)) is not None]
        if required and not found:
            raise ValueError(f"{self._path}: no row of '{part}' is usable in {self._name}")
        return np.array(found, dtype=np.int64)

    def warn(self) -> None:
        """Log which rows of the split were set aside."""
        if self._left_out:
            names = list(self._left_out)
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            log.warning("%s: %d rows of the split are not usable or have no label: %s", self._path, len(names), shown)

    def _row(self, entry: object, part: str) -> int | None:
        row: int | None
        if isinstance(entry, int) and not isinstance(entry, bool):
            row, exists = self._by_position.get(entry), 0 <= entry < self._total
        else:
            row, exists = self._by_id.get(str(entry)), str(entry) in self._bad_ids
        if row is None and not exists:
            raise ValueError(
                f"{self._path} names {entry!r} under '{part}', which is neither an id nor a position in {self._name} "
                f"({self._total} rows): is the split made for another table?"
            )
        if row is None:
            self._left_out[str(entry)] = None
        return row


def read_json_object(path: Path) -> dict[str, Any]:
    """Content of a split file.

    Raises:
        ValueError: If there is no such file or it holds no JSON object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read the split file {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON split file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a split file: expected a JSON object with 'train', 'splits' or 'fold_0'")
    return content
