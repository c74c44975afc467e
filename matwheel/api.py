"""The commands as functions, for notebooks and scripts: `from matwheel import api`.

They have the names of the commands (`matwheel.predict`, `matwheel.sample`, `matwheel.evaluate`) and take what a person
has at hand: paths, pymatgen structures or ASE atoms. They live here and not in the package itself, where
`matwheel.predict` is the module of the command.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from matwheel.data.catalogue import load
from matwheel.data.inputs import is_path, read_structures
from matwheel.data.structures import parse_any_structure
from matwheel.devices import find_device
from matwheel.metrics.evaluation import Evaluation, Settings
from matwheel.metrics.evaluation import evaluate as evaluate_crystals
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.metrics.pool import Pool
from matwheel.models.saved_generator import ConditionValues, SavedGenerator
from matwheel.predictors.saved_ensemble import PredictorEnsemble
from matwheel.writers import describe_samples

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matwheel.data.inputs import StructureLike

log = logging.getLogger(__name__)


def predict(
    model: str | Path | Sequence[str | Path],
    structures: StructureLike | Iterable[StructureLike],
    interval: float | None = None,
    structure_column: str | None = None,
    id_column: str | None = None,
    device: str = "auto",
) -> pd.DataFrame:
    """Predict a property of crystals, in the unit the model was trained in.

    Args:
        model: Checkpoint, folder of a stage with `predictor.skops`, exported folder, or folder with several of these;
            several predict their mean.
        structures: One or several (a list, a pandas series, a generator) of: path (structure file, table, folder), text
            of a CIF or POSCAR, pymatgen structure, ASE atoms.
        interval: Probability with which the true value shall lie between `low` and `high`; calibrated on the validation
            rows of the training, where these were kept. None for no interval.
        structure_column: Column of tables with the structures; found by itself by default.
        id_column: Column of tables with the names; found by itself by default.
        device: Where networks compute: `auto` for the first GPU if there is one, `cpu`, `cuda` or `cuda:1`.

    Returns:
        A row per crystal given, in their order: `id`, `prediction`, with several models `spread` (standard deviation),
        with an interval `low` and `high`, and `target` where a table holds the known value. NaN for what cannot be
        used, with a warning that says why.

    Raises:
        ValueError: If a file cannot be read, no crystal is usable, there are too few validation rows for the interval,
            or there is no such device.
    """
    paths = [model] if isinstance(model, str | Path) else model
    ensemble = PredictorEnsemble.load([Path(path) for path in paths]).to(find_device(device))
    crystals = read_structures(structures, structure_column=structure_column, id_column=id_column)
    report = crystals.report
    if report.bad:
        log.warning("%s", report.summary())
    frame = ensemble.predict(crystals, interval).set_index(crystals.source_rows).reindex(range(report.total))
    frame.loc[[bad.row for bad in report.bad], "id"] = [bad.id for bad in report.bad]
    return frame


def sample(
    generator: str | Path, values: ConditionValues, n: int, seed: int = 0, device: str = "auto"
) -> list[Structure]:
    """Generate crystals for wanted values of a property; they are neither relaxed nor checked.

    Args:
        generator: Checkpoint of a generator's prior, or an exported folder.
        values: Wanted values (a number, a list, an array, a pandas series), taken in turn, in the unit the generator
            was trained in; with several conditions a row of values each. NaN for a condition that is left to the
            generator, if it was trained so.
        n: How many crystals.
        seed: Crystal i depends on the generator, its values and `seed + i`.
        device: Where the generator computes, as for `predict`.

    Returns:
        n structures. The `properties` of each are its row of the command's `samples.parquet`: `id`, `seed`,
        `condition_NAME`, `valid`, `parent` (where it is modelled on a crystal) and more.

    Raises:
        ValueError: If a file cannot be read, the values do not fit the generator, or there is no such device.
    """
    saved = SavedGenerator.load(Path(generator)).to(find_device(device))
    samples = saved.sample(values, n, seed)
    structures = [crystal.to_structure() for crystal in samples]
    for structure, described in zip(structures, describe_samples(samples).to_dict("records"), strict=True):
        structure.properties = described
    return structures


def evaluate(
    structures: StructureLike | Iterable[StructureLike],
    reference: StructureLike | Iterable[StructureLike],
    settings: Settings | None = None,
    pool: Pool | None = None,
) -> Evaluation:
    """Judge generated crystals: validity, coverage, uniqueness, novelty and more, see `python -m matwheel.evaluate`.

    Args:
        structures: The generated crystals, as `predict` takes them.
        reference: Crystals to compare with, the training set as a rule: the same, or the name of a data set.
        settings: Cut-offs and tolerances.
        pool: Processes and time-out of the slow parts. Scripts need the guard `if __name__ == "__main__":`.

    Returns:
        Its `structures` is a table with a row per crystal, its `figures` are the aggregates.

    Raises:
        ValueError: If a file cannot be read, or holds no crystal.
    """
    pool = pool if pool is not None else Pool()
    if is_path(reference) and isinstance(reference, str):
        known = load(reference, keep_repeated_ids=True)
    else:
        known = read_structures(reference)
    generated = read_structures(structures, parse_any_structure)
    for read in (generated, known):
        if read.report.bad:
            log.warning("%s", read.report.summary())
    fingerprints = Fingerprints.cached(known.table, pool)
    return evaluate_crystals(generated, known.table, fingerprints, settings, pool)
