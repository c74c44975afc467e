"""A figure with all that a page says of it, as SVG in the page or in files for a paper."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from matwheel.files import replaced_when_complete

_DPI = 300
_LONGEST = 120  # characters of a file name


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        name: Short name, of which the names of its files are made.
        caption: What is written below it.
        alt: What it shows, for those who cannot see it.
        figure: The figure.
    """

    name: str
    caption: str
    alt: str
    figure: Figure

    @cached_property
    def svg(self) -> bytes:
        """The figure as an SVG file; drawn once, since every drawing moves a layout a little."""
        buffer = BytesIO()
        # Text stays text, and the same figure gives the same file.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "matwheel"}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    @property
    def source(self) -> str:
        """The SVG as a data URI: as an image it shares no ids with others, and nothing in it can be executed."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"

    @property
    def width(self) -> int:
        """Width in CSS pixels, 96 to the inch."""
        return round(96 * self.figure.get_figwidth())

    @property
    def height(self) -> int:
        """Height in CSS pixels."""
        return round(96 * self.figure.get_figheight())


def save_pictures(pictures: Iterable[Picture], folder: Path) -> list[Path]:
    """Write each picture as PNG and SVG.

    Args:
        pictures: With or without different names.
        folder: Where to; created if missing.

    Returns:
        The files.
    """
    written: list[Path] = []
    taken: Counter[str] = Counter()
    for picture in pictures:
        name = re.sub(r"[^a-z0-9]+", "-", picture.name.lower()).strip("-")[:_LONGEST]
        taken[name] += 1
        name += f"-{taken[name]}" if taken[name] > 1 else ""
        for format in ("png", "svg"):
            path = folder / f"{name}.{format}"
            with replaced_when_complete(path, sync=False) as temporary:
                if format == "svg":
                    temporary.write_bytes(picture.svg)
                else:
                    picture.figure.savefig(temporary, format="png", dpi=_DPI)
            written.append(path)
    return written
