"""Samplers: from noise to crystals in given cells, through a network that they know as a callable only."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matwheel.diffusion.noise import CoordinateNoise
from matwheel.diffusion.types import assign_types, initial_types, types_on_sites
from matwheel.seeded import atom_seeds, seeded_normal, seeded_uniform

Denoise = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(frac_coords [N, 3], atomic_numbers [N], level [B]) -> (prediction [N, 3] as in `CoordinateNoise`, type_logits
[N, 100])."""

_COORDINATES, _FIRST_NOISE, _FIRST_STEP = 0, 8, 16  # streams of random numbers of an atom


class Sites(NamedTuple):
    """Where atoms begin, if not anywhere.

    Attributes:
        frac_coords: [N, 3], in [0, 1).
        atomic_numbers: [N], 1 to 100, what the sites held, which decides who takes them (`types_on_sites`).
        max_sigma: A, most noise that atoms begin with: steps with more are left out.
    """

    frac_coords: Float[Tensor, "atoms 3"]
    atomic_numbers: Int[Tensor, " atoms"]
    max_sigma: float


@dataclass(frozen=True)
class Cells:
    """Empty cells to be filled.

    Attributes:
        lattice: [B, 3, 3], A, rows are lattice vectors; stays as it is.
        num_atoms: [B], at least 1 each.
        composition: [B, 100], probabilities of the atomic numbers 1 to 100.
        extent: [B, 3], fraction of each lattice vector along which atoms begin: 1, or less in a cell with vacuum.
        seeds: [B] int64; a sample depends on its own seed and on nothing else in the batch.
        sites: Where atoms begin; anywhere within the extent by default.
    """

    lattice: Float[Tensor, "crystals 3 3"]
    num_atoms: Int[Tensor, " crystals"]
    composition: Float[Tensor, "crystals 100"]
    extent: Float[Tensor, "crystals 3"]
    seeds: Int[Tensor, " crystals"]
    sites: Sites | None = None

    def take(self, part: slice) -> Cells:
        """Consecutive cells."""
        sites = self.sites
        if sites is not None:
            first, last = (int(self.num_atoms[:end].sum()) for end in part.indices(len(self.num_atoms))[:2])
            sites = Sites(sites.frac_coords[first:last], sites.atomic_numbers[first:last], sites.max_sigma)
        return Cells(**{name: getattr(self, name)[part] for name in _PER_CRYSTAL}, sites=sites)

    @property
    def max_sigma(self) -> float:
        """A, noise that atoms may begin with."""
        return math.inf if self.sites is None else self.sites.max_sigma

    def types(self) -> Int[Tensor, " atoms"]:
        """[N], atomic numbers that follow the compositions: those that crystals begin with."""
        types = initial_types(self.composition, self.num_atoms, atom_seeds(self.seeds, self.num_atoms))
        return types if self.sites is None else types_on_sites(types, self.sites.atomic_numbers, self.num_atoms)


_PER_CRYSTAL = [field.name for field in fields(Cells) if field.name != "sites"]


class Atoms(NamedTuple):
    """What fills the cells.

    Attributes:
        frac_coords: [N, 3], in [0, 1).
        atomic_numbers: [N], 1 to 100.
    """

    frac_coords: Float[Tensor, "atoms 3"]
    atomic_numbers: Int[Tensor, " atoms"]


