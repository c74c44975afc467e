"""Small crystals for tests of the networks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch_geometric.data import Batch

from matwheel.data.crystal import Crystal, CrystalTable, wrap
from matwheel.data.graphs import CrystalGraphs


def random_crystals(num_atoms: Sequence[int], seed: int = 0, length: float = 4.5) -> CrystalTable:
    """Cells of about the same shape with atoms anywhere in them."""
    rng = np.random.default_rng(seed)
    return CrystalTable.from_crystals(
        Crystal(
            id=str(row),
            lattice=length * np.eye(3) + 0.4 * rng.normal(size=(3, 3)),
            frac_coords=rng.random((n, 3)),
            atomic_numbers=rng.integers(1, 101, n),
        )
        for row, n in enumerate(num_atoms)
    )


def batch_of(table: CrystalTable, cutoff: float = 8.0, max_neighbours: int = 12) -> Batch:
    """All crystals of a table in one batch."""
    return CrystalGraphs.build(table, cutoff, max_neighbours).batch(torch.arange(len(table)))


def single(crystal: Crystal, **changes: np.ndarray) -> CrystalTable:
    """A table of one crystal with some of its arrays replaced."""
    return CrystalTable.from_crystals([Crystal(**{**crystal.__dict__, **changes})])


def rotation(seed: int) -> np.ndarray:
    """A random proper rotation matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> CrystalTable:
    """The same crystal in a larger cell."""
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), -1).reshape(-1, 3)
    frac = (crystal.frac_coords[:, None] + shifts).reshape(-1, 3) / np.array(repeats)
    return single(
        crystal,
        lattice=crystal.lattice * np.array(repeats)[:, None],
        frac_coords=wrap(frac),
        atomic_numbers=np.repeat(crystal.atomic_numbers, len(shifts)),
    )


def isolated_atom(length: float = 40.0) -> Crystal:
    """One atom alone in a box that no cutoff spans."""
    return Crystal("alone", length * np.eye(3), np.zeros((1, 3)), np.array([8]))
