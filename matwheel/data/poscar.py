"""POSCAR (VASP structure) text to a crystal."""

from __future__ import annotations

import math

import numpy as np

from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import Crystal, FloatArray, wrap
from matwheel.data.rows import Reason
from matwheel.data.symbols import ATOMIC_NUMBERS, atomic_number

FIRST_SPECIES_LINE = 5


def parse_poscar(text: str, id: str) -> Crystal:
    """Read a POSCAR, with the elements on their own line (VASP 5) or else after each coordinate or in the title.

    Raises:
        BadStructureError: If the text does not follow the format.
    """
    try:
        return _parse(poscar_lines(text), id)
    except BadStructureError:
        raise
    except (ValueError, IndexError, OverflowError) as error:
        raise BadStructureError(Reason.UNREADABLE, f"neither a CIF nor a POSCAR: {error}") from error


def poscar_lines(text: str) -> list[str]:
    """The lines of a POSCAR; empty ones in front are dropped unless one of them is its title."""
    lines = text.splitlines()
    while lines and not lines[0].strip() and not has_poscar_cell(lines):
        lines = lines[1:]
    return lines


def has_poscar_cell(lines: list[str]) -> bool:
    """Whether numbers stand where a POSCAR has its scale and its cell."""
    scale, *cell = (_count_numbers(line) for line in lines[1:5]) if len(lines) > FIRST_SPECIES_LINE else (0,)
    return scale > 0 and all(count >= 3 for count in cell)


def _count_numbers(line: str) -> int:
    """Numbers at the start of a line."""
    words = line.split()
    return next((place for place, word in enumerate(words) if not _is_number(word)), len(words))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _parse(lines: list[str], id: str) -> Crystal:
    lattice = np.array([[float(x) for x in line.split()[:3]] for line in lines[2:5]])
    if lattice.shape != (3, 3):
        raise ValueError("lines 3 to 5 of a POSCAR hold three numbers each")
    scale = _scale([float(x) for x in lines[1].split()[:3]], lattice)
    lattice = lattice * scale

    line = FIRST_SPECIES_LINE
    symbols = None
    if not lines[line].split()[0].isdigit():
        symbols = [word.split("_")[0].split("/")[0] for word in lines[line].split()]
        line += 1
    counts = [int(word) for word in lines[line].split("!")[0].split()]
    if not counts or min(counts) < 0 or (symbols is not None and len(symbols) != len(counts)):
        raise ValueError(f"line {line + 1} of a POSCAR holds one count per element")
    line += 1
    label_column = 3
    if lines[line].strip()[:1].lower() == "s":  # selective dynamics: three flags T or F after the coordinates
        label_column = 6
        line += 1
    cartesian = lines[line].strip()[:1].lower() in ("c", "k")
    sites = [row.split() for row in lines[line + 1 : line + 1 + sum(counts)]]
    if len(sites) != sum(counts):
        raise ValueError(f"{sum(counts)} sites announced, {len(sites)} found")
    coords = np.array([[float(x) for x in site[:3]] for site in sites]).reshape(-1, 3)
    frac = np.linalg.solve(lattice.T, (coords * scale).T).T if cartesian else coords
    numbers = _numbers(symbols or _symbols_vasp4(lines[0], sites, counts, label_column), counts)
    return Crystal(id, lattice, wrap(frac), np.array(numbers, dtype=np.int64))


def _scale(factors: list[float], lattice: FloatArray) -> FloatArray:
    """Scaling of the three Cartesian axes; a negative factor stands for the cell volume in A^3."""
    if len(factors) == 1 and factors[0] < 0:
        volume = abs(float(np.linalg.det(lattice)))
        if volume == 0:
            raise BadStructureError(Reason.CELL, "the cell has no volume")
        return np.full(3, (-factors[0] / volume) ** (1 / 3))
    if len(factors) not in (1, 3):
        raise ValueError("line 2 of a POSCAR holds one or three factors")
    return np.broadcast_to(np.array(factors), 3)


def _symbols_vasp4(title: str, sites: list[list[str]], counts: list[int], label_column: int) -> list[str]:
    """Elements of a POSCAR that does not list them: from the labels of the sites, else from the title."""
    labels = [site[label_column] for site in sites if len(site) > label_column]
    if len(labels) == len(sites) and all(label in ATOMIC_NUMBERS for label in labels):
        starts = np.cumsum([0, *counts[:-1]])
        return [labels[start] if count else "" for start, count in zip(starts, counts, strict=True)]
    words = title.split()
    if len(words) < len(counts):
        raise ValueError("the POSCAR does not name its elements")
    return words[: len(counts)]


def _numbers(symbols: list[str], counts: list[int]) -> list[int]:
    # sum(counts) equals the number of lines found: this cannot grow beyond the text
    present = [(atomic_number(symbol), count) for symbol, count in zip(symbols, counts, strict=True) if count]
    return [number for number, count in present for _ in range(count)]
