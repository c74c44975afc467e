"""How far a set of crystals has moved from the real ones: elements, labels, diversity, distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable, FloatArray, IntArray
from matwheel.metrics.composition import composition_fingerprints

_BLOCK = 512  # rows of a distance matrix held at a time


@dataclass(frozen=True)
class SetStatistics:
    """Numbers of one set of crystals, beside those of the real training crystals.

    Distances are between compositions: root mean square differences of their standardised Magpie statistics
    (`composition_fingerprints`).

    Attributes:
        element_drift: Jensen-Shannon distance (base 2) between the element frequencies of the set and those of the real
            training crystals: 0 for equal ones, 1 for no element in common.
        label_q05: 5 % quantile of the labels, user's units.
        label_q50: Their median.
        label_q95: Their 95 % quantile.
        diversity: Mean distance of two different crystals of the set.
        nearest_training: Mean distance of a crystal to the nearest real training crystal other than itself.
    """

    element_drift: float
    label_q05: float
    label_q50: float
    label_q95: float
    diversity: float
    nearest_training: float


def set_statistics(crystals: CrystalTable, labels: FloatArray, training: CrystalTable) -> SetStatistics:
    """Compare crystals with the real training crystals.

    Args:
        crystals: The set; crystals with the id of a training crystal are not compared with that one.
        labels: [m], those of the crystals that have one, user's units.
        training: Real training crystals.
    """
    features, reference = (_features(table) for table in (crystals, training))
    low, middle, high = np.quantile(labels, [0.05, 0.5, 0.95])
    return SetStatistics(
        element_drift=_jensen_shannon(element_frequencies(crystals), element_frequencies(training)),
        label_q05=float(low),
        label_q50=float(middle),
        label_q95=float(high),
        diversity=_mean_pairwise(features),
        nearest_training=_mean_nearest(features, reference, _positions(crystals, training)),
    )


def element_frequencies(table: CrystalTable) -> FloatArray:
    """[100], the mean fraction of atoms of each element, in which every crystal counts alike."""
    per_atom = 1 / (np.repeat(table.num_atoms, table.num_atoms) * len(table))
    frequencies: FloatArray = np.bincount(table.atomic_numbers - 1, per_atom, MAX_ATOMIC_NUMBER).astype(np.float64)
    return frequencies


def _jensen_shannon(p: FloatArray, q: FloatArray) -> float:
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / (2 * np.log(2))
    return float(np.sqrt(max(divergence, 0.0)))  # rounding may make it negative where both are nearly equal


def _features(table: CrystalTable) -> FloatArray:
    """Points whose Euclidean distance is the root mean square difference of composition fingerprints."""
    fingerprints = composition_fingerprints(table)
    scaled: FloatArray = fingerprints / np.sqrt(fingerprints.shape[1])
    return scaled


def _mean_pairwise(features: FloatArray) -> float:
    n = len(features)
    if n < 2:
        return float("nan")
    total = sum(float(cdist(features[start : start + _BLOCK], features).sum()) for start in range(0, n, _BLOCK))
    return total / (n * (n - 1))


def _mean_nearest(features: FloatArray, reference: FloatArray, itself: IntArray) -> float:
    nearest = []
    for start in range(0, len(features), _BLOCK):
        distances = cdist(features[start : start + _BLOCK], reference)
        own = itself[start : start + _BLOCK]
        rows = np.flatnonzero(own >= 0)
        distances[rows, own[rows]] = np.inf
        nearest.append(distances.min(1))
    return float(np.concatenate(nearest).mean())


def _positions(crystals: CrystalTable, training: CrystalTable) -> IntArray:
    """Row of each crystal among the training crystals; -1 for those that are none of them."""
    rows = {name: row for row, name in enumerate(training.ids.tolist())}
    return np.array([rows.get(name, -1) for name in crystals.ids.tolist()], dtype=np.int64)
