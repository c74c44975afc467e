"""Fingerprints of crystals: what surrounds the atoms, and what they are. Distances between them decide coverage."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from matwheel.data.checks import MIN_VOLUME
from matwheel.data.crystal import BoolArray, Crystal, CrystalTable, FloatArray, IntArray
from matwheel.data.graphs import default_cache_dir
from matwheel.data.unpacking import check_archive
from matwheel.files import WriteError, replaced_when_complete
from matwheel.metrics.composition import composition_fingerprints
from matwheel.metrics.pool import Pool, of_the_machine
from matwheel.metrics.validity import structure_validity

log = logging.getLogger(__name__)

NOT_A_CELL = "no sane cell"
STRUCTURE_LENGTH = 61
"""Length of the structure fingerprint."""
_HEAVIEST = 96
"""Curium: CrystalNN has no radius of heavier elements."""
_FORMAT_VERSION = 1
_CHUNK = 1024  # rows of a distance matrix at a time


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of n crystals.

    Attributes:
        structure: [n, 61], see `structure_fingerprint`; NaN where there is none.
        composition: [n, 132], see `matwheel.metrics.composition.composition_fingerprints`.
        failures: [n], why there is no structure fingerprint; empty where there is one.
    """

    structure: FloatArray
    composition: FloatArray
    failures: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.failures)

    @property
    def known(self) -> BoolArray:
        """[n], whether there is a fingerprint."""
        return np.array([not failure for failure in self.failures], dtype=np.bool_)

    def take(self, rows: Sequence[int] | IntArray) -> Fingerprints:
        """Rows by position."""
        failures = tuple(self.failures[row] for row in rows)
        return Fingerprints(self.structure[rows], self.composition[rows], failures)

    @classmethod
    def of(cls, table: CrystalTable, pool: Pool | None = None, label: str = "Fingerprints") -> Fingerprints:
        """Compute the fingerprints of all crystals; about 0.2 s per crystal and process.

        Cells that are not finite, or collapsed to less than 1 A^3 per atom, are not attempted: neighbours would be
        searched among thousands of images for what resembles no crystal.

        Args:
            table: The crystals.
            pool: Processes and time-out.
            label: Title of the progress bar.
        """
        structure = np.full((len(table), STRUCTURE_LENGTH), np.nan)
        failures = np.full(len(table), NOT_A_CELL, dtype=object)
        geometry = structure_validity(table)
        rows = np.flatnonzero(~np.isnan(geometry.closest_pair) & (geometry.volume >= MIN_VOLUME * table.num_atoms))
        outcomes = (pool or Pool()).map(structure_fingerprint, list(table.take(rows)), label)
        for row, outcome in zip(rows, outcomes, strict=True):
            failures[row] = outcome.failure
            if outcome.value is not None:
                structure[row] = outcome.value
        return cls(structure, composition_fingerprints(table), tuple(failures.tolist()))

    @classmethod
    def cached(
        cls,
        table: CrystalTable,
        pool: Pool | None = None,
        cache_dir: Path | None = None,
        label: str = "Fingerprints of the reference",
    ) -> Fingerprints:
        """Load the fingerprints of a table from the cache, computing them the first time.

        Args:
            table: The crystals.
            pool: Processes and time-out; with time-outs or crashes among the failures nothing is stored.
            cache_dir: `$MATWHEEL_CACHE` or the user's cache folder by default.
            label: Title of the progress bar.
        """
        key = hashlib.sha256(f"{_FORMAT_VERSION} {_versions()} {table.fingerprint()}".encode()).hexdigest()
        path = Path(cache_dir or default_cache_dir()) / f"fingerprints-{key[:16]}.npz"
        if path.is_file():
            try:
                return cls._load(path, table)
            except Exception as error:  # damaged files fail in many ways: each means unreadable
                log.warning("%s cannot be read (%s): the fingerprints are computed again", path, error)
        made = cls.of(table, pool, label)
        if not any(map(of_the_machine, made.failures)):
            try:
                made._save(path)
            except WriteError as error:  # what needs them can go on
                log.warning("%s: the fingerprints are not cached (the variable MATWHEEL_CACHE names the folder)", error)
        return made

    def _save(self, path: Path) -> None:
        with replaced_when_complete(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, structure=self.structure, failures=np.array(self.failures, dtype=np.str_))
        log.info("cached the fingerprints of %d crystals in %s", len(self), path)

    @classmethod
    def _load(cls, path: Path, table: CrystalTable) -> Fingerprints:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            structure, failures = file["structure"], tuple(file["failures"].tolist())
        if structure.shape != (len(table), STRUCTURE_LENGTH) or len(failures) != len(table):
            raise ValueError("it is of another table")
        return cls(structure, composition_fingerprints(table), failures)


