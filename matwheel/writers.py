"""Callbacks that write what `predict` yields: a table of predictions, or generated crystals in formats one can open."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import BasePredictionWriter

from matwheel.checkpoint_file import read_checkpoint
from matwheel.data.conditions import ConditionDataModule
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.extxyz import RESERVED
from matwheel.data.module import CrystalDataModule
from matwheel.files import PREDICTIONS, replaced_when_complete
from matwheel.metrics.validity import composition_validity, structure_validity
from matwheel.models.predictor import TARGET, Predictions
from matwheel.sample_parts import SampleParts

log = logging.getLogger(__name__)

SAMPLES = "samples.npz"
"""The generated crystals as a `CrystalTable`, for the stages that follow."""
SAMPLES_EXTXYZ = "samples.extxyz"
SAMPLES_TABLE = "samples.parquet"
CIF_FOLDER = "cif"


class PredictionWriter(BasePredictionWriter):
    """Writes a table of predictions: id, prediction and, where known, target, in the user's units.

    The target is what the model was trained for, whatever else the table holds.

    Args:
        folder: Where to write; the run's log folder by default.

    Attributes:
        file: Name of the table; `predictions.csv` unless changed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__("batch")
        self.folder = folder
        self.file = PREDICTIONS
        self._target: str | None = None
        self._frames: list[pd.DataFrame] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start a new table."""
        super().setup(trainer, pl_module, stage)
        self._frames = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Know what is predicted, which the table of new crystals does not tell."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, CrystalDataModule):
            raise ValueError("predictions are named by the data module: predict with a CrystalDataModule")
        self._target = data.target
        if trainer.ckpt_path is not None and data.target_option is None:
            self._target = read_checkpoint(Path(trainer.ckpt_path)).get(TARGET)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep the predictions of one batch."""
        data: CrystalDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(prediction, Predictions):
            raise ValueError(f"expected predicted properties, got {type(prediction).__name__}: is this a predictor?")
        target = data.values(self._target, prediction.row)
        columns = {"row": prediction.row, "prediction": prediction.value, "target": target}
        values = {name: value.detach().cpu().numpy() for name, value in columns.items()}
        self._frames.append(pd.DataFrame({"id": data.ids(prediction.row), **values}))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put the tables of all processes together."""
        if stage != "predict":
            return
        folder = self.folder if self.folder is not None else _log_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        parts = [folder / f"{Path(self.file).stem}.rank-{rank}.csv" for rank in range(trainer.world_size)]
        parts[trainer.global_rank].unlink(missing_ok=True)
        if self._frames:
            with replaced_when_complete(parts[trainer.global_rank]) as temporary:
                pd.concat(self._frames).to_csv(temporary, index=False)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            _merge_predictions([part for part in parts if part.is_file()], folder / self.file)
        trainer.strategy.barrier()


class StructureWriter(BasePredictionWriter):
    """Writes generated crystals: `samples.extxyz`, a folder of CIFs and the table `samples.parquet`.

    Each chunk is stored as soon as it is made. If the folder holds chunks of the same requests from an interrupted run,
    those samples are not made again. At the end the first process puts all chunks together.

    Args:
        folder: Where to write; `samples` in the run's log folder by default.
        cif: Write a CIF file for every crystal.
    """

    def __init__(self, folder: Path | None = None, cif: bool = True) -> None:
        super().__init__("batch")
        self.folder = folder
        self.cif = cif
        self._parts: SampleParts | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave out requests whose crystals exist already."""
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        # Found here, where all processes are, since a logger's folder is decided by the first and told to the others.
        self._parts = SampleParts(self.folder if self.folder is not None else _log_folder(trainer) / "samples")
        trainer.strategy.barrier()  # nothing may be written before every process has looked
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ConditionDataModule):
            data.requests = self._parts.missing(data.requests)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Store one chunk."""
        if not isinstance(prediction, CrystalTable):
            raise ValueError(f"expected generated crystals, got {type(prediction).__name__}: is this a generator?")
        assert self._parts is not None
        self._parts.add(prediction)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put the chunks together."""
        if stage != "predict":
            return
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            assert self._parts is not None
            write_samples(self._parts.folder, self._parts.table(), self.cif)
        trainer.strategy.barrier()


