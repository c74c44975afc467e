"""A wheel of toy networks that turns in seconds."""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.filters import BasicFilter
from matwheel.flywheel.stages import FitSettings
from matwheel.models.averaging import WeightAverage
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from matwheel.nn.condition import ConditionEmbedding
from tests.models.toys import ToyDecoder, ToyEncoder


def toy_data(
    table: Path, labelled_fraction: float = 1.0, conditions: list[str] | None = None, split_seed: int = 0
) -> CrystalDataModule:
    """40 crystals: 24 to train on, 8 for validation, 8 for the test."""
    return CrystalDataModule(
        str(table),
        "poly_total",
        conditions,
        split=RandomSplit(0.6, 0.2, 0.2, split_seed),
        labelled_fraction=labelled_fraction,
        batch_size=8,
        cache_dir=table.parent / "cache",
    )


def generator(dropout: float = 0.0) -> ConCDVAE:
    torch.manual_seed(0)
    embedding = ConditionEmbedding(num_points=8, feature_dim=8, out_dim=8, dropout=dropout)
    return ConCDVAE(ToyEncoder(), ToyDecoder(16 + 8), embedding, latent_dim=16, time_dim=8, hidden_dim=32, max_atoms=6)


def spin(
    folder: Path,
    table: Path,
    epochs: int = 2,
    seed: int = 0,
    sampler_steps: int = 5,
    learning_rate: float = 3e-3,
    labelled_fraction: float = 1.0,
    conditions_of_data: list[str] | None = None,
    callbacks: Sequence[Callback] = (),
    split_seed: int = 0,
    data: CrystalDataModule | None = None,
    **options: Any,
) -> tuple[L.Trainer, Flywheel]:
    """Turn a wheel with options of `Flywheel`."""
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    if data is None:
        data = toy_data(table, labelled_fraction, conditions_of_data, split_seed)
    settings = {
        "generator": generator(),
        "prior": partial(DiffusionPrior, sampler=DenoisingSampler(sampler_steps)),
        "generator_fit": FitSettings(max_epochs=3, batch_size=8),
        "prior_fit": FitSettings(max_epochs=2, batch_size=8),
        "filter": BasicFilter(composition=False),
        "chunk_size": 8,
        "folder": folder,
        **options,
    }
    wheel = Flywheel(**settings)
    torch.manual_seed(1)
    model = PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8), learning_rate=learning_rate)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[ModelCheckpoint(folder / "final", monitor="val/mae"), WeightAverage(0.5), *callbacks, wheel],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    return trainer, wheel


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of all stages, which must be finished."""
    stages = json.loads((folder / "ledger.json").read_text())["stages"]
    assert {record["status"] for record in stages.values()} == {"finished"}
    return stages


def attempts(folder: Path) -> dict[str, str]:
    """What differs for a stage that was run again."""
    stages = ledger(folder)
    return {name: record["key"] + record["started"] + str(record["seconds"]) for name, record in stages.items()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Stages that are new or were run again."""
    return {name for name in after if after[name] != before.get(name)}
