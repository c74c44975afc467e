"""Which rows of a table are trained on, with or without a label, and which are for validation and the test."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from matwheel.data.checks import usable_rows
from matwheel.data.crystal import BoolArray
from matwheel.data.repeats import without_repeats
from matwheel.data.rows import BadRow, LoadedTable, Reason, RowReport
from matwheel.data.splits import Split, SplitRows

log = logging.getLogger(__name__)


def divide(
    loaded: LoadedTable, required: Sequence[str], split: Split, labelled_fraction: float, use_unlabelled: bool
) -> tuple[SplitRows, RowReport]:
    """Divide the rows that can be used.

    Args:
        loaded: The table.
        required: Properties that must be known; the first one is the target.
        split: Divides the rows with a label.
        labelled_fraction: Fraction of the labels of training rows that may be used.
        use_unlabelled: Rows without a target are for training too, without a label.

    Returns:
        Rows of the table, and the report of those that are not used.

    Raises:
        ValueError: If no row can be used, or the split does not fit the table.
    """
    target = required[0]
    usable = usable_rows(loaded, required, may_be_missing=[target] if use_unlabelled else [])
    usable = usable.take(np.argsort(_is_unlabelled(usable, target), kind="stable"))  # a label stands for its crystal
    if loaded.own:
        usable = without_repeats(usable, required)
    missing = usable.report.counts().get(Reason.MISSING, 0)
    if missing and labelled_fraction < 1 and not use_unlabelled:
        log.warning(
            "labels are hidden (labelled_fraction %g) while %d crystals without a label are left out: "
            "use_unlabelled trains on them too",
            labelled_fraction,
            missing,
        )
    is_unlabelled = _is_unlabelled(usable, target)
    names = zip(usable.source_rows[is_unlabelled].tolist(), usable.table.ids[is_unlabelled].tolist(), strict=True)
    aside = [BadRow(row, id, Reason.MISSING, f"{target} is missing") for row, id in names]
    labelled = usable.take(np.flatnonzero(~is_unlabelled), aside)
    in_table = np.searchsorted(loaded.source_rows, usable.source_rows)
    rows = split.split(labelled, labelled_fraction).map(in_table[~is_unlabelled], in_table[is_unlabelled])
    return rows, usable.report


def _is_unlabelled(loaded: LoadedTable, target: str) -> BoolArray:
    missing: BoolArray = np.isnan(loaded.table.properties[target])
    return missing
