"""A filter that asks a pretrained potential: crystals are relaxed, and those of too high an energy removed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from matwheel.data.crystal import REAL, Crystal, CrystalTable
from matwheel.flywheel.filters import BasicFilter, Filter, FilterResult, FilterStep
from matwheel.metrics.pool import Pool
from matwheel.metrics.potential import CHGNet, Potential, energies
from matwheel.metrics.relaxation import RelaxationSettings, Relaxed, relax
from matwheel.metrics.stability import UsualEnergies

_DEFAULT_RELAXATION = RelaxationSettings()
_DEFAULT_POOL = Pool(progress=True)


class Verifier(Filter):
    """Valid, new crystals that are at rest and not much higher in energy than real ones.

    First come the steps of a `BasicFilter`. What is left is relaxed for a few steps, so that bond lengths become those
    of the potential, and has to pass the same steps again: relaxation may close gaps, or lead two samples to one
    crystal. The relaxed crystals replace the samples, under the same ids; what was done is added to their origin. At
    last crystals are removed whose energy is higher above the one expected for their composition
    (`matwheel.metrics.stability`) than that of most real training crystals.

    For monolayers with vacuum, keep the cell: `relaxation.fixed_cell`.

    Args:
        basic: Checks before and after the relaxation; all of them by default.
        relaxation: How far crystals are relaxed; None to leave them as they are.
        energy_quantile: Fraction of the real training crystals that lie below the threshold of the energy excess; None
            for no threshold.
        energy_margin: eV/atom, added to the threshold.
        potential: Energies and forces; CHGNet by default.
        pool: Processes and time-out; failures are counted in the report.
    """

    def __init__(
        self,
        basic: BasicFilter | None = None,
        relaxation: RelaxationSettings | None = _DEFAULT_RELAXATION,
        energy_quantile: float | None = 0.95,
        energy_margin: float = 0.0,
        potential: Potential | None = None,
        pool: Pool = _DEFAULT_POOL,
    ) -> None:
        if energy_quantile is not None and not 0 < energy_quantile <= 1:
            raise ValueError(f"the energy quantile must be above 0 and at most 1, not {energy_quantile}")
        self.basic = basic if basic is not None else BasicFilter()
        self.relaxation = relaxation
        self.energy_quantile = energy_quantile
        self.energy_margin = energy_margin
        self.potential = potential if potential is not None else CHGNet()
        self.pool = pool

    def apply(self, samples: CrystalTable, training: CrystalTable) -> FilterResult:
        """See `Filter.apply`; steps: those of the basic filter, relaxation, those again, energy."""
        result = self.basic.apply(samples, training)
        crystals, steps = result.crystals, list(result.steps)
        if self.relaxation is not None:
            crystals, step = self._relax(crystals, self.relaxation)
            again = self.basic.apply(crystals, training)
            crystals = again.crystals
            steps += [step, *(replace(step, name=f"{step.name} after relaxation") for step in again.steps)]
        if self.energy_quantile is not None:
            crystals, step = self._below_threshold(crystals, training, self.energy_quantile)
            steps.append(step)
        return FilterResult(crystals, tuple(steps))

    def _relax(self, samples: CrystalTable, settings: RelaxationSettings) -> tuple[CrystalTable, FilterStep]:
        outcomes = relax(samples, self.potential, settings, self.pool)
        relaxed = [outcome.value for outcome in outcomes if outcome.value is not None]
        record = {**_describe(self.potential), **asdict(settings)}
        crystals = CrystalTable.from_crystals([_with_origin(one, record) for one in relaxed])
        passed = np.array([outcome.value is not None for outcome in outcomes], dtype=np.bool_)
        failures = [outcome.failure for outcome in outcomes]
        return crystals, FilterStep.of("relaxation", passed, failures, _summary(relaxed, settings.max_force))

    def _below_threshold(
        self, crystals: CrystalTable, training: CrystalTable, quantile: float
    ) -> tuple[CrystalTable, FilterStep]:
        if not len(crystals):  # the energies of real ones take minutes
            return crystals, FilterStep.of("energy", np.zeros(0, dtype=np.bool_))
        real = training.take(np.flatnonzero(training.origins == REAL))
        usual = UsualEnergies.of(real, self.potential, self.pool)
        found = energies(crystals, self.potential, self.pool)
        threshold = usual.threshold(quantile) + self.energy_margin
        passed = usual.excess_of(crystals, found) <= threshold  # not where there is no energy
        numbers = {"threshold": threshold, "real_without_energy": len(usual.failures)}
        step = FilterStep.of("energy", passed, found.failures, numbers)
        return crystals.take(np.flatnonzero(passed)), step


def _summary(relaxed: Sequence[Relaxed], max_force: float) -> dict[str, float]:
    if not relaxed:
        return {}
    return {
        "converged": float(np.mean([one.force < max_force for one in relaxed])),
        "median_steps": float(np.median([one.steps for one in relaxed])),
        "median_energy_drop": float(np.median([one.energy_drop for one in relaxed])),
    }


def _with_origin(relaxed: Relaxed, record: Mapping[str, Any]) -> Crystal:
    done = {**record, "steps": relaxed.steps, "energy_drop": round(relaxed.energy_drop, 6)}
    origin = {**json.loads(relaxed.crystal.origin), "relaxation": done}
    return replace(relaxed.crystal, origin=json.dumps(origin))


def _describe(potential: Potential) -> dict[str, Any]:
    return {"potential": type(potential).__name__, **vars(potential)}