class Sampler(ABC):
    """Fills cells with atoms: random positions and types of the predicted composition, made clean step by step.

    Positions are uniform within the extent of the atoms, or those of given sites, under the noise of the first step:
    all over the cell, or a layer or crystal as the network knows it with that much noise.

    Types follow the network on the way; in the end each crystal gets its predicted composition, the types assigned to
    atoms as they fit best. Few crystals would have it otherwise: one wrong atom in eight is another formula.
    """

    keeps_composition = True

    def sample(self, denoise: Denoise, noise: CoordinateNoise, cells: Cells) -> Atoms:
        """Fill the cells.

        Args:
            denoise: The network.
            noise: The process that the network was trained to undo.
            cells: What to fill.
        """
        seeds = atom_seeds(cells.seeds, cells.num_atoms)
        types = cells.types()
        batch = torch.repeat_interleave(torch.arange(len(cells.num_atoms), device=seeds.device), cells.num_atoms)
        updates = self.steps(noise, cells.max_sigma)
        if not updates:
            raise ValueError(f"no step has a noise of at most {cells.max_sigma:g} A, with which atoms are to begin")
        if cells.sites is None:
            somewhere = seeded_uniform(seeds, _COORDINATES, 3) * cells.extent[batch]
        else:
            somewhere = cells.sites.frac_coords
        displacement = noise.sigmas[updates[0].level] * seeded_normal(seeds, _FIRST_NOISE, 3)
        atoms = Atoms(noise.move(somewhere, displacement, cells.lattice, batch), types)
        for step, update in enumerate(updates):
            level = torch.full_like(cells.num_atoms, update.level)
            prediction, type_logits = denoise(atoms.frac_coords, atoms.atomic_numbers, level)
            displacement = update.gain * noise.clean_displacement(prediction, level, batch)
            if update.noise:
                displacement = displacement + update.noise * seeded_normal(seeds, _FIRST_STEP + step, 3)
            atoms = Atoms(noise.move(atoms.frac_coords, displacement, cells.lattice, batch), type_logits.argmax(1) + 1)
        if self.keeps_composition:
            atoms = atoms._replace(atomic_numbers=assign_types(types, type_logits, cells.num_atoms))
        return atoms

    @abstractmethod
    def schedule(self, sigmas: list[float]) -> list[Update]:
        """The steps to take.

        Args:
            sigmas: A, of every level, falling.
        """

    def steps(self, noise: CoordinateNoise, max_sigma: float = math.inf) -> list[Update]:
        """The steps with at most so much noise (A), each a call of the network."""
        sigmas: list[float] = noise.sigmas.tolist()
        updates = self.schedule(sigmas)
        return [update for update in updates if sigmas[update.level] <= max_sigma * (1 + 1e-6)]


class Update(NamedTuple):
    """One step: x <- x + gain (clean estimate - x) + noise (standard normal); types become the likeliest ones.

    Attributes:
        level: The level that the network is told.
        gain: Fraction of the way to the clean estimate.
        noise: A.
    """

    level: int
    gain: float
    noise: float


