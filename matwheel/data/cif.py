"""CIF text to a crystal: a direct reader for the files programs write, pymatgen for all others.

Tables of crystals hold CIFs without symmetry, one line per atom. Those are read here some twenty times as fast as by
pymatgen's parser, which is made for any CIF.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from matwheel.data.checks import BadStructureError, ordered_crystal
from matwheel.data.crystal import Crystal, FloatArray, wrap
from matwheel.data.rows import Reason
from matwheel.data.symbols import ATOMIC_NUMBERS

MAX_IMAGES = 6000  # sites times symmetry operations: pymatgen compares all pairs, here for about 5 s
MAX_LINE = 2048  # characters, the bound of CIF 1.1; pymatgen's tokeniser takes quadratic time
ALL_OPERATIONS = 192  # the largest number a space group has

_LENGTHS = tuple(f"_cell_length_{name}" for name in "abc")
_ANGLES = tuple(f"_cell_angle_{name}" for name in ("alpha", "beta", "gamma"))
_FRACTIONAL = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_SYMOP_TAGS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_NUMBER_TAGS = ("_symmetry_int_tables_number", "_space_group_it_number")
_GROUP_TAGS = (
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_alt",
    "_space_group_name_h-m_full",
    "_symmetry_space_group_name_hall",
    "_space_group_name_hall",
    *_NUMBER_TAGS,
)
_OCCUPANCY = "_atom_site_occupancy"
_LEFT_OUT = (".", "?")  # CIF for "not applicable" and "not known"
_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|\S+""")
_BLOCK = re.compile(r"^\s*data_", re.IGNORECASE | re.MULTILINE)
_SYMBOL = re.compile(r"([A-Z][a-z]?)[\d+-]*")

_Loop = tuple[list[str], list[list[str]]]  # tags, rows


def parse_cif(text: str, id: str) -> Crystal:
    """Read the structure of a CIF; blocks without sites are ignored.

    Raises:
        BadStructureError: If the text is not a CIF, holds several structures, or its structure is empty or disordered.
    """
    if "_atom_site_fract_x" not in text.lower():
        raise BadStructureError(Reason.EMPTY, "the CIF has no sites with fractional coordinates")
    try:
        crystal = _parse_plain(text, id)
    except BadStructureError:
        raise
    except (ValueError, IndexError, KeyError):  # not a plain file after all: the full parser decides
        crystal = None
    return crystal if crystal is not None else _parse_any(text, id)


