"""Features of where the atoms are, by matminer's featurizers and by a pretrained potential."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import Any, Literal

import numpy as np

from matwheel.data.crystal import Crystal, FloatArray
from matwheel.metrics.fingerprints import site_fingerprints, site_names
from matwheel.metrics.potential import CHGNet
from matwheel.predictors.stored_features import StoredFeatures


class Environments(StoredFeatures):
    """Mean and standard deviation over the sites of CrystalNN's coordination and motif fingerprint; 122 numbers."""

    packages = ("matminer", "pymatgen")

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return tuple(f"{kind} {name}" for kind in ("mean", "std") for name in site_names())

    def compute_one(self, crystal: Crystal) -> FloatArray:
        """See `StoredFeatures`."""
        sites = site_fingerprints(crystal)
        return np.concatenate([sites.mean(axis=0), sites.std(axis=0)])


class MatminerFeatures(StoredFeatures):
    """What a structure featurizer of matminer gives."""

    packages = ("matminer", "pymatgen")

    @staticmethod
    @abstractmethod
    def featurizer() -> Any:
        """Make the featurizer."""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return tuple(_featurizer(type(self)).feature_labels())

    def compute_one(self, crystal: Crystal) -> FloatArray:
        """See `StoredFeatures`."""
        return np.array(_featurizer(type(self)).featurize(crystal.to_structure()), dtype=np.float64)


class Voronoi(MatminerFeatures):
    """Structure features of Ward et al. (Phys. Rev. B 96, 024104, 2017), by Voronoi tessellation; 120 numbers.

    How bond lengths and volumes vary over the sites, statistics over the sites of the difference to the neighbours in
    22 properties of the elements, and the share of space that atoms of covalent radius fill. One class, since the
    tessellation takes all the time and is shared.
    """

    @staticmethod
    def featurizer() -> Any:
        """See `MatminerFeatures`."""
        from matminer.featurizers.base import MultipleFeaturizer
        from matminer.featurizers.structure import (
            DensityFeatures,
            SiteStatsFingerprint,
            StructuralHeterogeneity,
        )

        contrast = SiteStatsFingerprint.from_preset("LocalPropertyDifference_ward-prb-2017")
        density = DensityFeatures(["packing fraction"])
        return MultipleFeaturizer([StructuralHeterogeneity(), contrast, density])


class Symmetry(MatminerFeatures):
    """Number of the space group, crystal system, whether there is an inversion centre, number of operations."""

    @staticmethod
    def featurizer() -> Any:
        """See `MatminerFeatures`."""
        from matminer.featurizers.structure import GlobalSymmetryFeatures

        return GlobalSymmetryFeatures(["spacegroup_num", "crystal_system_int", "is_centrosymmetric", "n_symmetry_ops"])


class PotentialFeatures(StoredFeatures):
    """What the network of CHGNet, pretrained on energies and forces, has made of a crystal; 64 numbers.

    Needs the optional dependencies: `pip install "matwheel[potentials]"`.

    Args:
        version: Which weights, see `CHGNet`.
    """

    packages = ("chgnet", "pymatgen")

    def __init__(self, version: Literal["0.3.0", "0.2.0", "r2scan"] = "0.3.0") -> None:
        CHGNet(version)  # says early when the package is missing
        self.version = version

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return tuple(f"CHGNet {number}" for number in range(64))

    def compute_one(self, crystal: Crystal) -> FloatArray:
        """See `StoredFeatures`."""
        return CHGNet(self.version).features(crystal)


@cache
def _featurizer(kind: type[MatminerFeatures]) -> Any:
    return kind.featurizer()
