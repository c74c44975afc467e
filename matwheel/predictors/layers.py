"""Features of the layer of a two-dimensional crystal: its shape, its surfaces, and what would bind it to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from matwheel.data.crystal import Crystal, CrystalTable, FloatArray
from matwheel.predictors.atoms import ElementNumbers, element_numbers
from matwheel.predictors.features import Features

_SURFACE = 0.5
"""A, thickness of a surface."""
_CONTACT = 0.9
"""Layers are closer than the sum of van der Waals radii of their outermost atoms by this factor."""
_OF_SURFACES = (
    "electronegativity",
    "polarisability",
    "van_der_waals_radius",
    "covalent_radius",
    "valence_electrons",
    "column",
)
_NAMES = (
    "thickness (A)",
    "empty slab (A)",
    "area per atom (A^2)",
    "layer volume per atom (A^3)",
    *(f"{which} {name}" for name in _OF_SURFACES for which in ("surface", "lower surface")),
    "surface atoms per area (A^-2)",
    "surface polarisability per area (A)",
    "polarisability per area (A)",
    "distance of layers (A)",
    "London energy per area (eV/A^2)",
    "London energy per atom (eV)",
    "ln of London energy per atom",
)


class Layer(Features):
    """The layer of a two-dimensional crystal: what is left of the cell without its largest empty slab; 23 numbers.

    The slab is looked for between the planes of atoms along each of the three reciprocal vectors. Bulk crystals have a
    largest slab as well, a thin one. Of the two surfaces the mean and the lower value is given. The London energy binds
    the layer to a copy of itself at the distance at which the van der Waals radii of their outermost atoms touch
    (times 0.9): pairs of atoms with C6 = 3/2 a_i a_j I_i I_j / (I_i + I_j), a the polarisability and I the ionisation
    energy (London, Trans. Faraday Soc. 33, 8, 1937), averaged over all lateral positions of the copy, which makes
    pi C6 / (2 A d^4) of two atoms in planes at a distance d, per area A.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return _NAMES

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        elements = element_numbers()
        rows = [_layer(crystal, elements) for crystal in table]
        return np.array(rows, dtype=np.float64).reshape(len(table), len(_NAMES))


@dataclass(frozen=True)
class Slab:
    """Where the atoms of a layer are.

    Attributes:
        normal: [3], unit vector.
        axis: Lattice vector that leaves the layer; the other two span it.
        gap: A, the largest distance between planes of atoms along the normal.
        thickness: A, of what is not the gap.
        area: A^2, of the cell in the layer.
        height: [n], A, of each atom above the lowest.
    """

    normal: FloatArray
    axis: int
    gap: float
    thickness: float
    area: float
    height: FloatArray


def find_slab(crystal: Crystal) -> Slab:
    """Cut a crystal at its largest gap along one of the three reciprocal vectors."""
    reciprocal = np.linalg.inv(crystal.lattice)
    spacings = 1 / np.linalg.norm(reciprocal, axis=0)
    ordered = np.sort(crystal.frac_coords, axis=0)
    gaps = np.diff(ordered, axis=0, append=ordered[:1] + 1)
    axis = int((gaps.max(axis=0) * spacings).argmax())
    spacing, last = spacings[axis], int(gaps[:, axis].argmax())
    gap = gaps[last, axis] * spacing
    lowest = ordered[(last + 1) % crystal.num_atoms, axis]
    height = (crystal.frac_coords[:, axis] - lowest) % 1.0 * spacing
    height = np.where(height > spacing - gap / 2, 0.0, height)  # the lowest atom itself, rounded
    return Slab(reciprocal[:, axis] * spacing, axis, gap, spacing - gap, crystal.volume / spacing, height)


def _layer(crystal: Crystal, elements: ElementNumbers) -> list[float]:
    """In the order of `_NAMES`."""
    numbers, count, slab = crystal.atomic_numbers, crystal.num_atoms, find_slab(crystal)
    above, below, area = slab.height, slab.height.max() - slab.height, slab.area
    top, bottom = below < _SURFACE, above < _SURFACE
    surface = top | bottom

    of_surfaces: list[float] = []
    for name in _OF_SURFACES:
        values = getattr(elements, name)[numbers]
        of_surfaces += [values[surface].mean(), min(values[top].mean(), values[bottom].mean())]

    polarisability, ionisation = elements.polarisability[numbers], elements.ionisation_energy[numbers]
    reach = elements.van_der_waals_radius[numbers]
    touching = max((reach - below).max(), 0.0) + max((reach - above).max(), 0.0)
    distance = below[:, None] + above[None] + _CONTACT * touching
    c6 = 1.5 * np.outer(polarisability, polarisability)
    c6 *= np.outer(ionisation, ionisation) / np.add.outer(ionisation, ionisation)
    london = float((np.pi / 2 * c6 / distance**4).sum() / area)
    return [
        slab.thickness,
        slab.gap,
        area / count,
        slab.thickness * area / count,
        *of_surfaces,
        surface.sum() / 2 / area,
        polarisability[surface].sum() / 2 / area,
        polarisability.sum() / area,
        touching,
        london / area,
        london / count,
        math.log(london / count),
    ]