class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song & Ermon 2019), as CDVAE and Con-CDVAE sample; types are the network's.

    A step is x <- x + a s + sqrt(2 a) noise with the score s and a = step_lr (sigma / sigma of the last level)^2.

    Args:
        num_levels: How many of the trained noise levels are visited, evenly spaced; all by default.
        steps_per_level: Network calls per level; the papers use 100 at each of 50 levels, 5,000 calls in all.
        step_lr: Step size at the last level, A^2.
        min_sigma: Levels with less noise (A) are left out.
    """

    keeps_composition = False

    def __init__(
        self,
        num_levels: int | None = None,
        steps_per_level: int = 100,
        step_lr: float = 1e-4,
        min_sigma: float = 0.0,
    ) -> None:
        if steps_per_level < 1 or step_lr <= 0:
            raise ValueError(f"steps_per_level ({steps_per_level}) and step_lr ({step_lr}) must be positive")
        self.num_levels = num_levels
        self.steps_per_level = steps_per_level
        self.step_lr = step_lr
        self.min_sigma = min_sigma

    def schedule(self, sigmas: list[float]) -> list[Update]:
        """The same step many times at each level."""
        levels = [level for level in spaced_levels(len(sigmas), self.num_levels) if sigmas[level] >= self.min_sigma]
        if not levels:
            raise ValueError(f"min_sigma={self.min_sigma} leaves no noise level: the largest is {sigmas[0]:g} A")
        updates = []
        for level in levels:
            size = self.step_lr * (sigmas[level] / sigmas[-1]) ** 2
            updates += [Update(level, size / sigmas[level] ** 2, math.sqrt(2 * size))] * self.steps_per_level
        return updates


class DenoisingSampler(Sampler):
    """Walks down the noise levels in few network calls, each going part of the way to the clean estimate.

    With the estimate x0 of the clean positions, x <- x0 + (sigma' / sigma) (x - x0) brings them from noise sigma to the
    noise sigma' of the next level. That is the probability flow of the diffusion in its simplest discretisation, the
    one of DDIM (Song, Meng & Ermon, ICLR 2021). The last step goes all the way and adds no noise.

    Args:
        num_steps: Noise levels visited, and network calls without a corrector, from `max_sigma` on; atoms that begin on
            sites take those with less noise.
        stochasticity: 0 follows the probability flow; 1 replaces as much of the old noise by new as ancestral sampling
            does (eta of DDIM). New noise lets later steps repair errors of earlier ones.
        max_sigma: A, noise level to start from.
        corrector_steps: Langevin steps after each step but the last, at the level reached: they bring the atoms closer
            to the distribution there (predictor-corrector, Song et al., ICLR 2021, algorithm 2). Each is a network
            call more.
        corrector_size: Length of a Langevin step as a fraction of the way to the clean estimate.
        corrector_temperature: Share of its noise that a Langevin step adds, squared: 1 keeps to the distribution, less
            to where it is dense, 0 goes straight uphill. What a decoder of few crystals has not learnt of bond lengths
            makes rough crystals; cold steps smooth them.
    """

    def __init__(
        self,
        num_steps: int = 25,
        stochasticity: float = 0.5,
        max_sigma: float = 10.0,
        corrector_steps: int = 0,
        corrector_size: float = 0.2,
        corrector_temperature: float = 1.0,
    ) -> None:
        if num_steps < 1 or not 0 <= stochasticity <= 1:
            raise ValueError(f"num_steps ({num_steps}) must be positive and stochasticity ({stochasticity}) in [0, 1]")
        if corrector_steps < 0 or not 0 < corrector_size <= 1:
            raise ValueError(
                f"corrector_steps ({corrector_steps}) must not be negative and corrector_size ({corrector_size}) must "
                "lie in (0, 1]"
            )
        if not 0 <= corrector_temperature <= 1:
            raise ValueError(f"corrector_temperature must lie in [0, 1], not {corrector_temperature}")
        self.num_steps = num_steps
        self.stochasticity = stochasticity
        self.max_sigma = max_sigma
        self.corrector_steps = corrector_steps
        self.corrector_size = corrector_size
        self.corrector_temperature = corrector_temperature

    def schedule(self, sigmas: list[float]) -> list[Update]:
        """One step at each of evenly spaced levels, corrected at the next one."""
        first = next((i for i, sigma in enumerate(sigmas) if sigma <= self.max_sigma * (1 + 1e-6)), None)
        if first is None:
            raise ValueError(f"max_sigma={self.max_sigma} lies below the smallest noise level, {sigmas[-1]:g} A")
        levels = [first + level for level in spaced_levels(len(sigmas) - first, self.num_steps)]
        updates = []
        for level, following in zip(levels, [*levels[1:], None], strict=True):
            ratio = 0.0 if following is None else sigmas[following] / sigmas[level]
            new = self.stochasticity * ratio * math.sqrt(1 - ratio**2)  # in units of the present sigma
            updates.append(Update(level, 1 - math.sqrt(ratio**2 - new**2), new * sigmas[level]))
            if following is not None:
                noise = math.sqrt(2 * self.corrector_size * self.corrector_temperature) * sigmas[following]
                updates += [Update(following, self.corrector_size, noise)] * self.corrector_steps
        return updates


def spaced_levels(num_levels: int, num_used: int | None) -> list[int]:
    """Evenly spaced levels including the first and, of several, the last; all for None.

    Raises:
        ValueError: If more are wanted than there are.
    """
    if num_used is None:
        return list(range(num_levels))
    if not 1 <= num_used <= num_levels:
        raise ValueError(f"cannot use {num_used} noise levels: there are {num_levels}")
    return [round(i * (num_levels - 1) / max(num_used - 1, 1)) for i in range(num_used)]
