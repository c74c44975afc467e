"""Extended XYZ files: each frame a crystal, numbers of its comment line properties."""

from __future__ import annotations

import re
import warnings
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import Crystal, wrap
from matwheel.data.records import Records
from matwheel.data.rows import Reason
from matwheel.data.unpacking import read_text

if TYPE_CHECKING:
    from ase import Atoms


RESERVED = frozenset({"Lattice", "Properties", "pbc", "stress", "virial"})
"""Keys under which ASE takes no number: one of such a name is written with a space after it, which is left out here."""
_MATRICES = ("stress", "virial")
_KEY_AND_VALUE = re.compile(r"""([^\s="']+)\s*=\s*("[^"]*"|'[^']*'|\S+)""")


def read_extxyz(path: Path, id_key: str | None = None, id_keys: frozenset[str] = frozenset()) -> Records:
    """Read all frames; a bad frame does not spoil the others.

    Args:
        path: The file.
        id_key: Key of the comment line that names the crystal; by default the first of `id_keys` it has.
        id_keys: Keys (lower case) that are taken as names.

    Raises:
        ValueError: If the file cannot be read, or no frame has the key.
    """
    structures: list[object] = []
    ids: list[str] = []
    infos: list[dict[str, object]] = []
    text = StringIO(read_text(path, errors="replace"), newline=None)
    for frame in _frames([line.removesuffix("\n") for line in text]):  # splitlines knows more ends than those of lines
        info: dict[str, object] = {}
        try:
            if isinstance(frame, BadStructureError):
                raise frame
            crystal, info = _read_frame(frame)
            structures.append(crystal)
        except BadStructureError as error:
            structures.append(error)
        written = _written(frame) if isinstance(frame, str) else {}
        named = id_key or next((key for key in info if key.lower() in id_keys), "")
        value = info.pop(named, "")
        ids.append(written.get(named, str(value)))
        # ASE reads 1_5 as 15.
        infos.append({key: written[key] if "_" in written.get(key, "") else value for key, value in info.items()})
    names = dict.fromkeys(name for info in infos for name in info)
    if id_key and not any(ids) and any(isinstance(structure, Crystal) for structure in structures):
        raise ValueError(f"no frame of {path} is named by '{id_key}'; keys of its frames: {', '.join(names) or 'none'}")
    return Records(structures, ids, {name: [info.get(name) for info in infos] for name in names})


def crystal_from_atoms(atoms: Atoms, id: str = "") -> Crystal:
    """Convert an ASE structure.

    Raises:
        BadStructureError: If it has no cell.
    """
    lattice = np.array(atoms.cell.array, dtype=np.float64)
    if not np.linalg.det(lattice):
        raise BadStructureError(Reason.CELL, 'no lattice (in a file, Lattice="..."), or one without volume')
    frac = wrap(np.array(atoms.get_scaled_positions(wrap=False), dtype=np.float64))
    return Crystal(id, lattice, frac, atoms.numbers.astype(np.int64))


def _written(frame: str) -> dict[str, str]:
    """Values of the comment line as they stand there: ASE reads the id 0012 as the number 12."""
    return {key: value.strip("\"'") for key, value in _KEY_AND_VALUE.findall(frame.split("\n")[1])}


def _frames(lines: list[str]) -> list[str | BadStructureError]:
    """Cut a file into frames; where a count of atoms is unreadable the rest of the file is one bad frame."""
    frames: list[str | BadStructureError] = []
    position = 0
    while position < len(lines):
        count = lines[position].strip()
        if not count:
            position += 1
            continue
        if not (count.isascii() and count.isdigit() and len(count) < 10):
            where = f"line {position + 1} should be the number of atoms of a frame; the rest of the file is not read"
            frames.append(BadStructureError(Reason.UNREADABLE, where))
            break
        end = position + 2 + int(count)
        if end > len(lines):
            frames.append(BadStructureError(Reason.UNREADABLE, f"the frame at line {position + 1} is cut off"))
            break
        frames.append("\n".join(lines[position:end]) + "\n")
        position = end
    return frames


def _read_frame(frame: str) -> tuple[Crystal, dict[str, object]]:
    from ase.io.extxyz import read_xyz

    if frame.startswith("0\n"):
        raise BadStructureError(Reason.EMPTY, "the frame has no atoms")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            atoms = next(read_xyz(StringIO(frame), index=slice(0, 1), properties_parser=_properties))
            crystal = crystal_from_atoms(atoms)
            results = atoms.calc.results if atoms.calc is not None else {}
        except BadStructureError:
            raise
        except Exception as error:  # the reader fails in many ways on malformed text: each means unreadable
            raise BadStructureError(Reason.UNREADABLE, f"not a readable frame: {error!r}") from error
    # ASE makes an array even of a single number where it knows a vector, as for the dipole.
    scalars = {
        key.strip(): value.item() if isinstance(value, np.ndarray) else value
        for key, value in {**results, **atoms.info}.items()
        if np.ndim(value) == 0
    }
    return crystal, scalars


def _properties(line: str) -> dict[str, object]:
    """What a comment line says, also where it has a number under a name that is a matrix for ASE."""
    from ase.io.extxyz import key_val_str_to_dict

    try:
        properties: dict[str, object] = key_val_str_to_dict(line)
    except ValueError:
        properties = key_val_str_to_dict(_KEY_AND_VALUE.sub(_with_space, line))
    return properties


def _with_space(found: re.Match[str]) -> str:
    """A key and its value, the key as `RESERVED` says where ASE would refuse the single value."""
    key, value = found.groups()
    is_refused = key in _MATRICES and value[0] not in "[{" and len(value.split()) == 1
    return f'"{key} "={value}' if is_refused else found[0]
