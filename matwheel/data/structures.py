"""One structure cell of a table to a crystal: CIF text, POSCAR text, or a dictionary.

Nothing here executes what it reads: dictionaries are taken apart by hand, since pymatgen's own decoder imports whatever
module the text names.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymatgen.core import Structure

from matwheel.data.checks import BadStructureError, check_atoms, check_crystal, ordered_crystal
from matwheel.data.cif import lattice_from_parameters, parse_cif
from matwheel.data.crystal import Crystal, FloatArray, wrap
from matwheel.data.poscar import has_poscar_cell, parse_poscar, poscar_lines
from matwheel.data.rows import Reason
from matwheel.data.symbols import atomic_number

MAX_TEXT = 2_000_000  # characters of one structure; 2,000 atoms in a CIF take 0.15 million
FULL_OCCUPANCY = 1 - 1e-6


def parse_structure(cell: object, id: str) -> Crystal:
    """Read a structure and check it.

    Args:
        cell: CIF or POSCAR text, a pymatgen dictionary (`Structure.as_dict`) or its text, a dictionary with
            `lattice` (3x3, A), `species` and `frac_coords`, a pymatgen structure, or a `Crystal`.
        id: Name of the crystal.

    Raises:
        BadStructureError: If it cannot be read or used, see `matwheel.data.checks.check_crystal`.
    """
    with np.errstate(all="ignore"):  # numbers that overflow are found by the check
        crystal = _parse(cell, id)
        check_crystal(crystal)
    return crystal


def parse_any_structure(cell: object, id: str) -> Crystal:
    """Read a structure as generators make them: neither the cell nor distances between atoms are checked.

    Args:
        cell: See `parse_structure`.
        id: Name of the crystal.

    Raises:
        BadStructureError: If it cannot be read, has no atoms, or holds something that is not an element from H to Fm.
    """
    with np.errstate(all="ignore"):
        crystal = _parse(cell, id)
        check_atoms(crystal)
    return crystal


def looks_like_structure(cell: object) -> bool:
    """Whether a table's cell holds a structure, judged by its beginnings."""
    if isinstance(cell, Mapping):
        return "lattice" in cell
    if not isinstance(cell, str):
        return False
    lowered = cell[:MAX_TEXT].lower()
    if "_cell_length_a" in lowered or ("lattice" in lowered and lowered.lstrip().startswith("{")):
        return True
    lines = poscar_lines(cell)
    return len(lines) > 7 and has_poscar_cell(lines)


def _parse(cell: object, id: str) -> Crystal:
    if isinstance(cell, Crystal):
        return cell
    if isinstance(cell, Structure):
        return ordered_crystal(cell, id)
    if isinstance(cell, Mapping):
        return _from_mapping(cell, id)
    if not isinstance(cell, str) or not cell.strip():
        if cell is None or isinstance(cell, str) or cell != cell:  # NaN, the missing value of data frames
            raise BadStructureError(Reason.EMPTY, "the structure cell is empty")
        raise BadStructureError(Reason.UNREADABLE, f"a structure cannot be a {type(cell).__name__}")
    if len(cell) > MAX_TEXT:
        raise BadStructureError(Reason.UNREADABLE, f"{len(cell)} characters in one structure, more than {MAX_TEXT}")
    if cell.lstrip().startswith("{"):
        return _from_mapping(_decode(cell), id)
    lowered = cell.lower()
    if "_cell_length_a" in lowered or "_atom_site_" in lowered:
        return parse_cif(cell, id)
    return parse_poscar(cell, id)


def _decode(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise BadStructureError(Reason.UNREADABLE, "the text is nested too deeply") from error
    except ValueError:
        try:
            content = ast.literal_eval(text)  # what pandas writes for a column of dictionaries: single quotes
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise BadStructureError(Reason.UNREADABLE, f"neither JSON nor a dictionary: {error}") from error
    if not isinstance(content, Mapping):
        raise BadStructureError(Reason.UNREADABLE, "the text is not a dictionary")
    return content


def _from_mapping(content: Mapping[str, Any], id: str) -> Crystal:
    try:
        lattice = _lattice(content["lattice"])
        if "sites" in content:
            numbers = [_site_number(site) for site in content["sites"]]
            frac = [_site_coords(site, lattice) for site in content["sites"]]
        else:
            numbers = [atomic_number(symbol) for symbol in content["species"]]
            frac = list(content["frac_coords"])
        coords = np.array(frac, dtype=np.float64).reshape(len(numbers), 3)
    except BadStructureError:
        raise
    except KeyError as error:
        raise BadStructureError(Reason.UNREADABLE, f"the structure has no {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError, np.linalg.LinAlgError) as error:
        raise BadStructureError(Reason.UNREADABLE, f"not a structure: {error}") from error
    return Crystal(id, lattice, wrap(coords), np.array(numbers, dtype=np.int64))


def _lattice(content: Any) -> FloatArray:
    if not isinstance(content, Mapping):
        return np.array([list(row) for row in content], dtype=np.float64).reshape(3, 3)
    if content.get("matrix") is not None:
        return _lattice(content["matrix"])
    lengths, angles = (
        [float(content[name]) for name in names] for names in (("a", "b", "c"), ("alpha", "beta", "gamma"))
    )
    return lattice_from_parameters(lengths, angles)


def _site_number(site: Mapping[str, Any]) -> int:
    species: Sequence[Mapping[str, Any]] = site["species"]
    if len(species) != 1 or float(species[0].get("occu", 1)) < FULL_OCCUPANCY:
        raise BadStructureError(Reason.DISORDERED, "a site has partial occupancy; give an ordered cell")
    return atomic_number(species[0]["element"])


def _site_coords(site: Mapping[str, Any], lattice: FloatArray) -> Sequence[float]:
    if site.get("abc") is not None:
        return list(site["abc"])
    coords: list[float] = np.linalg.solve(lattice.T, np.array(site["xyz"], dtype=np.float64)).tolist()
    return coords
