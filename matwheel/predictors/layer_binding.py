"""What binds a layer to the next one, by a pretrained potential: a small simulation as a feature."""

from __future__ import annotations

from typing import Literal

import numpy as np

from matwheel.data.crystal import Crystal, FloatArray, wrap
from matwheel.metrics.potential import CHGNet
from matwheel.predictors.layers import Slab, find_slab
from matwheel.predictors.stored_features import StoredFeatures

GAPS = (1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 4.0)
"""A, between the outermost atoms of two layers."""
_APART = 9.0
"""A, further than the potential sees."""
_REGISTRIES = ((0.0, 0.0), (0.5, 0.5), (1 / 3, 2 / 3))
"""Lateral shifts from a layer to the next, in lattice vectors."""
_AT_ONCE = 8
_WEAKEST = 1e-3
"""eV per atom, so that bindings have a logarithm."""


class LayerBinding(StoredFeatures):
    """How strongly CHGNet binds a layer to copies of itself; 20 numbers.

    Layers are stacked at seven distances in three registries and their energies per atom compared with that of the
    layer alone. Exfoliation energies are such differences, of the real stacking with relaxed atoms by a functional that
    knows dispersion. CHGNet learned from PBE, which hardly does: it sees covalent and ionic bonds between layers, and
    `Layer` has an estimate of the rest. Needs the optional dependencies: `pip install "matwheel[potentials]"`.

    Args:
        version: Which weights, see `CHGNet`.
    """

    packages = ("chgnet", "pymatgen")

    def __init__(self, version: Literal["0.3.0", "0.2.0", "r2scan"] = "0.3.0") -> None:
        CHGNet(version)  # says early when the package is missing
        self.version = version

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return (
            *(f"energy at {gap} A (eV)" for gap in GAPS),
            *(f"ln of binding at {gap} A" for gap in GAPS),
            "lowest energy (eV)",
            "lowest energy per area (eV/A^2)",
            "ln of binding",
            "lowest energy of layers on top of each other (eV)",
            "gap of the lowest energy (A)",
            "spread over registries (eV)",
        )

    def compute_one(self, crystal: Crystal) -> FloatArray:
        """See `StoredFeatures`."""
        slab = find_slab(crystal)
        stacked = [_stack(crystal, slab, gap, shift) for shift in _REGISTRIES for gap in GAPS]
        energies = self._energies([*stacked, _stack(crystal, slab, _APART, (0.0, 0.0))])
        binding = (energies[:-1] - energies[-1]).reshape(len(_REGISTRIES), len(GAPS)) / crystal.num_atoms
        curve = binding.min(axis=0)
        lowest = curve.min()
        return np.array(
            [
                *curve,
                *np.log(np.maximum(-curve, _WEAKEST)),
                lowest,
                lowest * crystal.num_atoms / slab.area,
                np.log(max(-lowest, _WEAKEST)),
                binding[0].min(),
                GAPS[int(curve.argmin())],
                binding.min(axis=1).std(),
            ]
        )

    def _energies(self, crystals: list[Crystal]) -> FloatArray:
        """eV, of each cell.

        Raises:
            ValueError: If one has none.
        """
        potential = CHGNet(self.version)
        parts = [crystals[first : first + _AT_ONCE] for first in range(0, len(crystals), _AT_ONCE)]
        outcomes = [outcome for part in parts for outcome in potential.energies(part)]
        if failures := [outcome.failure for outcome in outcomes if outcome.value is None]:
            raise ValueError(failures[0])
        return np.array([outcome.value for outcome in outcomes], dtype=np.float64)


def _stack(crystal: Crystal, slab: Slab, gap: float, shift: tuple[float, float]) -> Crystal:
    """The same layer in a cell in which the next one is a gap away, shifted in lattice vectors of the layer."""
    lattice = crystal.lattice.copy()
    spanning = np.delete(crystal.lattice, slab.axis, axis=0)
    lattice[slab.axis] = (slab.thickness + gap) * slab.normal + np.array(shift) @ spanning
    positions = crystal.frac_coords @ crystal.lattice
    # Atoms of a layer that crosses the boundary of its cell are taken back by whole cells, which may be sheared: along
    # the normal alone, they would come to lie beside their neighbours.
    above = slab.height - positions @ slab.normal
    cells_away = np.round((above - above.min()) / (slab.thickness + slab.gap))
    positions += np.outer(cells_away, crystal.lattice[slab.axis])
    positions += np.outer(slab.height - positions @ slab.normal, slab.normal)
    return Crystal(crystal.id, lattice, wrap(positions @ np.linalg.inv(lattice)), crystal.atomic_numbers)
