"""Stages that several cells of a study have in common are made by one of them and copied by the others."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from matwheel.studies.grid import Cell

_STAGES = "stages"


def leaders(cells: Sequence[Cell], shared: Sequence[str]) -> dict[str, str]:
    """For each cell the one whose stages it may use: the first that differs from it in nothing but the shared axes.

    Args:
        cells: All cells.
        shared: Names of the axes along which stages are shared.

    Returns:
        Names of cells by name of cell; its own where a cell is the first itself.
    """
    first: dict[tuple[str, ...], str] = {}
    return {
        cell.name: first.setdefault(
            tuple(label for axis, label in cell.labels.items() if axis not in shared), cell.name
        )
        for cell in cells
    }


def take_stages(source: Path, target: Path) -> None:
    """Copy the finished stages of a run to one that has not begun.

    The ledger of the other run decides by their keys which of them it can use; it makes the rest again.

    Args:
        source: Folder of a finished run.
        target: Folder of the other one.
    """
    if (target / _STAGES).is_dir() or not (source / _STAGES).is_dir():
        return
    incomplete = target / f"{_STAGES}.incomplete"  # a killed copy must not look like finished stages
    shutil.rmtree(incomplete, ignore_errors=True)
    shutil.copytree(source / _STAGES, incomplete)
    incomplete.rename(target / _STAGES)
