"""Crystals of a page that one can turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from matwheel.data.crystal import Crystal
from matwheel.report.drawing import drawing, facts, formula, legend


@dataclass(frozen=True)
class GalleryItem:
    """A crystal and what is written below it.

    Attributes:
        id: Name of the crystal.
        formula: Chemical formula.
        num_atoms: Atoms in the cell.
        legend: Symbol and colour of each element.
        facts: Names and values of its properties.
        position: Of its drawing in `Gallery.drawings`; None if it cannot be drawn.
    """

    id: str
    formula: str
    num_atoms: int
    legend: list[dict[str, Any]]
    facts: dict[str, str]
    position: int | None


@dataclass
class Gallery:
    """All drawings of a page, which go into it once.

    Attributes:
        drawings: What the viewer draws (`matwheel.report.drawing.drawing`).
    """

    drawings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, crystals: Iterable[Crystal]) -> list[GalleryItem]:
        """Draw crystals; returns an item for each."""
        return [self._item(crystal) for crystal in crystals]

    def _item(self, crystal: Crystal) -> GalleryItem:
        drawn = drawing(crystal)
        if drawn is not None:
            self.drawings.append(drawn)
        position = len(self.drawings) - 1 if drawn is not None else None
        name = formula(crystal)
        return GalleryItem(crystal.id, name, crystal.num_atoms, legend(crystal), facts(crystal), position)
