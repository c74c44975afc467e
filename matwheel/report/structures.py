"""A page to look at the crystals of a file."""

from __future__ import annotations

from pathlib import Path

from matwheel.metrics.generated import read_generated
from matwheel.report.gallery import Gallery
from matwheel.report.page import render


def structures_page(source: str) -> str:
    """A page with all crystals of a file.

    Args:
        source: Extended XYZ, or any other table of crystals (see `matwheel.data.tables.read_table`).

    Raises:
        ValueError: If there is no such file, or none of its crystals can be read.
    """
    loaded = read_generated(source)
    gallery = Gallery()
    items = gallery.add(loaded.table)
    note = f"{len(items)} crystals."
    if loaded.report.bad:
        reasons = "; ".join(f"{count} x {reason.value}" for reason, count in loaded.report.counts().items())
        note = f"{len(items)} of {loaded.report.total} crystals; not read: {reasons}."
    return render("structures.html", Path(source).name, gallery, note=note, crystals=items)