def _parse_plain(text: str, id: str) -> Crystal | None:
    """Read a CIF of one block without symmetry, one line per ordered site; None for any other."""
    content = _tokenise(text)
    if content is None or not _without_symmetry(*content):
        return None
    values, loops = content
    sites = next((loop for loop in loops if _FRACTIONAL[0] in loop[0]), None)
    if sites is None:  # the tag stands alone, or within a word
        return None
    tags, rows = sites
    if any(len(row) != len(tags) for row in rows):
        return None
    columns = dict(zip(tags, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(tags, ())
    if any(text not in _LEFT_OUT and _number(text) != 1 for text in columns.get(_OCCUPANCY, ())):
        return None
    labels = columns["_atom_site_type_symbol" if "_atom_site_type_symbol" in tags else "_atom_site_label"]
    matches = [_SYMBOL.fullmatch(label) for label in labels]
    numbers = [ATOMIC_NUMBERS[match[1]] for match in matches if match is not None]
    if len(numbers) != len(rows):
        return None
    frac = np.array([[_number(text) for text in columns[tag]] for tag in _FRACTIONAL]).T.reshape(-1, 3)
    lengths, angles = ([_number(values[tag]) for tag in names] for names in (_LENGTHS, _ANGLES))
    return Crystal(id, lattice_from_parameters(lengths, angles), wrap(frac), np.array(numbers, dtype=np.int64))


def _tokenise(text: str) -> tuple[dict[str, str], list[_Loop]] | None:
    """Single values by tag, and loops; None where lines do not follow the plain layout."""
    values: dict[str, str] = {}
    loops: list[_Loop] = []
    lines = [line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#")]
    blocks, position = 0, 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if line == "loop_":
            start = position
            while position < len(lines) and lines[position].startswith("_"):
                position += 1
            tags, start = [tag.lower() for tag in lines[start:position]], position
            while position < len(lines) and not lines[position].startswith(("_", "loop_", "data_")):
                position += 1
            loops.append((tags, [_TOKEN.findall(row) for row in lines[start:position]]))
        elif line.startswith("_"):
            tag, *rest = _TOKEN.findall(line)
            if len(rest) != 1:
                return None
            values[tag.lower()] = rest[0].strip("'\"")
        elif line.startswith("data_"):
            blocks += 1
        else:
            return None
    return (values, loops) if blocks == 1 else None


def _without_symmetry(values: dict[str, str], loops: list[_Loop]) -> bool:
    """Whether every atom of the cell is listed: the identity is the only operation, or the space group is P 1."""
    if any("magn" in tag for tags, _ in loops for tag in tags):
        return False
    for tags, rows in loops:
        if any(tag in _SYMOP_TAGS for tag in tags):
            return len(rows) == 1 and "".join(rows[0]).replace(" ", "").strip("1'\"").lower() == "x,y,z"
    return any(values.get(tag) == "1" for tag in _NUMBER_TAGS)


def _number(text: str) -> float:
    """A CIF number; the uncertainty in `1.234(5)` is dropped."""
    return float(text.partition("(")[0])


def lattice_from_parameters(lengths: list[float], angles: list[float]) -> FloatArray:
    """[3, 3] lattice, rows are vectors: c along z, a in the xz plane (the convention of pymatgen).

    Args:
        lengths: a, b, c in A.
        angles: alpha, beta, gamma in degrees.

    Raises:
        BadStructureError: If no cell has these angles.
    """
    a, b, c = lengths
    radians = np.radians(angles)
    cos_alpha, cos_beta, cos_gamma = np.cos(radians)
    sin_alpha, sin_beta, _ = np.sin(radians)
    flatness = 1 - cos_alpha**2 - cos_beta**2 - cos_gamma**2 + 2 * cos_alpha * cos_beta * cos_gamma
    if not (flatness > 0 and sin_alpha > 0 and sin_beta > 0):
        raise BadStructureError(Reason.CELL, f"no cell has the angles {', '.join(f'{angle:g}' for angle in angles)}")
    cos_gamma_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    sin_gamma_star = np.sqrt(flatness) / (sin_alpha * sin_beta)
    return np.array(
        [
            [a * sin_beta, 0.0, a * cos_beta],
            [-b * sin_alpha * cos_gamma_star, b * sin_alpha * sin_gamma_star, b * cos_alpha],
            [0.0, 0.0, c],
        ]
    )


def _parse_any(text: str, id: str) -> Crystal:
    from pymatgen.io.cif import CifParser

    longest = max(map(len, text.splitlines()), default=0)
    if longest > MAX_LINE:
        raise BadStructureError(Reason.UNREADABLE, f"the CIF has a line of {longest} characters, more than {MAX_LINE}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _refuse_several(text)
            parser = CifParser.from_str(text, check_cif=False)
            blocks = parser.as_dict()
            _refuse_many_images(blocks)
            for block in blocks.values():
                _replace_left_out(block)
            structure = parser.parse_structures(primitive=False)[0]
            if len(parser.symmetry_operations) == 1:  # what pymatgen takes where it finds none
                _refuse_unknown_groups(blocks)
        except BadStructureError:
            raise
        except Exception as error:  # the parser fails in many ways on malformed text: each means unreadable
            disordered = "occupanc" in str(error).lower()
            raise BadStructureError(
                Reason.DISORDERED if disordered else Reason.UNREADABLE, f"not a readable CIF: {error}"
            ) from error
    if structure.site_properties.get("implicit_hydrogens"):
        raise BadStructureError(Reason.UNREADABLE, "hydrogens are implied by a site label but have no coordinates")
    return ordered_crystal(structure, id)


def _refuse_several(text: str) -> None:
    """Of several structures pymatgen gives those it can read, and of blocks with the same name the last."""
    from pymatgen.io.cif import CifBlock

    blocks = [block for block in _BLOCK.split(text) if _FRACTIONAL[0] in block.lower()]
    if len(blocks) < 2:
        return
    # The tag may stand in a comment.
    count = sum(_FRACTIONAL[0] in map(str.lower, CifBlock.from_str(f"data_{block}").data) for block in blocks)
    if count > 1:
        raise BadStructureError(Reason.UNREADABLE, f"the CIF holds {count} structures: give one file per crystal")


def _replace_left_out(block: dict[str, Any]) -> None:
    """What is left out means an occupancy of 1, CIF's default; pymatgen reads it as 0, in coordinates too."""
    occupancies = block.get(_OCCUPANCY, [])
    occupancies[:] = ["1" if text in _LEFT_OUT else text for text in occupancies]
    for tag in _FRACTIONAL:
        for label, text in zip(block.get("_atom_site_label", ()), block.get(tag, ()), strict=False):
            if text in _LEFT_OUT:
                raise BadStructureError(Reason.UNREADABLE, f"site {label} has no coordinate: {tag} is '{text}'")


def _refuse_unknown_groups(blocks: dict[str, dict[str, Any]]) -> None:
    for block in blocks.values():
        by_tag = {tag.lower(): text for tag, text in block.items()}
        if any(tag in by_tag for tag in _SYMOP_TAGS):
            continue
        for tag in _GROUP_TAGS:
            name = str(by_tag.get(tag, "."))
            if name not in _LEFT_OUT and name.replace(" ", "") not in ("P1", "1"):
                raise BadStructureError(
                    Reason.UNREADABLE,
                    f"the CIF does not list the operations of its space group {name!r}, which is not known by this "
                    "name: list the operations, or all atoms in space group P 1",
                )


def _refuse_many_images(blocks: dict[str, dict[str, Any]]) -> None:
    for block in blocks.values():
        listed = next((len(block[tag]) for tag in block if tag.lower() in _SYMOP_TAGS), None)
        trivial = any(block[tag] == "1" for tag in block if tag.lower() in _NUMBER_TAGS)
        operations = listed or (1 if trivial else ALL_OPERATIONS)
        images = operations * len(block.get("_atom_site_label", ()))
        if images > MAX_IMAGES:
            raise BadStructureError(
                Reason.UNREADABLE,
                f"{images} images of sites by symmetry, more than {MAX_IMAGES}: list all atoms in space group P 1",
            )
