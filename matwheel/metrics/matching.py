"""Which crystals are the same: among each other (uniqueness) and in a reference set (novelty, memorisation)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from matwheel.data.compositions import Composition, reduced_compositions
from matwheel.data.crystal import BoolArray, Crystal, CrystalTable, FloatArray, IntArray
from matwheel.metrics.pool import Outcome, Pool, attempt

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class MatchTolerances:
    """When two crystals are the same, by pymatgen's StructureMatcher on primitive cells scaled to one volume.

    Attributes:
        length: Fractional tolerance of cell lengths.
        site: Tolerance of sites, in units of (volume per atom) ** (1/3).
        angle: Degrees, tolerance of cell angles.
    """

    length: float = 0.2
    site: float = 0.3
    angle: float = 5.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"the {name} tolerance must be above 0, not {value}")


@dataclass(frozen=True)
class Groups:
    """Crystals in groups of equals.

    Attributes:
        first: [n], first row of each row's group; a row's own where it is the first or was not decided.
        failures: [n], why a row was not compared; empty where it was.
    """

    first: IntArray
    failures: tuple[str, ...]

    @property
    def unique(self) -> BoolArray:
        """[n], the first row of each group; undecided rows are not."""
        decided = np.array([not failure for failure in self.failures], dtype=np.bool_)
        unique: BoolArray = decided & (self.first == np.arange(len(self.first)))
        return unique


@dataclass(frozen=True)
class Matches:
    """The counterpart of each crystal in a reference.

    Attributes:
        row: [n], row of the reference crystal that matches best, -1 where none does.
        rms: [n], root mean square displacement to it in units of (volume per atom) ** (1/3); NaN where none matches.
        failures: [n], why a row was not compared; empty where it was.
    """

    row: IntArray
    rms: FloatArray
    failures: tuple[str, ...]

    @property
    def novel(self) -> BoolArray:
        """[n], compared and without counterpart."""
        decided = np.array([not failure for failure in self.failures], dtype=np.bool_)
        novel: BoolArray = decided & (self.row < 0)
        return novel


def find_groups(
    table: CrystalTable, tolerances: MatchTolerances | None = None, pool: Pool | None = None, label: str = "Uniqueness"
) -> Groups:
    """Group equal crystals; only those with one reduced formula are compared.

    A group is all that is linked by matches, so that the number of groups does not depend on the order of rows, as
    it does where each crystal is compared with the first of a group only.

    Args:
        table: n crystals with sane cells, see `structure_validity`.
        tolerances: When two are the same.
        pool: Processes and time-out; a formula with k crystals may take k times the time-out. None to compare here,
            for as long as it takes.
        label: Title of the progress bar.
    """
    buckets = [rows for rows in _by_formula(table).values() if len(rows) > 1]
    crystals = [[table[row] for row in rows] for rows in buckets]
    function = partial(_group, tolerances or MatchTolerances())
    outcomes = _map(pool, function, crystals, label, [len(rows) for rows in buckets])
    first = np.arange(len(table))
    failures = [""] * len(table)
    for rows, outcome in zip(buckets, outcomes, strict=True):
        if outcome.value is not None:
            first[rows] = np.array(rows)[outcome.value]
        else:
            for row in rows:
                failures[row] = outcome.failure
    return Groups(first, tuple(failures))


def find_matches(
    table: CrystalTable,
    reference: CrystalTable,
    tolerances: MatchTolerances | None = None,
    pool: Pool | None = None,
    label: str = "Novelty",
) -> Matches:
    """Find each crystal in a reference; only those with its reduced formula are compared.

    Args:
        table: n crystals with sane cells, see `structure_validity`.
        reference: The crystals they may be copies of.
        tolerances: When two are the same.
        pool: Processes and time-out; a crystal with k references of its formula may take k times the time-out. None to
            compare here, for as long as it takes.
        label: Title of the progress bar.
    """
    known = _by_formula(reference)
    pairs = [(row, known[formula]) for formula, rows in _by_formula(table).items() if formula in known for row in rows]
    best = _BestMatch(tolerances or MatchTolerances(), reference)
    crystals = [(table[row], others) for row, others in pairs]
    outcomes = _map(pool, best, crystals, label, [len(others) for _, others in pairs])
    matched, rms = np.full(len(table), -1), np.full(len(table), np.nan)
    failures = [""] * len(table)
    for (row, _), outcome in zip(pairs, outcomes, strict=True):
        failures[row] = outcome.failure
        if outcome.value is not None:
            matched[row], rms[row] = outcome.value
    return Matches(matched, rms, tuple(failures))


def _map(
    pool: Pool | None, function: Callable[[T], R], items: Sequence[T], label: str, sizes: Sequence[int]
) -> list[Outcome[R]]:
    if pool is None:
        return [attempt(function, item) for item in items]
    return pool.map(function, items, label, sizes)


def _by_formula(table: CrystalTable) -> dict[Composition, list[int]]:
    rows: dict[Composition, list[int]] = defaultdict(list)
    for row, composition in enumerate(reduced_compositions(table.atomic_numbers, table.num_atoms)):
        rows[composition].append(row)
    return rows


def _group(tolerances: MatchTolerances, crystals: Sequence[Crystal]) -> list[int]:
    """Position of the first crystal of each one's group."""
    matcher = _matcher(tolerances)
    # Compared in an order of their own: a match can depend on which of two is scaled to the other.
    order = sorted(range(len(crystals)), key=lambda position: _content(crystals[position]))
    structures = {position: _reduced(crystals[position]) for position in order}
    groups: list[list[int]] = []
    for position in order:
        linked = [group for group in groups if _is_linked(matcher, structures, position, group)]
        groups = [group for group in groups if group not in linked]
        groups.append([position, *(member for group in linked for member in group)])
    first = {member: min(group) for group in groups for member in group}
    return [first[position] for position in range(len(crystals))]


