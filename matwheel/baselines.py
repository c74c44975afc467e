"""Reference predictors that every result is held against: the training median, and trees on simple statistics."""

from __future__ import annotations

import numpy as np
import torch
from pymatgen.core import Composition
from sklearn.ensemble import ExtraTreesRegressor

from matwheel.data.crystal import CrystalTable, FloatArray, IntArray
from matwheel.data.targets import TargetTransform

NUM_TREES = 500
MAX_FEATURES = 0.3
"""Fraction of the features a tree looks at for each cut."""
_DENSITY_OF_DALTON = 1.66053906660  # g/cm^3 of 1 Da / A^3


def featurise(table: CrystalTable) -> FloatArray:
    """Features of composition and cell, blind to where the atoms are.

    Args:
        table: n crystals.

    Returns:
        [n, 138]: the 132 Magpie statistics of the elements (Ward et al., npj Comput. Mater. 2, 16028, 2016), volume per
        atom (A^3), number of sites, density (g/cm^3) and the cell lengths a, b, c (A).
    """
    from matminer.featurizers.composition import ElementProperty  # takes seconds to import

    rows = [_composition(crystal.atomic_numbers) for crystal in table]
    magpie = ElementProperty.from_preset("magpie")
    statistics = {composition: magpie.featurize(composition) for composition in set(rows)}
    volume = np.abs(np.linalg.det(table.lattices))
    columns = [
        np.array([statistics[composition] for composition in rows], dtype=np.float64),
        volume / table.num_atoms,
        table.num_atoms,
        np.array([composition.weight for composition in rows], dtype=np.float64) * _DENSITY_OF_DALTON / volume,
        np.linalg.norm(table.lattices, axis=2),
    ]
    return np.column_stack(columns)


def predict_dummy(target_train: FloatArray, num_rows: int) -> FloatArray:
    """The median of the training targets for every row: the best constant for the absolute error.

    Args:
        target_train: [n], user's units.
        num_rows: Length of the answer.
    """
    return np.full(num_rows, np.median(target_train))


def predict_trees(
    features_train: FloatArray, target_train: FloatArray, features_other: FloatArray, seed: int
) -> FloatArray:
    """Fit extremely randomised trees (Geurts et al., Mach. Learn. 63, 3, 2006) on the logarithm of the target.

    The logarithm is the `log` of `TargetTransform`, which also takes targets around and below zero.

    Args:
        features_train: [n, f], from `featurise`.
        target_train: [n], user's units.
        features_other: [m, f].
        seed: Of the trees; the answer does not depend on the number of processors.

    Returns:
        [m], user's units.
    """
    transform = TargetTransform("log")
    target = torch.from_numpy(target_train)
    transform.fit(target)
    trees = ExtraTreesRegressor(NUM_TREES, max_features=MAX_FEATURES, random_state=seed, n_jobs=-1)
    trees.fit(features_train, transform(target).numpy())
    trees.set_params(n_jobs=1)  # threads would add up the trees in any order, and rounding would differ
    predicted: FloatArray = transform.inverse(torch.from_numpy(trees.predict(features_other))).numpy()
    return predicted


def _composition(atomic_numbers: IntArray) -> Composition:
    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    return Composition(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
