"""All metrics of a generator at once: a row per crystal, and figures with their denominators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from matwheel.data.checks import MAX_VOLUME
from matwheel.data.crystal import BoolArray, CrystalTable, FloatArray, IntArray
from matwheel.data.rows import LoadedTable
from matwheel.metrics.checks import StructureCheck, default_checks, run_check
from matwheel.metrics.condition_error import condition_error
from matwheel.metrics.coverage import CoverageCutoffs, coverage
from matwheel.metrics.distributions import densities, element_counts, wasserstein
from matwheel.metrics.figures import Figure, share
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.metrics.matching import MatchTolerances, find_groups, find_matches
from matwheel.metrics.memorisation import nearest_reference
from matwheel.metrics.pool import Pool
from matwheel.metrics.potential import Potential, energies
from matwheel.metrics.relaxation import RelaxationSettings, relax
from matwheel.metrics.stability import UsualEnergies
from matwheel.metrics.validity import composition_validity, in_one_piece, structure_validity

_ALL = "all rows"
_SANE = "structurally valid"
_VALID = "valid"
_REFERENCE = "reference crystals"
_USUAL = 0.95
"""Share of the reference crystals whose energy excess is usual."""


@dataclass(frozen=True)
class Settings:
    """What counts as near, equal and valid.

    Attributes:
        cutoffs: Distances of fingerprints for coverage.
        tolerances: When two crystals are the same.
        min_distance: A; a crystal with a closer pair of atoms is structurally invalid.
        checks: Further numbers of single crystals.
        potential: Says how stable the crystals are; None to leave that out.
        relaxation: How far crystals are relaxed with it.
    """

    cutoffs: CoverageCutoffs = field(default_factory=CoverageCutoffs)
    tolerances: MatchTolerances = field(default_factory=MatchTolerances)
    min_distance: float = 0.5
    checks: Sequence[StructureCheck] = field(default_factory=default_checks)
    potential: Potential | None = None
    relaxation: RelaxationSettings = field(default_factory=RelaxationSettings)


@dataclass(frozen=True)
class Judge:
    """A predictor that says whether conditions were met.

    Attributes:
        name: For tables.
        predict: Property of n crystals -> [n], by a predictor that was trained on crystals the generator has not seen,
            at best.
        condition: Column of the generated table with the values that were asked for.
        unit: Of the property; empty where it is not known or there is none.
    """

    name: str
    predict: Callable[[CrystalTable], FloatArray]
    condition: str
    unit: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        structures: A row per row of the source, in its order.
        figures: Aggregates.
        failures: By step, the number of crystals by what went wrong.
        histograms: By quantity and set (`generated`, `reference`), the number of crystals by value.
    """

    structures: pd.DataFrame
    figures: tuple[Figure, ...]
    failures: Mapping[str, Mapping[str, int]]
    histograms: Mapping[str, Mapping[str, Mapping[int, int]]]


def evaluate(
    generated: LoadedTable,
    reference: CrystalTable,
    reference_fingerprints: Fingerprints,
    settings: Settings | None = None,
    pool: Pool | None = None,
    judges: Sequence[Judge] = (),
) -> Evaluation:
    """Compute all metrics.

    Args:
        generated: See `matwheel.metrics.generated.read_generated`.
        reference: The crystals to compare with: the training set for novelty and memorisation, a test set for coverage.
        reference_fingerprints: Of the reference, see `Fingerprints.cached`.
        settings: Cut-offs and tolerances.
        pool: Processes and time-out of the slow parts.
        judges: Predictors that judge conditions.
    """
    return _Evaluator(generated, reference, settings or Settings(), pool or Pool()).run(reference_fingerprints, judges)


