"""The grid of a study: axes of named settings, whose product is run."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from matwheel.flywheel.results import COLUMNS

Option = None | bool | int | float | str | list["Option"] | dict[str, "Option"]

_LABEL = re.compile(r"[\w.+-]+")
_AXIS = re.compile(r"\w+")
_MEASURED = frozenset(COLUMNS) - {"dataset", "scenario", "split", "seed"}
"""Columns of results that no axis can stand for: rows of one run differ in them."""


@dataclass(frozen=True)
class Settings:
    """Part of a command line.

    Attributes:
        configs: Config files, the later ones winning.
        options: Options by name, such as `data.split.index`, in the order in which they are given.
    """

    configs: tuple[Path, ...] = ()
    options: tuple[tuple[str, Option], ...] = ()

    def __add__(self, other: Settings) -> Settings:
        """These and then others; of a config that both have only the later mention counts."""
        earlier = (path for path in self.configs if path not in other.configs)
        return Settings((*earlier, *other.configs), (*self.options, *other.options))


Grid = Mapping[str, Mapping[str, Settings]]
"""Settings by axis and label."""


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        labels: What was taken from each axis.
        settings: Its command line.
    """

    labels: Mapping[str, str]
    settings: Settings

    @property
    def name(self) -> str:
        """Name of the cell, also of its folder."""
        return ",".join(f"{axis}={label}" for axis, label in self.labels.items())

    def arguments(self) -> list[str]:
        """Arguments of `python -m matwheel.fit fit`."""
        configs = (("-c", str(path)) for path in self.settings.configs)
        options = ((f"--{name}", _text(value)) for name, value in self.settings.options)
        return [part for pair in (*configs, *options) for part in pair]


def expand(base: Settings, grid: Grid) -> list[Cell]:
    """The product of all axes, the last axis changing fastest.

    Args:
        base: Settings of all cells, to which those of the axes are added.
        grid: The axes.

    Raises:
        ValueError: If an axis is empty, a name cannot be used, two axes set the same option, or a cell has
            no config.
    """
    if not grid:
        raise ValueError("the grid has no axis: give at least one, such as `seed: {seed_everything: [0, 1, 2]}`")
    for axis, values in grid.items():
        _check_axis(axis, values)
    _check_options(grid)
    cells = []
    for labels in itertools.product(*grid.values()):
        chosen = dict(zip(grid, labels, strict=True))
        cell = Cell(chosen, reduce(Settings.__add__, (grid[axis][label] for axis, label in chosen.items()), base))
        if not cell.settings.configs:
            raise ValueError(f"{cell.name} has no config: give one to the study or to each value of an axis")
        cells.append(cell)
    return cells


def _check_axis(axis: str, values: Mapping[str, Settings]) -> None:
    if not _AXIS.fullmatch(axis):
        raise ValueError(f"{axis!r} cannot be the name of an axis: use letters, digits and _")
    if axis in _MEASURED:
        raise ValueError(f"{axis} is a column of the results: give the axis another name")
    if not values:
        raise ValueError(f"the axis {axis} has no value: give one or remove the axis")
    for label in values:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{label!r} cannot name a value of the axis {axis}: use letters, digits and . _ + -")


def _check_options(grid: Grid) -> None:
    """Which of two axes wins should not depend on their order."""
    names = {axis: {name for one in values.values() for name, _ in one.options} for axis, values in grid.items()}
    for (one, options), (other, others) in itertools.combinations(names.items(), 2):
        if common := sorted(options & others):
            raise ValueError(f"the axes {one} and {other} both set {', '.join(common)}: leave it to one of them")


def _text(value: Option) -> str:
    """An option as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)
