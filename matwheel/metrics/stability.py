"""How much higher in energy crystals are than real ones of similar composition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.metrics.composition import composition_fingerprints
from matwheel.metrics.pool import Pool
from matwheel.metrics.potential import Energies, Potential, energies

_MOST = 4000
"""Real crystals compared with, for the sake of time and memory: evenly spaced ones of more."""
_WIDTH = 3.0  # of the kernel, in median distances of the real compositions
_RIDGE = 0.01


@dataclass(frozen=True)
class UsualEnergies:
    """What the energies of real crystals lead one to expect.

    The energy of a compound says little about its stability: oxides lie eV below tellurides. What can be compared is
    the excess over the energy expected for the composition. Here this is a kernel ridge regression (Laplacian kernel on
    standardised Magpie statistics) of the energies of real crystals, relative to the potential's energies of the
    elements; a real crystal is compared with what the others lead one to expect of it (leave-one-out). On the
    1,056 crystals of `mp_poly_total` the excess has a standard deviation of 0.16 eV per atom; about a linear fit of an
    energy per element, also leave-one-out, it is 0.42. Kernel, width and ridge were chosen by such errors on this data
    set and on 636 monolayers, where the two are 0.26 and 0.49. It is no energy above the convex hull: it finds crystals
    that are badly built, not those that would decompose.

    Attributes:
        points: [m, 132], composition fingerprints of the real crystals.
        width: Of the kernel.
        mean: eV per atom, of their energies.
        weights: [m], of the kernels.
        excess: [m], eV per atom, of the real crystals.
        failures: Why there is no energy, of each real crystal that is left out.
    """

    points: FloatArray
    width: float
    mean: float
    weights: FloatArray
    excess: FloatArray
    failures: tuple[str, ...]

    @classmethod
    def of(cls, real: CrystalTable, potential: Potential, pool: Pool | None = None) -> UsualEnergies:
        """Compute the energies of real crystals; of more than 4,000 as many, evenly spaced.

        Args:
            real: Real crystals.
            potential: Energies.
            pool: Processes and time-out.

        Raises:
            ValueError: If fewer than two of them have an energy.
        """
        rows = np.unique(np.linspace(0, len(real) - 1, min(len(real), _MOST)).astype(np.int64))
        real = real.take(rows)
        found = energies(real, potential, pool, "Energies of real crystals")
        return cls.fit(real, found)

    @classmethod
    def fit(cls, real: CrystalTable, found: Energies) -> UsualEnergies:
        """Learn from energies that are known, see `of`."""
        if found.known.sum() < 2:
            raise ValueError(
                f"{int(found.known.sum())} of {len(real)} real crystals have an energy by the potential: two at least "
                "are needed to say what is usual"
            )
        points, values = composition_fingerprints(real)[found.known], found.per_atom[found.known]
        distances = cdist(points, points, "cityblock")
        typical = float(np.median(distances[~np.eye(len(points), dtype=np.bool_)]))
        width = _WIDTH * typical if typical > 0 else 1.0  # all of one composition
        factor = cho_factor(np.exp(-distances / width) + _RIDGE * np.eye(len(points)))
        weights = cho_solve(factor, values - values.mean())
        left_out = weights / np.diag(cho_solve(factor, np.eye(len(points))))
        failures = tuple(failure for failure in found.failures if failure)
        return cls(points, width, float(values.mean()), weights, left_out, failures)

    def excess_of(self, crystals: CrystalTable, found: Energies) -> FloatArray:
        """[n], eV per atom, how much higher the energies of crystals are than expected; NaN where there is none."""
        excess = np.full(len(crystals), np.nan)
        rows = np.flatnonzero(found.known)
        if len(rows):
            distances = cdist(composition_fingerprints(crystals)[rows], self.points, "cityblock")
            excess[rows] = found.per_atom[rows] - self.mean - np.exp(-distances / self.width) @ self.weights
        return excess

    def threshold(self, quantile: float) -> float:
        """The excess, eV per atom, below which this fraction of the real crystals lie."""
        return float(np.quantile(self.excess, quantile))
