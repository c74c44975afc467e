"""Composition fingerprints: the Magpie statistics of the elements, for whole tables at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from matwheel.data.catalogue import DATASETS, load
from matwheel.data.crystal import MAX_ATOMIC_NUMBER, CrystalTable, FloatArray

NUM_STATISTICS = 6
"""Minimum, maximum, range, mean, average deviation and mode of each property of the elements."""


def composition_fingerprints(table: CrystalTable) -> FloatArray:
    """Standardised Magpie statistics of each crystal's composition.

    Distances between these are what the composition cut-offs of CDVAE (arXiv 2110.06197) are compared with. CDVAE
    divides each statistic by its standard deviation over crystals that its code does not name; they are not those of
    MP-20. Here the deviations are over all crystals of the embedded data sets: the same whatever the reference, so that
    figures for different references compare. Distances are 0.94 times those under CDVAE's constants for the crystals of
    `mp_poly_total` (98 % of pairs between 0.77 and 1.03) and 0.92 times for Perov-5: a published cut-off is that much
    more generous here.

    Args:
        table: n crystals.

    Returns:
        [n, 132], NaN for a crystal without atoms. A statistic that is not known is at the mean, 0, as in CDVAE.
    """
    mean, std = _standard()
    standardised = (magpie_statistics(table) - mean) / std
    standardised[np.isnan(standardised) & (table.num_atoms > 0)[:, None]] = 0.0
    return standardised


def magpie_statistics(table: CrystalTable) -> FloatArray:
    """Statistics of 22 properties of the elements, weighted by their share of the atoms.

    The same as matminer's `ElementProperty.from_preset("magpie", impute_nan=False)` (Ward et al., npj Comput. Mater. 2,
    16028, 2016), without a loop over crystals.

    Args:
        table: n crystals.

    Returns:
        [n, 132], property after property; NaN where a property of an element is not known.
    """
    properties = _element_properties()
    owner = np.repeat(np.arange(len(table)), table.num_atoms)
    pairs, count = np.unique(owner * (MAX_ATOMIC_NUMBER + 1) + table.atomic_numbers, return_counts=True)
    row, number = np.divmod(pairs, MAX_ATOMIC_NUMBER + 1)
    filled, first = np.unique(row, return_index=True)
    statistics = np.full((len(table), properties.shape[1], NUM_STATISTICS), np.nan)
    if not len(filled):
        return statistics.reshape(len(table), -1)

    values = properties[number]
    segment = np.repeat(np.arange(len(filled)), np.diff([*first, len(row)]))
    fraction = (count / np.add.reduceat(count, first)[segment])[:, None]
    lowest, highest = np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
    mean = np.add.reduceat(fraction * values, first)
    deviation = np.add.reduceat(fraction * np.abs(values - mean[segment]), first)
    is_most_frequent = count == np.maximum.reduceat(count, first)[segment]
    mode = np.minimum.reduceat(np.where(is_most_frequent[:, None], values, np.inf), first)
    statistics[filled] = np.stack([lowest, highest, highest - lowest, mean, deviation, mode], axis=2)
    return statistics.reshape(len(table), -1)


@lru_cache(maxsize=1)
def _element_properties() -> FloatArray:
    """[101, 22], by atomic number."""
    from matminer.featurizers.composition import ElementProperty  # takes seconds to import
    from pymatgen.core.periodic_table import Element

    magpie = ElementProperty.from_preset("magpie", impute_nan=False)
    properties = np.full((MAX_ATOMIC_NUMBER + 1, len(magpie.features)), np.nan)
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        element = Element.from_Z(number)
        properties[number] = [magpie.data_source.get_elemental_property(element, name) for name in magpie.features]
    return properties


@lru_cache(maxsize=1)
def _standard() -> tuple[FloatArray, FloatArray]:
    """[132], mean and standard deviation of the statistics over the embedded data sets."""
    tables = [load(name).table for name, info in DATASETS.items() if info.embedded]
    statistics = magpie_statistics(CrystalTable.concatenate(tables))
    return np.nanmean(statistics, axis=0), np.nanstd(statistics, axis=0)
