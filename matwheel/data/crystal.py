"""Crystals as plain arrays: one structure (`Crystal`) and many of them in columns (`CrystalTable`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matwheel.data.unpacking import check_archive

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

REAL = "real"
MAX_ATOMIC_NUMBER = 100


@dataclass(frozen=True)
class Crystal:
    """One crystal structure.

    Attributes:
        id: Name that is unique within a table.
        lattice: [3, 3], A; the rows are the lattice vectors.
        frac_coords: [n, 3], fractional coordinates in [0, 1).
        atomic_numbers: [n], 1 to 100.
        properties: Numeric properties by name, in the user's units; a missing one is absent or NaN.
        origin: `"real"`, or for a synthetic crystal a JSON object with all that is needed to generate it again
            (generator checkpoint hash, seed, sample index, condition values, round).
    """

    id: str
    lattice: FloatArray
    frac_coords: FloatArray
    atomic_numbers: IntArray
    properties: Mapping[str, float] = field(default_factory=dict)
    origin: str = REAL

    @property
    def num_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.atomic_numbers)

    @property
    def volume(self) -> float:
        """Cell volume in A^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @classmethod
    def from_structure(
        cls, structure: Structure, id: str, properties: Mapping[str, float] | None = None, origin: str = REAL
    ) -> Crystal:
        """Convert an ordered pymatgen structure.

        Raises:
            ValueError: If a site is disordered or holds something that is not an element.
        """
        if not structure.is_ordered:
            raise ValueError("disordered: a site has partial occupancy; give an ordered cell")
        numbers = [getattr(site.specie, "Z", 0) for site in structure]
        if not all(1 <= z <= MAX_ATOMIC_NUMBER for z in numbers):
            raise ValueError(f"a site holds no element from H to Fm: {structure.composition}")
        return cls(
            id=id,
            lattice=np.array(structure.lattice.matrix, dtype=np.float64),
            frac_coords=wrap(np.array(structure.frac_coords, dtype=np.float64).reshape(-1, 3)),
            atomic_numbers=np.array(numbers, dtype=np.int64),
            properties=dict(properties or {}),
            origin=origin,
        )

    def to_structure(self) -> Structure:
        """Convert to a pymatgen structure."""
        from pymatgen.core import Lattice, Structure

        return Structure(Lattice(self.lattice), self.atomic_numbers.tolist(), self.frac_coords)


