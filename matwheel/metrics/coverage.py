"""Coverage of a reference set by generated crystals, and the other way round (CDVAE, arXiv 2110.06197)."""

from __future__ import annotations

from dataclasses import dataclass

from matwheel.data.crystal import BoolArray
from matwheel.metrics.fingerprints import Fingerprints, nearest


@dataclass(frozen=True)
class CoverageCutoffs:
    """Largest distances of fingerprints at which crystals count as alike.

    CDVAE's choices: 0.4 and 10 for MP-20, 0.2 and 4 for Perov-5 and Carbon-24.

    Attributes:
        structure: Of structure fingerprints.
        composition: Of composition fingerprints.
    """

    structure: float = 0.4
    composition: float = 10.0

    def __post_init__(self) -> None:
        if not (self.structure > 0 and self.composition > 0):
            raise ValueError(f"cut-offs must be above 0: structure {self.structure}, composition {self.composition}")


@dataclass(frozen=True)
class Coverage:
    """Which crystals have a counterpart in the other set.

    Attributes:
        generated: [n], near to a reference crystal; False where there is no fingerprint.
        reference: [m], near to a generated crystal.
    """

    generated: BoolArray
    reference: BoolArray

    @property
    def precision(self) -> float:
        """COV-P: share of all generated crystals, those without fingerprint included; NaN if there are none."""
        return float(self.generated.mean()) if len(self.generated) else float("nan")

    @property
    def recall(self) -> float:
        """COV-R: share of the reference crystals; NaN if there are none."""
        return float(self.reference.mean()) if len(self.reference) else float("nan")


def coverage(generated: Fingerprints, reference: Fingerprints, cutoffs: CoverageCutoffs | None = None) -> Coverage:
    """Compare two sets.

    As in the released code of CDVAE, from which the published figures come, a crystal counts if its nearest structure
    *and* its nearest composition are within the cut-offs, even where these belong to different crystals.

    Args:
        generated: n fingerprints.
        reference: m fingerprints.
        cutoffs: Those of MP-20 by default.
    """
    cutoffs = cutoffs or CoverageCutoffs()

    def covered(points: Fingerprints, others: Fingerprints) -> BoolArray:
        others = others.take(others.known.nonzero()[0])
        near_structure = nearest(points.structure, others.structure).distance <= cutoffs.structure
        near_composition = nearest(points.composition, others.composition).distance <= cutoffs.composition
        result: BoolArray = points.known & near_structure & near_composition
        return result

    return Coverage(covered(generated, reference), covered(reference, generated))
