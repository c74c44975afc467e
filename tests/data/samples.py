"""Small structures as texts, for the tests of readers."""

import json
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.rows import LoadedTable, RowReport

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CAESIUM_CHLORIDE = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
SKEWED = Structure(
    Lattice.from_parameters(4.1, 5.2, 6.3, 81, 95, 108),
    ["Ga", "As", "O"],
    [[0.1, 0.2, 0.3], [0.6, 0.55, 0.8], [0.9, 0, 0.5]],
)
DISORDERED = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])


def cif(structure: Structure) -> str:
    return structure.to(fmt="cif")


def poscar(structure: Structure) -> str:
    return structure.to(fmt="poscar")


def as_json(structure: Structure) -> str:
    return json.dumps(structure.as_dict())


def large_cell(repeats: int) -> Structure:
    return CAESIUM_CHLORIDE * (repeats, repeats, repeats)


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    import csv

    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def numbered_table(n: int, source_rows: list[int] | None = None, total: int | None = None) -> LoadedTable:
    """n copies of one crystal with the ids of their source rows."""
    rows = list(range(n)) if source_rows is None else source_rows
    one = Crystal.from_structure(CAESIUM_CHLORIDE, "", {"y": 1.0})
    crystals = [
        Crystal(f"id-{row}", one.lattice, one.frac_coords, one.atomic_numbers, {"y": float(row)}) for row in rows
    ]
    return LoadedTable(
        name="sample",
        table=CrystalTable.from_crystals(crystals),
        source_rows=np.array(rows, dtype=np.int64),
        report=RowReport("sample", total if total is not None else n),
    )