def write_samples(folder: Path, samples: CrystalTable, cif: bool = True) -> None:
    """Write synthetic crystals in all formats.

    Args:
        folder: Where to; created if missing.
        samples: The crystals.
        cif: Write a CIF file for every crystal.
    """
    table = describe_samples(samples)
    with replaced_when_complete(folder / SAMPLES) as temporary:
        samples.save(temporary)
    with replaced_when_complete(folder / SAMPLES_TABLE) as temporary:
        table.to_parquet(temporary, index=False)
    write_extxyz(folder / SAMPLES_EXTXYZ, samples, table)
    if cif:
        _write_cifs(folder / CIF_FOLDER, samples)
    log.info("%d samples in %s, %d of them valid", len(samples), folder, int(table["valid"].sum()))


def describe_samples(samples: CrystalTable) -> pd.DataFrame:
    """A row per generated crystal: id, index, seed, conditions, formula, cell, validity and what it was made by."""
    origins = [json.loads(origin) for origin in samples.origins]
    structure = structure_validity(samples)
    composition = composition_validity(samples)
    names = dict.fromkeys(name for origin in origins for name in origin["conditions"])  # each may leave some open
    conditions = {f"condition_{name}": [origin["conditions"].get(name, np.nan) for origin in origins] for name in names}
    return pd.DataFrame(
        {
            "id": samples.ids,
            "index": [origin["index"] for origin in origins],
            "seed": [origin["seed"] for origin in origins],
            **conditions,
            "formula": [_formula(crystal.atomic_numbers.tolist()) for crystal in samples],
            "num_atoms": samples.num_atoms,
            "volume": structure.volume,
            "structure_valid": structure.valid,
            "composition_valid": composition,
            "valid": structure.valid & composition,
            "generator": [origin["generator"] for origin in origins],
            **({"parent": [origin["parent"] for origin in origins]} if origins and "parent" in origins[0] else {}),
            "round": [origin["round"] for origin in origins],
        }
    )


def write_extxyz(
    path: Path, samples: CrystalTable, table: pd.DataFrame, properties: Mapping[str, FloatArray] | None = None
) -> None:
    """Write crystals as extended XYZ.

    Args:
        path: The file.
        samples: The crystals.
        table: What `describe_samples` says of them; what ASE computes itself is left out.
        properties: Further values by name, which come before a column of that name.
    """
    from ase import Atoms
    from ase.io import write

    table = table.drop(columns=["formula", "num_atoms", "volume"]).assign(**properties or {})
    frames = [
        Atoms(
            numbers=crystal.atomic_numbers,
            cell=crystal.lattice,
            scaled_positions=crystal.frac_coords,
            pbc=True,
            info={f"{name} " if name in RESERVED else str(name): value for name, value in info.items()},
        )
        for crystal, info in zip(samples, table.to_dict("records"), strict=True)
    ]
    with replaced_when_complete(path) as temporary:
        write(temporary, frames, format="extxyz")


def _log_folder(trainer: L.Trainer) -> Path:
    """The log folder of the run; all processes must ask together."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def _merge_predictions(parts: list[Path], path: Path) -> None:
    if not parts:
        raise ValueError("there was no crystal to predict")
    table = pd.concat([pd.read_csv(part, converters={"id": str}) for part in parts])
    table = table.drop_duplicates("row").sort_values("row").drop(columns="row")
    if table["target"].isna().all():
        table = table.drop(columns="target")
    with replaced_when_complete(path) as temporary:
        table.to_csv(temporary, index=False)
    for part in parts:
        part.unlink()
    log.info("wrote %d predictions to %s", len(table), path)


def _formula(atomic_numbers: list[int]) -> str:
    from ase.formula import Formula
    from ase.symbols import Symbols

    formula: str = Formula(Symbols(atomic_numbers).get_chemical_formula()).format("metal")
    return formula


def _write_cifs(folder: Path, samples: CrystalTable) -> None:
    from pymatgen.io.cif import CifWriter

    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # by which formulas are ordered
        for crystal in samples:
            with replaced_when_complete(folder / f"{crystal.id}.cif", sync=False) as temporary:
                temporary.write_text(str(CifWriter(crystal.to_structure())))
