"""Compositions, and whether charges can balance in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np

from matwheel.data.crystal import BoolArray, IntArray

Composition = tuple[tuple[int, int], ...]
"""Pairs of (atomic number, count), sorted."""


def valid_compositions(atomic_numbers: IntArray, num_atoms: IntArray) -> BoolArray:
    """Whether the compositions of crystals pass `is_valid_composition`.

    Args:
        atomic_numbers: [N], those of one crystal after the other.
        num_atoms: [n], sums to N.

    Returns:
        [n].
    """
    return np.array(list(map(is_valid_composition, reduced_compositions(atomic_numbers, num_atoms))), np.bool_)


def reduced_compositions(atomic_numbers: IntArray, num_atoms: IntArray) -> list[Composition]:
    """The `reduced_composition` of each of n crystals.

    Args:
        atomic_numbers: [N], those of one crystal after the other.
        num_atoms: [n], sums to N.
    """
    parts = np.split(atomic_numbers, np.cumsum(num_atoms)[:-1])
    return [reduced_composition(part) for part in parts[: len(num_atoms)]]


def reduced_composition(atomic_numbers: IntArray) -> Composition:
    """Composition with counts divided by their greatest common divisor."""
    counts = Counter(atomic_numbers.tolist())
    divisor = gcd(*counts.values())
    return tuple(sorted((number, count // divisor) for number, count in counts.items()))


@lru_cache(maxsize=100_000)
def is_valid_composition(composition: Composition) -> bool:
    """Whether oxidation states exist that make a composition neutral with anions more electronegative than cations.

    As in SMACT's `smact_validity` (Davies et al., Chem 1, 617, 2016) with its oxidation states of 2014, which CDVAE
    uses: single elements and alloys of metals pass, and all atoms of one element share one state. SMACT tries all
    combinations of states. Here the elements are divided by electronegativity into those that may be cations and those
    that may be anions, and for each division the set of reachable charges is grown element by element: the same answer
    in a time that cannot explode.

    Args:
        composition: As from `reduced_composition`.
    """
    if len(composition) == 1 or all(_element(number).is_metal for number, _ in composition):
        return True
    elements = [_element(number) for number, _ in composition]
    if any(not element.oxidation_states or element.electronegativity is None for element in elements):
        return False
    # The most electronegative cation of a valid assignment is the boundary of a division that allows it.
    boundaries = {element.electronegativity for element in elements if element.electronegativity is not None}
    counts = [count for _, count in composition]
    return any(_reaches_neutral(elements, counts, boundary) for boundary in boundaries)


def _reaches_neutral(elements: list[_Element], counts: list[int], boundary: float) -> bool:
    charges = {0}
    for element, count in zip(elements, counts, strict=True):
        is_cation = element.electronegativity is not None and element.electronegativity <= boundary
        steps = [count * state for state in element.oxidation_states if (state >= 0 if is_cation else state <= 0)]
        charges = {charge + step for charge in charges for step in steps}
    return 0 in charges


@dataclass(frozen=True)
class _Element:
    oxidation_states: tuple[int, ...]
    electronegativity: float | None
    is_metal: bool


@lru_cache(maxsize=128)
def _element(atomic_number: int) -> _Element:
    import smact
    from pymatgen.core.periodic_table import Element

    symbol = Element.from_Z(atomic_number).symbol
    element = smact.Element(symbol)
    return _Element(tuple(element.oxidation_states_smact14 or ()), element.pauling_eneg, symbol in smact.metals)
