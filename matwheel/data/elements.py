"""One-hot features of the elements, derived from tabulated element data (no table of numbers is kept here)."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from ase.data import covalent_radii
from pymatgen.core import Element
from torch import Tensor

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, FloatArray

NUM_FEATURES = 92
"""Length of `element_features`: the sum of the block sizes below."""


@cache
def _features() -> Tensor:
    rows = [
        np.concatenate(
            [
                # Slot 0 stands for "no group": lanthanides and actinides.
                _one_hot(_group(element), 19),
                _one_hot(element.row - 1, 7),
                _binned(_number(element, "X"), 0.5, 4.0, 10),
                _binned(_covalent_radius(element), 25.0, 250.0, 10),
                _one_hot(_valence_electrons(element) - 1, 12),
                _binned(_log(element.ionization_energies[0]), 1.3, 3.3, 10),
                _binned(_number(element, "Electron affinity"), -3.0, 3.7, 10),
                _one_hot("spdf".index(element.block), 4),
                _binned(_log(_number(element, "Molar volume")), 1.5, 4.3, 10),
            ]
        )
        for element in (Element.from_Z(z) for z in range(1, MAX_ATOMIC_NUMBER + 1))
    ]
    return torch.from_numpy(np.stack(rows)).float()


def element_features() -> Tensor:
    """The atom features of CGCNN: 92 one-hot columns for each element from H to Fm.

    Blocks and ranges follow the supplement of Xie & Grossman, PRL 120, 145301 (2018), and the feature file published
    with it: group (19, the first for lanthanides and actinides), period (7), Pauling electronegativity (10 bins, 0.5 to
    4.0), covalent radius (10 bins, 25 to 250 pm), valence electrons (12), first ionisation energy (10 bins of
    ln(E / eV), 1.3 to 3.3), electron affinity (10 bins, -3 to 3.7 eV), block (4) and atomic volume (10 bins of
    ln(V / cm3 mol-1), 1.5 to 4.3). Values come from pymatgen's element data, covalent radii from ASE (Cordero et al.
    2008). A value outside the range falls into the nearest bin; where a value is unknown (electronegativity of He,
    covalent radius above Cm, molar volume above Es, ...) all columns of its block are zero.

    Returns:
        [100, 92] float32 of zeros and ones; row a belongs to atomic number a + 1.
    """
    return _features().clone()


@cache
def electronegativities() -> Tensor:
    """[100], Pauling electronegativity of each element from H to Fm; 4 for the noble gases that have none."""
    values = [_number(Element.from_Z(z), "X") for z in range(1, MAX_ATOMIC_NUMBER + 1)]
    return torch.tensor(values).nan_to_num(4.0)


def _one_hot(index: int, size: int) -> FloatArray:
    row = np.zeros(size)
    row[index] = 1.0
    return row


def _binned(value: float, low: float, high: float, size: int) -> FloatArray:
    if np.isnan(value):
        return np.zeros(size)
    return _one_hot(int(np.clip((value - low) / (high - low) * size, 0, size - 1)), size)


def _number(element: Element, name: str) -> float:
    """A tabulated value such as 2.2 or "11.42 cm^3 mol^-1"; NaN where the table has none."""
    text = str(element.data.get(name)).split(" ")[0]
    try:
        return float(text)
    except ValueError:  # None, "no", "no data"
        return float("nan")


def _log(value: float | None) -> float:
    return float("nan") if value is None else float(np.log(value))


def _covalent_radius(element: Element) -> float:
    """Cordero radius in pm; the table ends at Cm, what ASE lists beyond is a placeholder."""
    return 100 * float(covalent_radii[element.Z]) if element.Z <= 96 else float("nan")


def _group(element: Element) -> int:
    return 0 if element.block == "f" else element.group


def _valence_electrons(element: Element) -> int:
    """Electrons in the s and p shells of the period, with the d shell below them where it is being filled."""
    open_shells = {(element.row, "s"), (element.row, "p")}
    if element.block == "d":
        open_shells.add((element.row - 1, "d"))
    return sum(count for n, shell, count in element.full_electronic_structure if (n, shell) in open_shells)
