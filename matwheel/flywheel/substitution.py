"""Ion substitution: training crystals with ions replaced by such as are known to take their place."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import resources

import numpy as np

from matwheel.data.compositions import reduced_composition
from matwheel.data.crystal import Crystal, IntArray
from matwheel.flywheel.sources import CrystalSource, Derived

_Ion = tuple[int, int]
"""Atomic number and charge."""


class IonSubstitution(CrystalSource):
    """Training crystals with some of their ions replaced by others of the same charge.

    The new ion is drawn with the probability of the substitution in known compounds (Hautier et al., Inorg. Chem. 50,
    656, 2011; pymatgen's table) among the elements of the training crystals. The charges are the likeliest ones that
    make the composition neutral; crystals without such (alloys, mixed valence) are no parents. Since the charge stays,
    so does neutrality. The cell is scaled as the mean ionic radius (Shannon's as in pymatgen), the fractional
    coordinates stay. Beats learned generators in stability (Szymanski and Bartel, arXiv 2501.02144).

    Args:
        substitutions: Elements replaced in each crystal, or as many as have a substitute.
    """

    requirement = "it needs ions whose charges balance, with substitutes among the elements of the training set"

    def __init__(self, substitutions: int = 1) -> None:
        if substitutions < 1:
            raise ValueError(f"substitutions must be at least 1, not {substitutions}")
        self.substitutions = substitutions

    def derive(self, parent: Crystal, elements: IntArray, random: np.random.Generator) -> Derived | None:
        """See `CrystalSource`; None where charges or substitutes are not known."""
        charges = _charges(reduced_composition(parent.atomic_numbers))
        if charges is None or any(_radius(ion) is None for ion in charges.items()):
            return None
        taken = set(charges)
        swaps: dict[_Ion, _Ion] = {}
        for number in random.permutation(sorted(charges)).tolist():
            ion = (number, charges[number])
            weights = {
                other: weight
                for other, weight in _substitutes(ion).items()
                if other[0] in elements and other[0] not in taken
            }
            if not weights or len(swaps) == self.substitutions:
                continue
            total = sum(weights.values())
            chosen = random.choice(len(weights), p=[weight / total for weight in weights.values()])
            swaps[ion] = list(weights)[chosen]
            taken.add(swaps[ion][0])
        if not swaps:
            return None
        record = {"substituted": {_symbol(one): _symbol(other) for one, other in swaps.items()}}
        return Derived(_replaced(parent, charges, swaps), record)


def _replaced(parent: Crystal, charges: Mapping[int, int], swaps: Mapping[_Ion, _Ion]) -> Crystal:
    before = [(number, charges[number]) for number in parent.atomic_numbers.tolist()]
    after = [swaps.get(ion, ion) for ion in before]
    scale = sum(_radius(ion) or 0.0 for ion in after) / sum(_radius(ion) or 0.0 for ion in before)
    numbers = np.array([number for number, _ in after], dtype=np.int64)
    return replace(parent, lattice=parent.lattice * scale, atomic_numbers=numbers)


@lru_cache(maxsize=100_000)
def _charges(composition: tuple[tuple[int, int], ...]) -> dict[int, int] | None:
    """The likeliest charge of each element that makes a composition neutral; None without whole ones."""
    from pymatgen.core import Composition, Element

    guesses = Composition({Element.from_Z(number): count for number, count in composition}).oxi_state_guesses()
    if not guesses or any(value != round(value) or not value for value in guesses[0].values()):
        return None
    return {Element(symbol).Z: int(value) for symbol, value in guesses[0].items()}


@lru_cache(maxsize=1000)
def _substitutes(ion: _Ion) -> dict[_Ion, float]:
    """Ions of the same charge, each with its weight; ions without a radius are left out."""
    others = _table().get(ion, {})
    return {other: weight for other, weight in others.items() if other[1] == ion[1] and other != ion and _radius(other)}


@lru_cache(maxsize=1)
def _table() -> dict[_Ion, dict[_Ion, float]]:
    """How often ions replace each other in known compounds, up to a common factor; only what was observed."""
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability
    from pymatgen.core import Species

    # The class itself takes seconds to add up a normalisation that is not needed here.
    folder = resources.files(SubstitutionProbability.__module__.rpartition(".")[0])
    rows = json.loads((folder / "data" / "lambda.json").read_text())
    ions: dict[str, _Ion] = {}
    for name in {name for row in rows for name in row[:2]} - {"D1+"}:  # deuterium is no element here
        species = Species.from_str(name)
        ions[name] = (species.Z, int(species.oxi_state))
    table: dict[_Ion, dict[_Ion, float]] = {}
    for one, other, logarithm in rows:
        if one in ions and other in ions:
            table.setdefault(ions[one], {})[ions[other]] = float(np.exp(logarithm))
            table.setdefault(ions[other], {})[ions[one]] = float(np.exp(logarithm))
    return table


@lru_cache(maxsize=1000)
def _radius(ion: _Ion) -> float | None:
    """A; None where it is not known."""
    from pymatgen.core import Element, Species

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the many that are not known
        radius = Species(Element.from_Z(ion[0]).symbol, ion[1]).ionic_radius
    return float(radius) if radius else None


def _symbol(ion: _Ion) -> str:
    from pymatgen.core import Element

    size = str(abs(ion[1])) if abs(ion[1]) > 1 else ""
    return f"{Element.from_Z(ion[0]).symbol}{size}{'+' if ion[1] > 0 else '-'}"
