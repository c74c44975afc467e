"""Small crystals and quick stand-ins for the tests of metrics."""

import os
import time

import numpy as np

from matwheel.data.crystal import Crystal, CrystalTable, wrap
from matwheel.metrics.pool import Pool

POOL = Pool(processes=1, timeout=120.0)


def rock_salt(cation: int = 11, anion: int = 17, length: float = 5.64, id: str = "salt") -> Crystal:
    """The primitive cell."""
    lattice = length / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal(id, lattice, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([cation, anion]))


def caesium_chloride(cation: int = 11, anion: int = 17, length: float = 3.5, id: str = "cscl") -> Crystal:
    return Crystal(id, length * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([cation, anion]))


def table_of(*crystals: Crystal) -> CrystalTable:
    """Crystals under ids of their own."""
    renamed = [
        Crystal(f"{crystal.id}-{row}", crystal.lattice, crystal.frac_coords, crystal.atomic_numbers)
        for row, crystal in enumerate(crystals)
    ]
    return CrystalTable.from_crystals(renamed)


def moved(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The same crystal: rotated, translated, in another cell with its atoms in another order."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(crystal.num_atoms)
    shear = np.array([[1.0, 0, 0], [1, 1, 0], [0, -1, 1]])  # another cell of the same lattice
    frac = (crystal.frac_coords + rng.random(3)) @ np.linalg.inv(shear)
    return Crystal("moved", shear @ crystal.lattice @ rotation, wrap(frac[order]), crystal.atomic_numbers[order])


def doubled(crystal: Crystal) -> Crystal:
    """A supercell twice as long."""
    frac = np.concatenate([crystal.frac_coords, crystal.frac_coords + np.array([1, 0, 0])]) / [2, 1, 1]
    lattice = crystal.lattice * np.array([[2], [1], [1]])
    return Crystal("doubled", lattice, frac, np.tile(crystal.atomic_numbers, 2))


def misbehave(item: str) -> str:
    """Work that takes too long, fails or ends the process, as told."""
    if item == "sleep":
        time.sleep(60)
    if item == "fail":
        raise ValueError("as told")
    if item == "die":
        os._exit(1)
    return item.upper()
