"""How near generated crystals are to the crystals a generator was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matwheel.data.crystal import FloatArray, IntArray
from matwheel.metrics.coverage import CoverageCutoffs
from matwheel.metrics.fingerprints import Fingerprints, nearest_of_all


@dataclass(frozen=True)
class NearestReference:
    """The reference crystal most like each generated one.

    Attributes:
        distance: [n], the larger of structure and composition distance, each in units of its coverage cut-off: 1 or
            less means that one crystal is near in both. Infinite where there is no fingerprint.
        row: [n], row of the reference crystal, -1 where there is no fingerprint.
        structure: [n], distance of the structure fingerprints; NaN where there is none.
        composition: [n], distance of the composition fingerprints; NaN where there is none.
    """

    distance: FloatArray
    row: IntArray
    structure: FloatArray
    composition: FloatArray


def nearest_reference(
    generated: Fingerprints,
    reference: Fingerprints,
    cutoffs: CoverageCutoffs | None = None,
    other_rows: bool = False,
) -> NearestReference:
    """Find the reference crystal whose fingerprints are nearest.

    Args:
        generated: n fingerprints.
        reference: m fingerprints.
        cutoffs: Units of the two distances; those of MP-20 by default.
        other_rows: Do not take a row for its own neighbour: what is usual within one set, given as both.
    """
    cutoffs = cutoffs or CoverageCutoffs()
    found = nearest_of_all(
        [generated.structure, generated.composition],
        [reference.structure, reference.composition],
        [cutoffs.structure, cutoffs.composition],
        other_rows,
    )
    known = found.row >= 0

    def distances(points: FloatArray, others: FloatArray) -> FloatArray:
        result = np.full(len(points), np.nan)
        result[known] = np.linalg.norm(points[known] - others[found.row[known]], axis=1)
        return result

    return NearestReference(
        found.distance,
        found.row,
        distances(generated.structure, reference.structure),
        distances(generated.composition, reference.composition),
    )