@dataclass(eq=False)  # not frozen: Lightning moves predictions between devices field by field
class CrystalTable:
    """Crystals in columns: what is stored on disk and what graphs are built from. Treat it as immutable.

    Attributes:
        ids: [n], unique names.
        num_atoms: [n], atoms per crystal.
        lattices: [n, 3, 3], A, rows are lattice vectors.
        frac_coords: [sum(num_atoms), 3], in [0, 1).
        atomic_numbers: [sum(num_atoms)].
        properties: Columns of [n] floats in the user's units, NaN where missing.
        origins: [n], see `Crystal.origin`.
    """

    ids: NDArray[np.str_]
    num_atoms: IntArray
    lattices: FloatArray
    frac_coords: FloatArray
    atomic_numbers: IntArray
    properties: dict[str, FloatArray]
    origins: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets(self) -> IntArray:
        """[n + 1], where each crystal's atoms begin."""
        return np.concatenate([[0], np.cumsum(self.num_atoms)])

    def __getitem__(self, row: int) -> Crystal:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a table of {len(self)} crystals")
        row %= len(self)
        stop = int(self.num_atoms[: row + 1].sum())
        atoms = slice(stop - int(self.num_atoms[row]), stop)
        return self._row(row, atoms)

    def __iter__(self) -> Iterator[Crystal]:
        offsets = self.offsets
        for row in range(len(self)):
            yield self._row(row, slice(int(offsets[row]), int(offsets[row + 1])))

    def _row(self, row: int, atoms: slice) -> Crystal:
        return Crystal(
            id=str(self.ids[row]),
            lattice=self.lattices[row],
            frac_coords=self.frac_coords[atoms],
            atomic_numbers=self.atomic_numbers[atoms],
            properties={name: float(column[row]) for name, column in self.properties.items()},
            origin=str(self.origins[row]),
        )

    @classmethod
    def from_crystals(cls, crystals: Iterable[Crystal]) -> CrystalTable:
        """Stack crystals; a property that only some have is NaN for the others."""
        rows = list(crystals)
        names = list(dict.fromkeys(name for row in rows for name in row.properties))
        return cls(
            ids=np.array([row.id for row in rows], dtype=np.str_),
            num_atoms=np.array([row.num_atoms for row in rows], dtype=np.int64),
            lattices=np.array([row.lattice for row in rows], dtype=np.float64).reshape(-1, 3, 3),
            frac_coords=np.concatenate([np.zeros((0, 3)), *(row.frac_coords for row in rows)]),
            atomic_numbers=np.concatenate([np.zeros(0, np.int64), *(row.atomic_numbers for row in rows)]),
            properties={
                name: np.array([row.properties.get(name, np.nan) for row in rows], dtype=np.float64) for name in names
            },
            origins=np.array([row.origin for row in rows], dtype=np.str_),
        )

    @classmethod
    def concatenate(cls, tables: Sequence[CrystalTable]) -> CrystalTable:
        """Put tables below each other; a property that only some have is NaN for the others."""
        names = list(dict.fromkeys(name for table in tables for name in table.properties))
        return cls(
            ids=np.concatenate([table.ids for table in tables]),
            num_atoms=np.concatenate([table.num_atoms for table in tables]),
            lattices=np.concatenate([table.lattices for table in tables]),
            frac_coords=np.concatenate([table.frac_coords for table in tables]),
            atomic_numbers=np.concatenate([table.atomic_numbers for table in tables]),
            properties={
                name: np.concatenate([table.properties.get(name, np.full(len(table), np.nan)) for table in tables])
                for name in names
            },
            origins=np.concatenate([table.origins for table in tables]),
        )

    def take(self, rows: Sequence[int] | IntArray) -> CrystalTable:
        """Rows by position, in the order given; repeats are allowed."""
        rows = np.asarray(rows, dtype=np.int64)
        atoms = ragged_arange(self.offsets[rows], self.num_atoms[rows])
        return CrystalTable(
            ids=self.ids[rows],
            num_atoms=self.num_atoms[rows],
            lattices=self.lattices[rows],
            frac_coords=self.frac_coords[atoms],
            atomic_numbers=self.atomic_numbers[atoms],
            properties={name: column[rows] for name, column in self.properties.items()},
            origins=self.origins[rows],
        )

    def with_properties(self, **columns: FloatArray) -> CrystalTable:
        """The same crystals with property columns added or replaced."""
        return CrystalTable(**{**self.__dict__, "properties": {**self.properties, **columns}})

    def save(self, path: Path) -> None:
        """Write one compressed `.npz` of plain arrays (no pickle)."""
        arrays: dict[str, Any] = {name: value for name, value in self.__dict__.items() if name != "properties"}
        names = list(self.properties)
        columns = np.stack([self.properties[n] for n in names]) if names else np.zeros((0, len(self)))
        with Path(path).open("wb") as file:
            np.savez_compressed(file, property_names=np.array(names, dtype=np.str_), properties=columns, **arrays)

    @classmethod
    def load(cls, path: Path) -> CrystalTable:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            ValueError: If there is no such file, or it is damaged or holds anything else.
        """
        try:
            check_archive(path)
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            names = [str(name) for name in arrays.pop("property_names")]
            table = cls(**{**arrays, "properties": dict(zip(names, arrays["properties"], strict=True))})
            if not int(table.num_atoms.sum()) == len(table.frac_coords) == len(table.atomic_numbers):
                raise ValueError("its numbers of atoms do not add up")
            return table
        except Exception as error:  # damaged files fail in many ways: each means unreadable
            raise ValueError(
                f"{path} is not a table of crystals that can be read: {error}. Delete the folder {path.parent} "
                "and run the same command again: it is then made again"
            ) from error

    def fingerprint(self) -> str:
        """Hash of the structures and ids (not of the properties): the identity of their graphs."""
        digest = hashlib.sha256()
        for array in (self.num_atoms, self.lattices, self.frac_coords, self.atomic_numbers):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(json.dumps(self.ids.tolist()).encode())
        return digest.hexdigest()


def wrap(frac_coords: FloatArray) -> FloatArray:
    """Fractional coordinates moved into [0, 1)."""
    wrapped = frac_coords % 1.0
    return np.where(wrapped >= 1.0, 0.0, wrapped)  # -1e-17 % 1.0 is exactly 1.0


def ragged_arange(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenation of `arange(start, start + length)` for each pair."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    items: IntArray = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return items
