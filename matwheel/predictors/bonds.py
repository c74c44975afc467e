"""Features of bonds: how many, how long, between whom, and how one-sided."""

from __future__ import annotations

import numpy as np
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.neighbours import periodic_neighbours
from matwheel.predictors.atoms import STATISTICS, element_numbers, over_atoms
from matwheel.predictors.features import Features

_CUTOFF = 6.0  # A, longer than any bond
_MAX_NEIGHBOURS = 32
_BOND = 1.25
"""A neighbour is bonded if it is at most so many times further away than the closest one."""
_DECAY = 0.15
"""Of the strength of a contact, exp((1 - d) / 0.15) at d sums of covalent radii; bond valence decays alike."""
_ALONE = 3.0
"""Closest contact of an atom without neighbours, in sums of covalent radii."""
_PER_ATOM = (
    "bonds",
    "bond length (A)",
    "spread of bond lengths (A)",
    "closest contact (covalent radii)",
    "difference of electronegativity over bonds",
    "bonds to the same element",
    "one-sidedness",
)


class Bonds(Features):
    """Statistics over atoms of their bonds, and how densely atoms fill space; 35 numbers.

    Distances are compared with sums of covalent radii. One-sidedness is the length of the sum of unit vectors to the
    neighbours, weighted by the strength of the contacts: 0 at a centre of inversion, 1 for an atom held from one side.
    Anions are the atoms of at least the mean electronegativity.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return (
            *(f"{statistic} {name}" for name in _PER_ATOM for statistic in STATISTICS),
            "bonds of anions",
            "bonds of cations",
            "bond length of anions (A)",
            "mean bond length (covalent radii)",
            "share of space inside covalent radii",
            "polarisability over volume",
            "ln of volume per atom (A^3)",
        )

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        if not len(table):
            return np.zeros((0, len(self.names)))
        elements, numbers, total = element_numbers(), table.atomic_numbers, int(table.num_atoms.sum())
        owner = np.repeat(np.arange(len(table)), table.num_atoms)
        radius, negativity = elements.covalent_radius[numbers], elements.electronegativity[numbers]
        i, j, distance, direction = _contacts(table)

        relative = distance / (radius[i] + radius[j])
        closest, shortest = np.full(total, _ALONE), np.full(total, np.inf)
        np.minimum.at(closest, i, relative)
        np.minimum.at(shortest, i, distance)
        strength = np.exp((1 - relative) / _DECAY)
        pull = np.column_stack([np.bincount(i, strength * direction[:, k], total) for k in range(3)])
        one_sided = np.linalg.norm(pull, axis=1) / np.maximum(np.bincount(i, strength, total), 1e-9)

        bonded = distance < _BOND * shortest[i]
        i, j, distance = i[bonded], j[bonded], distance[bonded]
        bonds = np.bincount(i, minlength=total).astype(np.float64)

        def mean(values: FloatArray) -> FloatArray:
            return np.bincount(i, values, total) / np.maximum(bonds, 1)

        length = mean(distance)
        spread = np.sqrt(np.maximum(mean(np.square(distance)) - np.square(length), 0))
        contrast = mean(np.abs(negativity[i] - negativity[j]))
        same = mean((numbers[i] == numbers[j]).astype(np.float64))
        per_atom = (bonds, length, spread, closest, contrast, same, one_sided)

        def of(atoms: FloatArray, values: FloatArray) -> FloatArray:
            """Mean over some atoms of each crystal, 0 without any."""
            counts = np.bincount(owner, atoms, len(table))
            return np.bincount(owner, atoms * values, len(table)) / np.maximum(counts, 1)

        mean_negativity = over_atoms(negativity, table)[owner, 0] - 1e-6  # of equal ones the mean is rounded
        anion = (negativity >= mean_negativity).astype(np.float64)
        everywhere = np.ones(total)
        volume = np.abs(np.linalg.det(table.lattices))
        return np.column_stack(
            [
                *(over_atoms(values, table) for values in per_atom),
                of(anion, bonds),
                of(1 - anion, bonds),
                of(anion, length),
                of(everywhere, length / radius),
                4 / 3 * np.pi * np.bincount(owner, radius**3, len(table)) / volume,
                np.bincount(owner, elements.polarisability[numbers], len(table)) / volume,
                np.log(volume / table.num_atoms),
            ]
        )


def _contacts(table: CrystalTable) -> tuple[np.ndarray, np.ndarray, FloatArray, FloatArray]:
    """Centre i, neighbour j, distance (A) and unit vector from i to j of every contact."""
    frac, lattice = torch.from_numpy(table.frac_coords), torch.from_numpy(table.lattices)
    num_atoms = torch.from_numpy(table.num_atoms)
    found = periodic_neighbours(frac, lattice, num_atoms, _CUTOFF, _MAX_NEIGHBOURS)
    j, i = found.edge_index
    crystal = torch.repeat_interleave(num_atoms)[i]
    vector = torch.einsum("ek,ekl->el", frac[j] + found.image - frac[i], lattice[crystal])
    distance = found.dist.clamp_min(1e-6)
    return i.numpy(), j.numpy(), distance.numpy(), (vector / distance[:, None]).numpy()
