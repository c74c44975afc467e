"""Energies and forces of crystals by a pretrained interatomic potential, many crystals at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from io import StringIO
from typing import Any, Literal, TypeVar

import numpy as np

from matwheel.data.crystal import BoolArray, Crystal, CrystalTable, FloatArray, IntArray
from matwheel.metrics.pool import Outcome, Pool

R = TypeVar("R")

_BATCH = 8
"""Crystals per call of a potential: more of them gain nothing on a processor."""


@dataclass(frozen=True)
class EnergyPoint:
    """What a potential says about one crystal.

    Attributes:
        energy: eV, of the cell.
        forces: [n, 3], eV/A.
        virial: [3, 3], eV, minus the derivative of the energy by a strain e that turns lattice rows a into a (1 + e).
    """

    energy: float
    forces: FloatArray
    virial: FloatArray


class Potential(ABC):
    """A pretrained potential: settings that are sent to worker processes, where the weights are loaded once."""

    @abstractmethod
    def evaluate(self, crystals: Sequence[Crystal]) -> list[Outcome[EnergyPoint]]:
        """Energy, forces and virial of each crystal; what cannot be computed for one does not touch the others."""

    def energies(self, crystals: Sequence[Crystal]) -> list[Outcome[float]]:
        """eV, the energy of each cell."""
        return [
            Outcome(None, point.failure) if point.value is None else Outcome(point.value.energy)
            for point in self.evaluate(crystals)
        ]

    @abstractmethod
    def reference_energy(self, atomic_numbers: IntArray) -> float:
        """eV, what a sum over the atoms gives for a cell: the potential's own zero of each element."""


@dataclass(frozen=True)
class CHGNet(Potential):
    """CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031, 2023), whose weights are part of its package.

    Needs the optional dependencies: `pip install "matwheel[potentials]"`.

    Attributes:
        version: Which weights. `0.3.0` and `0.2.0` learned from PBE+U relaxations of the Materials Project, `r2scan`
            was refined on r2SCAN energies.
    """

    version: Literal["0.3.0", "0.2.0", "r2scan"] = "0.3.0"

    def __post_init__(self) -> None:
        if find_spec("chgnet") is None:
            raise ValueError('the potential needs the package chgnet: pip install "matwheel[potentials]"')

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Outcome[EnergyPoint]]:
        """See `Potential`."""
        import torch

        model = _load(self.version)
        graphs = [_graph(model, crystal) for crystal in crystals]
        good = [graph.value for graph in graphs if graph.value is not None]
        if not good:
            return [Outcome(None, graph.failure) for graph in graphs]
        # The package's own forces are made to be differentiated once more in training, which takes twice the time.
        leaves = [leaf for graph in good for leaf in (graph.atom_frac_coord, graph.lattice)]
        sizes = torch.tensor([len(graph.atomic_number) for graph in good])
        energies = model(good, task="e")["e"] * sizes  # the model gives energies per atom
        gradients = torch.autograd.grad(energies.sum(), leaves)
        points = (
            _point(float(energy), graph.lattice, by_coords, by_lattice)
            for energy, graph, by_coords, by_lattice in zip(
                energies, good, gradients[::2], gradients[1::2], strict=True
            )
        )
        return [next(points) if graph.value is not None else Outcome(None, graph.failure) for graph in graphs]

    def energies(self, crystals: Sequence[Crystal]) -> list[Outcome[float]]:
        """See `Potential`; takes a third of the time of `evaluate`."""
        import torch

        model = _load(self.version)
        graphs = [_graph(model, crystal) for crystal in crystals]
        good = [graph.value for graph in graphs if graph.value is not None]
        with torch.inference_mode():
            per_atom = model(good, task="e")["e"].tolist() if good else []
        values = iter(per_atom)
        return [
            Outcome(None, graph.failure) if graph.value is None else Outcome(next(values) * crystal.num_atoms)
            for graph, crystal in zip(graphs, crystals, strict=True)
        ]

    def features(self, crystal: Crystal) -> FloatArray:
        """[64], what the network has made of a crystal before it becomes an energy: the mean over the atoms.

        Raises:
            ValueError: If it can make nothing of it.
        """
        model = _load(self.version)
        graph = _graph(model, crystal)
        if graph.value is None:
            raise ValueError(graph.failure)
        found = model([graph.value], task="e", return_crystal_feas=True)["crystal_fea"][0]
        features: FloatArray = found.detach().double().numpy()
        return features

    def reference_energy(self, atomic_numbers: IntArray) -> float:
        """The energies per element that CHGNet's network learned differences from: a linear fit to its training set."""
        energies = _load(self.version).composition_model.fc.weight[0].double().numpy()
        return float(energies[atomic_numbers - 1].sum())


