"""The crystals behind a run: those it was trained on, and those it made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml

from matwheel.data.catalogue import load
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.row_finder import read_json_object
from matwheel.data.splits import LABELLED_PART
from matwheel.files import read_parquet
from matwheel.flywheel.labels import LABELS
from matwheel.flywheel.stages import CRYSTALS
from matwheel.models.run_config import CONFIG
from matwheel.report.folders import SPLIT, RunFolder
from matwheel.writers import SAMPLES_TABLE

_HOW_TO_READ = ("structure_column", "id_column", "data_dir")


@dataclass(frozen=True)
class SyntheticCrystals:
    """What a round made.

    Attributes:
        table: The crystals that a predictor was trained on; their target is their label.
        requested: [m], target values that were asked for, of all samples; empty where no generator was asked.
        target: The property.
    """

    table: CrystalTable
    requested: FloatArray
    target: str

    @property
    def labels(self) -> FloatArray:
        """[n], labels of the crystals."""
        return self.table.properties[self.target]


def synthetic_crystals(run: RunFolder, target: str, round: int) -> SyntheticCrystals | None:
    """The synthetic crystals of a round; None where it has none (yet).

    Raises:
        ValueError: If a file is damaged.
    """
    crystals, labels = run.stage("crystals", round) / CRYSTALS, run.stage("labels", round) / LABELS
    if not (crystals.is_file() and labels.is_file()):
        return None
    table, frame = CrystalTable.load(crystals), read_parquet(labels)
    known = dict(zip(frame["id"].astype(str), frame["label"], strict=True))
    table = table.take(np.flatnonzero([name in known for name in table.ids.tolist()]))
    table = table.with_properties(**{target: np.array([known[name] for name in table.ids.tolist()], np.float64)})
    samples = run.stage("samples", round) / SAMPLES_TABLE
    asked = read_parquet(samples) if samples.is_file() else None
    condition = f"condition_{target}"
    has_condition = asked is not None and condition in asked
    requested = asked[condition].to_numpy(np.float64) if asked is not None and has_condition else np.zeros(0)
    return SyntheticCrystals(table, requested, target)


def real_crystals(run: RunFolder) -> CrystalTable:
    """The labelled training crystals of a run, read from the data set again by the ids that the run saved.

    Raises:
        ValueError: If the run did not save its split, or the data set cannot be read here or has changed.
    """
    folder = run.split_folder
    if folder is None:
        raise ValueError(f"{run.name} has no version_*/{SPLIT}, which names its training crystals")
    config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
    data = config.get("data") or {}
    options = {name: value for name, value in data.get("init_args", data).items() if name in _HOW_TO_READ}
    loaded = load(run.rows[0].dataset, **options)
    loaded.check_property(run.rows[0].target)
    table = loaded.table
    wanted = read_json_object(folder / SPLIT)[LABELLED_PART]
    rows = np.flatnonzero(np.isin(table.ids, wanted))
    if len(rows) != len(wanted):
        raise ValueError(f"{run.rows[0].dataset} has only {len(rows)} of the {len(wanted)} training crystals by id")
    return table.take(rows)
