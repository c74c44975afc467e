"""Relaxation of crystals: atoms and cell follow the forces of a potential downhill, many crystals at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from matwheel.data.crystal import Crystal, CrystalTable, FloatArray, wrap
from matwheel.metrics.pool import Outcome, Pool
from matwheel.metrics.potential import EnergyPoint, Potential, map_batches

_MIN_VOLUME = 1.0  # A^3 per atom; below, neighbours would be searched among thousands of images
_START_STEP, _LARGEST_STEP = 0.1, 1.0  # time, in units where masses are 1
_START_MIXING = 0.1
_PATIENCE = 5  # downhill steps before the pace rises


@dataclass(frozen=True)
class RelaxationSettings:
    """How far crystals are relaxed.

    Attributes:
        max_steps: Steps at most, 0 for none; 20 to 50 remove most of the strain of generated crystals.
        max_force: eV/A; a crystal whose forces are all below this, and whose virial per atom is below as many eV, is
            relaxed.
        max_move: A, largest displacement in one step (of all atoms together).
        fixed_cell: Move the atoms only. Right for monolayers: a potential that knows little about dispersion would
            change the vacuum beside the layer, and the cell of a layer says how much of it is empty.
    """

    max_steps: int = 50
    max_force: float = 0.1
    max_move: float = 0.2
    fixed_cell: bool = False

    def __post_init__(self) -> None:
        if self.max_steps < 0 or not self.max_force > 0 or not self.max_move > 0:
            raise ValueError(
                f"max_steps ({self.max_steps}) must not be negative, max_force ({self.max_force}) and max_move "
                f"({self.max_move}) above 0"
            )


@dataclass(frozen=True)
class Relaxed:
    """A crystal after relaxation.

    Attributes:
        crystal: With the id and properties it had.
        energy: eV per atom.
        energy_drop: eV per atom, how much lower than before.
        force: eV/A, the largest that is left.
        steps: Steps made.
    """

    crystal: Crystal
    energy: float
    energy_drop: float
    force: float
    steps: int


def relax(
    table: CrystalTable,
    potential: Potential,
    settings: RelaxationSettings | None = None,
    pool: Pool | None = None,
    label: str = "Relaxation",
) -> list[Outcome[Relaxed]]:
    """Relax crystals by FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201, 2006).

    Atoms and cell move together: the deformation of the cell, times the number of atoms, is treated as three more atoms
    on which the virial acts (Tadmor et al., Phys. Rev. B 59, 235, 1999).

    Args:
        table: n crystals with sane cells, see `matwheel.metrics.validity.structure_validity`.
        potential: Energies and forces.
        settings: When to stop.
        pool: Processes and time-out per crystal.
        label: Title of the progress bar.

    Returns:
        [n]; a failure where the potential fails, or the cell collapses on the way.
    """
    function = partial(_relax_batch, potential, settings or RelaxationSettings())
    return map_batches(function, list(table), pool or Pool(), label)


def _relax_batch(
    potential: Potential, settings: RelaxationSettings, crystals: Sequence[Crystal]
) -> list[Outcome[Relaxed]]:
    walks = [_Walk(crystal, settings) for crystal in crystals]
    outcomes: list[Outcome[Relaxed] | None] = [None] * len(crystals)
    while running := [row for row, outcome in enumerate(outcomes) if outcome is None]:
        for row in running:
            if walks[row].collapsed:
                outcomes[row] = Outcome(None, "the cell collapsed")
        running = [row for row in running if outcomes[row] is None]
        for row, point in zip(running, potential.evaluate([walks[row].crystal for row in running]), strict=True):
            outcomes[row] = Outcome(None, point.failure) if point.value is None else walks[row].advance(point.value)
    return [outcome for outcome in outcomes if outcome is not None]


class _Walk:
    """The way of one crystal downhill.

    Coordinates are those of the undeformed cell; a row r of positions or lattice vectors becomes r F^T.
    """

    def __init__(self, crystal: Crystal, settings: RelaxationSettings) -> None:
        self.start = crystal
        self.settings = settings
        self.coords = crystal.frac_coords @ crystal.lattice
        self.deformation = np.eye(3)
        self.velocity = np.zeros((crystal.num_atoms + 3, 3))
        self.time_step, self.mixing, self.downhill, self.steps = _START_STEP, _START_MIXING, 0, 0
        self.first_energy: float | None = None

    @property
    def crystal(self) -> Crystal:
        """Where it is now."""
        frac_coords = self.coords @ np.linalg.inv(self.start.lattice)
        lattice = self.start.lattice @ self.deformation.T
        return replace(self.start, lattice=lattice, frac_coords=wrap(frac_coords))

    @property
    def collapsed(self) -> bool:
        """Whether no potential should be asked any more."""
        volume = abs(np.linalg.det(self.start.lattice @ self.deformation.T))
        return not volume >= _MIN_VOLUME * self.start.num_atoms

    def advance(self, point: EnergyPoint) -> Outcome[Relaxed] | None:
        """Make a step, or say where the walk ended."""
        n = self.start.num_atoms
        forces = np.concatenate([point.forces @ self.deformation, self._cell_forces(point)])
        if self.first_energy is None:
            self.first_energy = point.energy
        size = float(np.linalg.norm(forces, axis=1).max())
        if size < self.settings.max_force or self.steps >= self.settings.max_steps:
            drop = (self.first_energy - point.energy) / n
            return Outcome(Relaxed(self.crystal, point.energy / n, drop, size, self.steps))
        move = self._fire(forces)
        self.coords = self.coords + move[:n]
        self.deformation = self.deformation + move[n:] / n
        self.steps += 1
        return None

    def _cell_forces(self, point: EnergyPoint) -> FloatArray:
        if self.settings.fixed_cell:
            return np.zeros((3, 3))
        cell_forces: FloatArray = np.linalg.solve(self.deformation, point.virial.T).T / self.start.num_atoms
        return cell_forces

    def _fire(self, forces: FloatArray) -> FloatArray:
        if (forces * self.velocity).sum() > 0:
            speed = np.linalg.norm(self.velocity) / np.linalg.norm(forces)
            self.velocity = (1 - self.mixing) * self.velocity + self.mixing * speed * forces
            if self.downhill > _PATIENCE:
                self.time_step = min(1.1 * self.time_step, _LARGEST_STEP)
                self.mixing *= 0.99
            self.downhill += 1
        else:
            self.velocity = np.zeros_like(self.velocity)
            self.time_step, self.mixing, self.downhill = 0.5 * self.time_step, _START_MIXING, 0
        self.velocity = self.velocity + self.time_step * forces
        move: FloatArray = self.time_step * self.velocity
        return move * min(1.0, self.settings.max_move / float(np.linalg.norm(move)))