def _is_linked(matcher: Any, structures: dict[int, Structure], position: int, group: Iterable[int]) -> bool:
    one = structures[position]
    return any(
        len(one) == len(structures[other]) and matcher.fit(structures[other], one, skip_structure_reduction=True)
        for other in group
    )


@dataclass(frozen=True)
class _BestMatch:
    """The row of the best counterpart among some references and the displacement to it; -1 and NaN if there is none.

    A comparison takes its time to reduce two cells. A process reduces each reference once to learn how many sites its
    primitive cell has, and compares a crystal only with those that have as many as its own: no others match.
    """

    tolerances: MatchTolerances
    reference: CrystalTable
    sites: dict[int, int] = field(default_factory=dict)

    def __call__(self, item: tuple[Crystal, Sequence[int]]) -> tuple[int, float]:
        crystal, rows = item
        structure, sites = crystal.to_structure(), len(_reduced(crystal))
        matcher = _matcher(self.tolerances)
        alike = [row for row in rows if self._sites(row) == sites]
        distances = [(matcher.get_rms_dist(structure, self.reference[row].to_structure()), row) for row in alike]
        found = [(float(distance[0]), row) for distance, row in distances if distance is not None]
        if not found:
            return -1, float("nan")
        rms, row = min(found)
        return row, rms

    def _sites(self, row: int) -> int:
        if row not in self.sites:
            self.sites[row] = len(_reduced(self.reference[row]))
        return self.sites[row]


def _reduced(crystal: Crystal) -> Structure:
    """Niggli-reduced primitive cell, which the matcher would else make anew for every comparison."""
    return crystal.to_structure().get_reduced_structure(reduction_algo="niggli").get_primitive_structure()


def _content(crystal: Crystal) -> tuple[int, float, bytes, bytes]:
    return crystal.num_atoms, crystal.volume, crystal.lattice.tobytes(), crystal.frac_coords.tobytes()


@lru_cache(maxsize=4)
def _matcher(tolerances: MatchTolerances) -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=tolerances.length, stol=tolerances.site, angle_tol=tolerances.angle)
