"""Reading what a generator made: nothing that can be read is left out, however absurd."""

from __future__ import annotations

from pathlib import Path

from matwheel.data.catalogue import load
from matwheel.data.records import load_records, with_distinct_ids
from matwheel.data.rows import LoadedTable
from matwheel.data.structures import parse_any_structure
from matwheel.data.tables import read_records


def read_generated(source: str, data_dir: Path | None = None) -> LoadedTable:
    """Read generated crystals.

    The data layer refuses crystals that nothing can be trained on; here they are what is to be counted. Only rows that
    hold no crystal at all are in the report. Rows with an id that came before get a new one.

    Args:
        source: Path of a table (see `matwheel.data.tables.read_table`), or the name of a data set.
        data_dir: Folder with further data sets; by default the environment variable MATWHEEL_DATA.

    Raises:
        ValueError: If there is no such table, or no row of it can be read.
    """
    path = Path(source).expanduser()
    if not path.exists():
        return load(source, data_dir)
    return load_records(str(path), with_distinct_ids(read_records(path)), parse=parse_any_structure)