class _Evaluator:
    """Collects columns, figures and failures step by step."""

    def __init__(self, generated: LoadedTable, reference: CrystalTable, settings: Settings, pool: Pool) -> None:
        self.generated = generated
        self.table = generated.table
        self.total = generated.report.total
        self.reference = reference
        self.settings = settings
        self.pool = pool
        self.columns: dict[str, Any] = {}
        self.figures: list[Figure] = []
        self.failures: dict[str, dict[str, int]] = {}
        self.histograms: dict[str, dict[str, dict[int, int]]] = {}

    def run(self, reference_fingerprints: Fingerprints, judges: Sequence[Judge]) -> Evaluation:
        potential = self.settings.potential
        # First, as it can fail: with too few crystals in the reference, hours of other checks would be lost.
        usual = None if potential is None else UsualEnergies.of(self.reference, potential, self.pool)
        sane, valid = self._validity()
        self._coverage(reference_fingerprints)
        self._distributions(valid)
        self._sameness(sane, valid)
        for check in self.settings.checks:
            self._check(check, sane)
        if potential is not None and usual is not None:
            self._stability(potential, usual, sane)
        for judge in judges:
            self._conditions(judge, sane)
        return Evaluation(self._structures(), tuple(self.figures), self.failures, self.histograms)

    def _validity(self) -> tuple[BoolArray, BoolArray]:
        report = self.generated.report
        self._note_failures("reading", [bad.reason.value for bad in report.bad])
        readable = np.ones(len(self.table), dtype=np.bool_)
        structure = structure_validity(self.table, self.settings.min_distance)
        composition = composition_validity(self.table)
        valid = structure.valid & composition
        self.columns |= {
            "num_atoms": self.table.num_atoms,
            "volume": structure.volume,
            "structure_valid": structure.valid,
            "composition_valid": composition,
            "valid": valid,
        }
        for name, passed in (
            ("readable", readable),
            ("structure valid", structure.valid),
            ("composition valid", composition),
            ("valid (both)", valid),
        ):
            self.figures.append(share(name, passed, _ALL, self.total))
        sparse = structure.volume[structure.valid] / self.table.num_atoms[structure.valid] > MAX_VOLUME
        whole = in_one_piece(self.table.take(np.flatnonzero(structure.valid)))
        self.columns["in_one_piece"] = _spread(whole, np.flatnonzero(structure.valid), len(self.table))
        self.figures += [
            share("in one piece", whole, _SANE),
            share("  of the reference", in_one_piece(self.reference), _REFERENCE),
        ]
        self.figures.append(share(f"above {MAX_VOLUME:g} A^3 per atom", sparse, _SANE))  # valid for CDVAE all the same
        return structure.valid, valid

    def _coverage(self, reference: Fingerprints) -> None:
        made = Fingerprints.of(self.table, self.pool, "Fingerprints")
        self._note_failures("fingerprint", made.failures)
        self._note_failures("fingerprint of the reference", reference.failures)
        covered = coverage(made, reference, self.settings.cutoffs)
        near = nearest_reference(made, reference, self.settings.cutoffs)
        own = nearest_reference(reference, reference, self.settings.cutoffs, other_rows=True)
        known = near.row >= 0
        self.columns |= {
            "near_reference": covered.generated,
            "nearest_reference": np.where(known, self.reference.ids[near.row], ""),
            "nearest_distance": near.distance,
            "structure_distance": near.structure,
            "composition_distance": near.composition,
        }
        self.figures += [
            share("fingerprint", made.known, _ALL, self.total),
            share("COV-R", covered.reference, _REFERENCE),
            share("COV-P", covered.generated, _ALL, self.total),
            _median("median distance to the nearest reference", near.distance, "with fingerprint"),
            _median("  the same within the reference", own.distance, "reference with fingerprint"),
        ]

    def _distributions(self, valid: BoolArray) -> None:
        density, elements = densities(self.table), element_counts(self.table)
        self.columns |= {"density": density, "num_elements": elements}
        chosen, expected = density[valid], densities(self.reference)
        numbers, expected_numbers = elements[valid], element_counts(self.reference)
        self.figures += [
            Figure("Wasserstein density", wasserstein(chosen, expected), len(chosen), _VALID, unit="g/cm^3"),
            Figure("Wasserstein number of elements", wasserstein(numbers, expected_numbers), len(numbers), _VALID),
        ]
        self._note_histogram("num_elements", numbers, expected_numbers)
        self._note_histogram("num_atoms", self.table.num_atoms[valid], self.reference.num_atoms)

    def _sameness(self, sane: BoolArray, valid: BoolArray) -> None:
        rows = np.flatnonzero(sane)
        candidates = self.table.take(rows)
        groups = find_groups(candidates, self.settings.tolerances, self.pool)
        matches = find_matches(candidates, self.reference, self.settings.tolerances, self.pool)
        self._note_failures("uniqueness", groups.failures)
        self._note_failures("novelty", matches.failures)
        unique, novel = _spread(groups.unique, rows, len(sane)), _spread(matches.novel, rows, len(sane))
        first = np.full(len(sane), "", dtype=object)
        first[rows] = np.where(groups.first == np.arange(len(rows)), "", candidates.ids[groups.first])
        counterpart = np.full(len(sane), "", dtype=object)
        counterpart[rows] = np.where(matches.row >= 0, self.reference.ids[matches.row], "")
        self.columns |= {
            "unique": unique,
            "duplicate_of": first,
            "novel": novel,
            "matched_reference": counterpart,
            "match_rms": _spread(matches.rms, rows, len(sane)),
        }
        self.figures += [
            share("unique", groups.unique, _SANE),
            share("novel", matches.novel, _SANE),
            share("copies of reference crystals", matches.row >= 0, _SANE),
            share("valid, unique and novel", valid & unique & novel, _ALL, self.total),
        ]

    def _check(self, check: StructureCheck, sane: BoolArray) -> None:
        rows = np.flatnonzero(sane)
        mine = run_check(check, self.table.take(rows), self.pool)
        theirs = run_check(check, self.reference, self.pool, f"{check.column} of the reference")
        self._note_failures(check.column, mine.failures)
        self._note_failures(f"{check.column} of the reference", theirs.failures)
        self.columns[check.column] = _spread(mine.values, rows, len(sane))
        values, expected = mine.values[~np.isnan(mine.values)], theirs.values[~np.isnan(theirs.values)]
        self.figures += check.summary(values, expected)
        if check.is_class:
            self._note_histogram(check.column, values.astype(np.int64), expected.astype(np.int64))

    def _stability(self, potential: Potential, usual: UsualEnergies, sane: BoolArray) -> None:
        """Energies as made and after relaxation against those of the reference, which is taken for real."""
        self._note_failures("energy of the reference", usual.failures)
        rows = np.flatnonzero(sane)
        self._excess("energy excess", self.table.take(rows), rows, usual, potential)
        if not self.settings.relaxation.max_steps:
            return
        outcomes = relax(self.table.take(rows), potential, self.settings.relaxation, self.pool)
        self._note_failures("relaxation", [outcome.failure for outcome in outcomes])
        rows = rows[[outcome.value is not None for outcome in outcomes]]
        relaxed = [outcome.value for outcome in outcomes if outcome.value is not None]
        crystals = CrystalTable.from_crystals([one.crystal for one in relaxed])
        self._excess("relaxed energy excess", crystals, rows, usual, potential)
        drop = np.array([one.energy_drop for one in relaxed], dtype=np.float64)
        self.columns["energy_drop"] = _spread(drop, rows, len(self.table))
        self.figures.append(_median("median energy lost in relaxation", drop, "relaxed", "eV/atom"))

    def _excess(
        self, name: str, crystals: CrystalTable, rows: IntArray, usual: UsualEnergies, potential: Potential
    ) -> None:
        found = energies(crystals, potential, self.pool)
        self._note_failures(name, found.failures)
        excess, threshold = usual.excess_of(crystals, found), usual.threshold(_USUAL)
        self.columns[name.replace(" ", "_")] = _spread(excess, rows, len(self.table))
        total = int(self.columns["structure_valid"].sum())
        self.figures += [
            _median(f"median {name}", excess, "with energy", "eV/atom"),
            share(f"usual {name}", excess <= threshold, _SANE, total),
            Figure(
                f"  below, as {_USUAL:.0%} of the reference", threshold, len(usual.excess), _REFERENCE, None, "eV/atom"
            ),
        ]

    def _conditions(self, judge: Judge, sane: BoolArray) -> None:
        rows = np.flatnonzero(sane)
        predicted = _spread(judge.predict(self.table.take(rows)), rows, len(sane))
        asked = self.table.properties[judge.condition]
        self.columns |= {judge.condition: asked, f"predicted ({judge.name})": predicted}
        found = condition_error(asked, predicted)
        of = f"{_SANE}, with a condition"
        self.figures += [
            Figure(f"condition MAE ({judge.name})", found.mae, found.count, of, unit=judge.unit),
            Figure("  the same, conditions shuffled", found.shuffled_mae, found.count, of, unit=judge.unit),
            Figure("  p-value of the difference", found.p_value, found.count, of),
            Figure("  rank correlation", found.rank_correlation, found.count, of),
        ]

    def _note_failures(self, step: str, failures: Sequence[str]) -> None:
        counts = Counter(failure for failure in failures if failure)
        if counts:
            self.failures[step] = dict(counts.most_common())

    def _note_histogram(self, name: str, generated: IntArray, reference: IntArray) -> None:
        self.histograms[name] = {
            kind: {int(value): int(count) for value, count in zip(*np.unique(sample, return_counts=True), strict=True)}
            for kind, sample in (("generated", generated), ("reference", reference))
        }

    def _structures(self) -> pd.DataFrame:
        good = pd.DataFrame({"row": self.generated.source_rows, "id": self.table.ids, "unreadable": "", **self.columns})
        bad = self.generated.report.bad
        if not bad:
            return good
        lost = pd.DataFrame(
            [{"row": row.row, "id": row.id, "unreadable": f"{row.reason.value}: {row.detail}"} for row in bad]
        )
        return pd.concat([good, lost]).sort_values("row", ignore_index=True)


def _median(name: str, values: FloatArray, of: str, unit: str = "cut-offs") -> Figure:
    known = values[np.isfinite(values)]
    return Figure(name, float(np.median(known)) if len(known) else np.nan, len(known), of, unit=unit)


def _spread(values: Any, rows: IntArray, total: int) -> Any:
    """Values of some rows among all: False or NaN for the others."""
    result = np.full(total, False if values.dtype == np.bool_ else np.nan, dtype=values.dtype)
    result[rows] = values
    return result