def structure_fingerprint(crystal: Crystal) -> FloatArray:
    """Mean over the sites of local order parameters, as in CDVAE (arXiv 2110.06197, appendix G).

    The site fingerprint is CrystalNN's (Zimmermann and Jain, RSC Adv. 10, 6063, 2020): weights of the coordination
    numbers 1 to 24 and, for those up to 12, the likeness to known motifs.

    Args:
        crystal: One crystal.

    Returns:
        [61].

    Raises:
        ValueError: If an atom has no neighbour, an element is beyond curium, or the fingerprint is not finite.
    """
    fingerprint: FloatArray = site_fingerprints(crystal).mean(axis=0)
    if not np.isfinite(fingerprint).all():
        raise ValueError("the fingerprint is not finite")
    return fingerprint


def site_fingerprints(crystal: Crystal) -> FloatArray:
    """[sites, 61], CrystalNN's fingerprint of each site of a crystal, see `structure_fingerprint`.

    Raises:
        ValueError: If an atom has no neighbour, or an element is beyond curium.
    """
    heaviest = int(crystal.atomic_numbers.max())
    if heaviest > _HEAVIEST:
        raise ValueError(f"no fingerprint for {chemical_symbols[heaviest]}: the radii it needs end with Cm")
    structure, featuriser = crystal.to_structure(), _site_featuriser()
    return np.array([featuriser.featurize(structure, site) for site in range(len(structure))], dtype=np.float64)


def site_names() -> tuple[str, ...]:
    """[61], names of `site_fingerprints`."""
    return tuple(_site_featuriser().feature_labels())


@dataclass(frozen=True)
class Nearest:
    """For each of n fingerprints the nearest of m others; infinite and -1 where there is none.

    Attributes:
        distance: [n].
        row: [n], of the nearest.
    """

    distance: FloatArray
    row: IntArray


def nearest(points: FloatArray, others: FloatArray) -> Nearest:
    """Nearest neighbours by Euclidean distance, in double precision.

    Args:
        points: [n, d]; a point with NaN has no neighbour.
        others: [m, d]; a point with NaN is nobody's neighbour.
    """
    return nearest_of_all([points], [others], [1.0])


def nearest_of_all(
    points: Sequence[FloatArray], others: Sequence[FloatArray], scales: Sequence[float], other_rows: bool = False
) -> Nearest:
    """Nearest neighbours by the largest of several scaled Euclidean distances.

    Args:
        points: [n, d] for each kind of fingerprint.
        others: [m, d] for each kind of fingerprint.
        scales: What each distance is divided by.
        other_rows: Leave out the neighbour in the same row.
    """
    known = np.flatnonzero(_complete(others))
    rows = np.flatnonzero(_complete(points))
    distance, row = np.full(len(points[0]), np.inf), np.full(len(points[0]), -1)
    if not len(known):
        return Nearest(distance, row)
    targets = [torch.from_numpy(other[known]) for other in others]
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        scaled = [
            _distances(torch.from_numpy(point[chunk]), target) / scale
            for point, target, scale in zip(points, targets, scales, strict=True)
        ]
        largest = torch.stack(scaled).amax(0)
        if other_rows:
            largest[torch.from_numpy(chunk[:, None] == known)] = torch.inf
        closest = largest.min(1)
        distance[chunk] = closest.values.numpy()
        row[chunk] = known[closest.indices.numpy()]
    row[np.isinf(distance)] = -1
    return Nearest(distance, row)


def _distances(points: Tensor, others: Tensor) -> Tensor:
    # The shortcut by a matrix product leaves 1e-7 between equal points.
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def _complete(fingerprints: Sequence[FloatArray]) -> BoolArray:
    complete: BoolArray = np.all([np.isfinite(fingerprint).all(1) for fingerprint in fingerprints], axis=0)
    return complete


@lru_cache(maxsize=1)
def _site_featuriser() -> Any:
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

    return CrystalNNFingerprint.from_preset("ops")


def _versions() -> str:
    from importlib.metadata import version

    return f"{version('pymatgen')} {version('matminer')}"
