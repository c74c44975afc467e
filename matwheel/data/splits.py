"""Division of a table into training, validation and test rows; the labelled part of the training rows.

A split is a small object with settings only (`RandomSplit(seed=3)`); `split` applies it to a table. Published splits
name rows of the original file, by position or by id: rows that were skipped as bad are left out with a warning.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from matwheel.data.compositions import reduced_compositions
from matwheel.data.crystal import CrystalTable, IntArray
from matwheel.data.row_finder import RowFinder, read_json_object
from matwheel.data.rows import LoadedTable
from matwheel.files import write_text_atomically

PARTS = ("train", "val", "test")
LABELLED_PART = "labelled"
PUBLISHED_LABELLED = {0.1: "labelled_10pct"}  # keys of published split files by fraction


@dataclass(frozen=True)
class SplitRows:
    """Rows of a table by part.

    Attributes:
        train: Rows that may be trained on.
        val: Rows for every choice (early stopping, settings).
        test: Rows for the final figure only.
        labelled: The training rows whose labels may be used; all of `train` unless semi-supervised.
    """

    train: IntArray
    val: IntArray
    test: IntArray
    labelled: IntArray

    def __post_init__(self) -> None:
        parts = np.concatenate([self.train, self.val, self.test])
        if len(np.unique(parts)) != len(parts):
            raise ValueError("the split has a row twice: training, validation and test must not overlap")
        if not np.isin(self.labelled, self.train).all():
            raise ValueError("the split labels rows outside its training part")

    def map(self, rows: IntArray, unlabelled: IntArray) -> SplitRows:
        """The same split for a larger table.

        Args:
            rows: Rows of the larger table, of which row `rows[i]` is row i here.
            unlabelled: Its rows that are for training too, without a label.
        """
        train = np.concatenate([rows[self.train], unlabelled])
        return SplitRows(train, rows[self.val], rows[self.test], rows[self.labelled])

    def save(self, path: Path, table: CrystalTable) -> None:
        """Write the ids of each part as JSON; `FileSplit` reads it."""
        parts = {name: table.ids[getattr(self, name)].tolist() for name in (*PARTS, LABELLED_PART)}
        write_text_atomically(path, json.dumps(parts, indent=1))


class Split(ABC):
    """A way to divide a table."""

    @abstractmethod
    def split(self, loaded: LoadedTable, labelled_fraction: float = 1.0) -> SplitRows:
        """Divide the rows of a table.

        Args:
            loaded: The usable rows.
            labelled_fraction: Fraction of the training rows whose labels may be used, in (0, 1].

        Raises:
            ValueError: If the table is too small or the split does not fit the table.
        """


@dataclass(frozen=True)
class RandomSplit(Split):
    """Shuffle by seed, then cut.

    Args:
        train: Fraction of rows for training.
        val: Fraction for validation, 0 for none.
        test: Fraction for the test, 0 for none.
        seed: Seed of the shuffle and of the labelled subset.
    """

    train: float = 0.7
    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        fractions = (self.train, self.val, self.test)
        if not (self.train > 0 and min(fractions) >= 0 and sum(fractions) <= 1 + 1e-9):
            raise ValueError(
                f"fractions {fractions} must not be negative nor exceed 1 in sum, and train must be above 0"
            )

    def split(self, loaded: LoadedTable, labelled_fraction: float = 1.0) -> SplitRows:
        """See `Split.split`."""
        n = len(loaded)
        fractions = (self.train, self.val, self.test)
        wanted = sum(fraction > 0 for fraction in fractions)
        if n < wanted:
            raise ValueError(f"{loaded.name} has {n} usable rows; this split needs at least {wanted}: give more rows")
        order = _random(self.seed).permutation(n)
        n_val, n_test = (max(round(fraction * n), 1) if fraction > 0 else 0 for fraction in (self.val, self.test))
        rest = n - n_val - n_test
        n_train = rest if sum(fractions) > 1 - 1e-9 else min(max(round(self.train * n), 1), rest)
        val, test, train = np.split(order[: n_val + n_test + n_train], [n_val, n_val + n_test])
        return SplitRows(train, val, test, _labelled(train, labelled_fraction, self.seed))


@dataclass(frozen=True)
class GroupSplit(Split):
    """Shuffle groups of crystals by seed, then cut between groups: like crystals are not trained on and tested.

    A part ends with the group that fills it, and has more rows than its fraction by less than that group.

    Args:
        by: What crystals of a group have in common: `formula`, the reduced one (polymorphs stay together), or
            `elements`, the chemical system.
        val: Fraction of rows for validation, 0 for none.
        test: Fraction for the test, 0 for none.
        seed: Seed of the shuffle and of the labelled subset.
    """

    by: Literal["formula", "elements"] = "formula"
    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise ValueError(
                f"fractions val {self.val} and test {self.test} must not be negative and leave some for training"
            )

    def split(self, loaded: LoadedTable, labelled_fraction: float = 1.0) -> SplitRows:
        """See `Split.split`."""
        groups = self._groups(loaded.table)
        order = _random(self.seed).permutation(len(groups))
        shuffled, sizes = [groups[group] for group in order], np.array([len(groups[group]) for group in order])
        before = np.cumsum(sizes) - sizes  # rows of earlier groups
        test_end = self.test * len(loaded)
        val_end = before[before >= test_end].min(initial=len(loaded)) + self.val * len(loaded)
        part = np.where(before < test_end, 0, np.where(before < val_end, 1, 2))
        test, val, train = (
            np.array([row for group in np.flatnonzero(part == which) for row in shuffled[group]], dtype=np.int64)
            for which in range(3)
        )
        if not len(train) or (self.val and not len(val)):
            raise ValueError(
                f"{loaded.name} has {len(groups)} groups of equal {self.by}, the largest of {sizes.max()} of "
                f"{len(loaded)} rows: too few or too large for this split"
            )
        return SplitRows(train, val, test, _labelled(train, labelled_fraction, self.seed))

    def _groups(self, table: CrystalTable) -> list[list[int]]:
        """Rows of each group, in the order of the table."""
        compositions = reduced_compositions(table.atomic_numbers, table.num_atoms)
        groups: dict[object, list[int]] = {}
        for row, composition in enumerate(compositions):
            key = composition if self.by == "formula" else tuple(number for number, _ in composition)
            groups.setdefault(key, []).append(row)
        return list(groups.values())


@dataclass(frozen=True)
class KFold(Split):
    """Cross-validation: test on one fold, train on the others.

    Args:
        n_folds: Number of folds.
        fold: The fold to test on, from 0.
        val: Fraction of the other folds for validation, 0 for none.
        seed: Seed of the folds, of the validation part and of the labelled subset.
    """

    n_folds: int = 5
    fold: int = 0
    val: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_folds < 2 or not 0 <= self.fold < self.n_folds:
            raise ValueError(f"fold {self.fold} of {self.n_folds}: at least 2 folds, counted from 0")
        _check_val(self.val)

    def split(self, loaded: LoadedTable, labelled_fraction: float = 1.0) -> SplitRows:
        """See `Split.split`."""
        needed = max(self.n_folds, 3)
        if len(loaded) < needed:
            raise ValueError(
                f"{loaded.name} has {len(loaded)} usable rows; {self.n_folds} folds need at least {needed}"
            )
        folds = np.array_split(_random(self.seed).permutation(len(loaded)), self.n_folds)
        test = folds.pop(self.fold)
        train, val = _carve(np.concatenate(folds), self.val, self.seed)
        return SplitRows(train, val, test, _labelled(train, labelled_fraction, self.seed))


@dataclass(frozen=True)
class FileSplit(Split):
    """Splits from a JSON file.

    Two layouts are read. One split, which is what a run saves: `{"train": [...], "val": [...], "test": [...],
    "labelled": [...]}` with ids (text) or positions in the source table (whole numbers); all but `train` may be absent.
    Several splits: `{"splits": [{"train": ..., ...}, ...]}`, where `labelled_10pct` may hold the published tenth of the
    training rows. The file's labelled rows are used when `labelled_fraction` is below 1 and asks for as many.

    Args:
        path: The JSON file.
        index: Which of several splits, from 0.
        seed: Seed of the labelled subset where the file has none.
    """

    path: Path
    index: int = 0
    seed: int = 0

    def split(self, loaded: LoadedTable, labelled_fraction: float = 1.0) -> SplitRows:
        """See `Split.split`."""
        content = read_json_object(self.path)
        if "splits" in content:
            splits = content["splits"]
            if not (
                isinstance(splits, list) and 0 <= self.index < len(splits) and isinstance(splits[self.index], dict)
            ):
                raise ValueError(f"{self.path} has no split {self.index}, counted from 0")
            content = splits[self.index]
        elif self.index != 0:
            raise ValueError(f"{self.path} holds one split: its index is 0, not {self.index}")
        for name in content:
            meant = next((part for part in PARTS if name.lower().startswith(part) and part not in content), None)
            if meant is not None:
                raise ValueError(f"{self.path} has '{name}': call it '{meant}'")
        finder = RowFinder(loaded, self.path)
        train, val, test = (finder.rows(content, part, required=part == "train") for part in PARTS)
        labelled = self._labelled_rows(finder, content, train, labelled_fraction)
        finder.warn()
        return SplitRows(train, val, test, labelled)

    def _labelled_rows(self, finder: RowFinder, content: dict[str, Any], train: IntArray, fraction: float) -> IntArray:
        """The labelled rows the file names for this fraction, else a seeded subset."""
        drawn = _labelled(train, fraction, self.seed)
        published = PUBLISHED_LABELLED.get(fraction, "")
        if published in content:
            return finder.rows(content, published, required=True)
        if fraction == 1.0 or LABELLED_PART not in content:
            return drawn
        named = finder.rows(content, LABELLED_PART, required=True)
        if len(named) != len(drawn):
            raise ValueError(
                f"{self.path} labels {len(named)} of {len(train)} training rows, which is not the fraction {fraction}: "
                f"change labelled_fraction or remove '{LABELLED_PART}' from the file"
            )
        return named


@dataclass(frozen=True)
class MatbenchFold(Split):
    """An official Matbench fold (npj Comput. Mater. 6, 138, 2020); its training part is divided by seed.

    Rows are named like `mb-jdft2d-001`, where the number is the position in the Matbench data set, from 1: the table
    must have the order of the Matbench data set.

    Args:
        path: JSON file with `fold_0`, `fold_1`, ..., each with `train` and `test`.
        fold: The fold to test on, from 0.
        val: Fraction of the training part for validation, 0 for none.
        seed: Seed of the validation part and of the labelled subset.
    """

    path: Path
    fold: int = 0
    val: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        _check_val(self.val)

    def split(self, loaded: LoadedTable, labelled_fraction: float = 1.0) -> SplitRows:
        """See `Split.split`."""
        content = read_json_object(self.path)
        name = f"fold_{self.fold}"
        if not isinstance(content.get(name), dict):
            raise ValueError(f"{self.path} has no {name}; it has {', '.join(list(content)[:10]) or 'nothing'}")
        numbered = {part: _matbench_positions(names, self.path) for part, names in content[name].items()}
        finder = RowFinder(loaded, self.path)
        pool, test = finder.rows(numbered, "train", required=True), finder.rows(numbered, "test", required=True)
        finder.warn()
        train, val = _carve(pool, self.val, self.seed)
        return SplitRows(train, val, test, _labelled(train, labelled_fraction, self.seed))


def _matbench_positions(names: object, path: Path) -> list[int]:
    if not isinstance(names, list):
        raise ValueError(f"{path} needs lists of row names in each fold")
    try:
        return [int(str(name).rsplit("-", 1)[1]) - 1 for name in names]
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} names rows otherwise than mb-NAME-001: {error}") from error


def _check_val(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise ValueError(f"val is the fraction of the training part for validation, in [0, 1), not {fraction}")


def _carve(pool: IntArray, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Divide into training and validation by seed."""
    shuffled = _random(seed).permutation(pool)
    n_val = max(round(fraction * len(pool)), 1) if fraction > 0 else 0
    if n_val >= len(pool):
        raise ValueError(f"{len(pool)} rows outside the test part are too few for training and validation")
    return shuffled[n_val:], shuffled[:n_val]


def _labelled(train: IntArray, fraction: float, seed: int) -> IntArray:
    """Seeded subset of the training rows, in their order; subsets of growing fractions contain each other."""
    if not 0 < fraction <= 1:
        raise ValueError(f"labelled_fraction is {fraction}; it must be above 0 and at most 1")
    chosen = _random(seed, of_labels=True).permutation(len(train))[: max(round(fraction * len(train)), 1)]
    return train[np.sort(chosen)]


def _random(seed: int, of_labels: bool = False) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"the seed of a split must be 0 or more, not {seed}")
    return np.random.default_rng([1, seed] if of_labels else seed)