@dataclass(frozen=True)
class Energies:
    """Energies of n crystals.

    Attributes:
        per_atom: [n], eV per atom, relative to the potential's energies of the elements; NaN where there is none.
        failures: [n], why there is none; empty where there is one.
    """

    per_atom: FloatArray
    failures: tuple[str, ...] = field(repr=False)

    @property
    def known(self) -> BoolArray:
        """[n], whether there is an energy."""
        known: BoolArray = np.isfinite(self.per_atom)
        return known


def energies(table: CrystalTable, potential: Potential, pool: Pool | None = None, label: str = "Energies") -> Energies:
    """Energies of crystals as they are.

    Args:
        table: n crystals with sane cells, see `structure_validity`.
        potential: Computes them.
        pool: Processes and time-out per crystal.
        label: Title of the progress bar.
    """
    outcomes = map_batches(_Energies(potential), list(table), pool or Pool(), label)
    values = np.array([np.nan if outcome.value is None else outcome.value for outcome in outcomes], dtype=np.float64)
    return Energies(values, tuple(outcome.failure for outcome in outcomes))


def map_batches(
    function: Callable[[Sequence[Crystal]], list[Outcome[R]]], crystals: Sequence[Crystal], pool: Pool, label: str
) -> list[Outcome[R]]:
    """Apply a function of several crystals to all, in batches of similar size.

    A batch that takes too long or ends its process is taken apart, so that only the crystal to blame is lost.

    Args:
        function: Gives an outcome per crystal; picklable.
        crystals: What it is applied to.
        pool: Processes and time-out per crystal.
        label: Title of the progress bar.

    Returns:
        One outcome per crystal, in their order.
    """
    order = sorted(range(len(crystals)), key=lambda row: crystals[row].num_atoms, reverse=True)
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    items = [[crystals[row] for row in rows] for rows in batches]
    outcomes: list[Outcome[R]] = [Outcome(None)] * len(crystals)
    suspects: list[int] = []
    for rows, outcome in zip(batches, pool.map(function, items, label, [len(rows) for rows in batches]), strict=True):
        if outcome.value is None:
            suspects += rows
        else:
            for row, one in zip(rows, outcome.value, strict=True):
                outcomes[row] = one
    for row, alone in zip(suspects, pool.map(function, [[crystals[row]] for row in suspects], label), strict=True):
        outcomes[row] = alone.value[0] if alone.value is not None else Outcome(None, alone.failure)
    return outcomes


@dataclass(frozen=True)
class _Energies:
    """The energy per atom of each crystal, relative to the elements'."""

    potential: Potential

    def __call__(self, crystals: Sequence[Crystal]) -> list[Outcome[float]]:
        outcomes = self.potential.energies(crystals)
        return [self._relative(crystal, outcome) for crystal, outcome in zip(crystals, outcomes, strict=True)]

    def _relative(self, crystal: Crystal, outcome: Outcome[float]) -> Outcome[float]:
        if outcome.value is None:
            return outcome
        zero = self.potential.reference_energy(crystal.atomic_numbers)
        return Outcome((outcome.value - zero) / crystal.num_atoms)


@lru_cache(maxsize=2)
def _load(version: str) -> Any:
    import torch
    from chgnet.model.model import CHGNet as Network

    torch.set_num_threads(1)  # each worker has a processor
    with redirect_stdout(StringIO()):  # it greets
        model = Network.load(model_name=version, use_device="cpu", verbose=False).eval()
    model.requires_grad_(False)
    # An atom without neighbours has an energy that means nothing.
    model.graph_converter.set_isolated_atom_response("error")
    return model


def _graph(model: Any, crystal: Crystal) -> Outcome[Any]:
    heaviest = model.composition_model.fc.weight.shape[1]
    if crystal.atomic_numbers.max() > heaviest:
        return Outcome(None, f"the potential knows the elements up to number {heaviest}")
    try:
        return Outcome(model.graph_converter(crystal.to_structure()))
    except ValueError as error:
        return Outcome(None, "isolated atom" if "isolated" in str(error) else f"no graph: {error}")


def _point(energy: float, lattice: Any, by_coords: Any, by_lattice: Any) -> Outcome[EnergyPoint]:
    cell = lattice.detach().double().numpy()
    forces = -np.linalg.solve(cell, by_coords.double().numpy().T).T
    virial = -cell.T @ by_lattice.double().numpy()
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(virial).all()):
        return Outcome(None, "energy or forces are not finite")
    return Outcome(EnergyPoint(energy, forces, virial))
