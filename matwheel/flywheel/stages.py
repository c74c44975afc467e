"""The stages of the wheel, as functions that also run alone: settings and artifacts in, artifacts and metrics out.

Every function writes into the folder it is given and returns numbers for the ledger.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from matwheel.data.cells import niggli_reduce
from matwheel.data.conditions import ConditionDataModule
from matwheel.data.crystal import CrystalTable, FloatArray, IntArray
from matwheel.data.module import CrystalDataModule
from matwheel.files import VALIDATION_PREDICTIONS, read_parquet, replaced_when_complete, write_text_atomically
from matwheel.flywheel.conditions import ConditionSampler, Disagreement
from matwheel.flywheel.filters import Filter, FilterResult
from matwheel.flywheel.sources import CrystalSource
from matwheel.flywheel.trainers import BEST, StageTrainers
from matwheel.models.averaging import WeightAverage
from matwheel.models.checkpoints import load_weights
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import CrystalsTaken, LatentPrior
from matwheel.models.latents import LatentDataModule
from matwheel.models.multi_task import MultiTaskPredictor
from matwheel.writers import (
    SAMPLES,
    PredictionWriter,
    StructureWriter,
    describe_samples,
    write_samples,
)

CONDITIONS = "conditions.parquet"
CRYSTALS = "crystals.npz"
"""The synthetic crystals that passed the filter."""
DISAGREEMENT = "disagreement.parquet"
FILTER_REPORT = "filter.json"


@dataclass(frozen=True)
class FitSettings:
    """How a part of the generator, or a predictor beside the trainer's own model, is trained.

    Attributes:
        max_epochs: Epochs to train for.
        batch_size: Crystals per step of the optimiser, divided among the processes.
        gradient_clip_val: Bound on the gradient; None for no bound.
        gradient_clip_algorithm: Bound each `value` or the `norm` of all.
        monitor: Validation metric that says which epoch is best; the last epoch is used if None.
        check_val_every_n_epoch: Epochs between validations; there is always one.
        ema_decay: Validate and keep the exponential average of the weights with this decay per step; None for the
            weights themselves.
    """

    max_epochs: int = 100
    batch_size: int = 64
    gradient_clip_val: float | None = 0.5
    gradient_clip_algorithm: Literal["value", "norm"] = "value"
    monitor: str | None = "val/loss"
    check_val_every_n_epoch: int = 1
    ema_decay: float | None = None

    def callbacks(self) -> list[Callback]:
        """Callbacks that change the training."""
        return [] if self.ema_decay is None else [WeightAverage(decay=self.ema_decay)]

    def trainer_options(self) -> dict[str, Any]:
        """As arguments of a trainer."""
        options = asdict(self)
        del options["batch_size"], options["monitor"], options["ema_decay"]
        options["check_val_every_n_epoch"] = min(self.check_val_every_n_epoch, self.max_epochs)
        return options


@dataclass(frozen=True)
class PredictorRecipe:
    """How predictors of all arms are trained.

    Attributes:
        monitor: Validation metric that says which epoch is best; the last epoch is used if None.
        mode: `min` or `max`.
        callbacks: Callbacks that change the training (weight averaging, early stopping).
        options: Further arguments of the trainer.
    """

    monitor: str | None
    mode: str
    callbacks: Sequence[Callback] = ()
    options: dict[str, Any] = field(default_factory=dict)


def train_generator(
    generator: ConCDVAE,
    data: CrystalDataModule,
    settings: FitSettings,
    seed: int,
    folder: Path,
    trainers: StageTrainers,
) -> dict[str, float]:
    """Train the conditional autoencoder on the training set of the data; leaves `best.ckpt`."""
    data = copy.copy(data)
    data.batch_size = settings.batch_size
    return _fit(generator, data, settings, seed, folder, trainers, "generator")


def train_prior(
    prior: LatentPrior,
    data: CrystalDataModule,
    settings: FitSettings,
    seed: int,
    folder: Path,
    trainers: StageTrainers,
) -> dict[str, float]:
    """Train the latent prior of a trained autoencoder; leaves `best.ckpt`, which holds the whole generator."""
    latents = LatentDataModule(copy.copy(data), settings.batch_size)
    if not prior.trains:
        return _take_crystals(prior, latents, folder, trainers)
    return _fit(prior, latents, settings, seed, folder, trainers, "prior")


def _take_crystals(
    prior: LatentPrior, data: LatentDataModule, folder: Path, trainers: StageTrainers
) -> dict[str, float]:
    """As `_fit`, for a prior without weights to train, by a validation: several processes may do that as well."""
    with trainers.trainer(folder, "prior", [CrystalsTaken()]) as trainer:
        (metrics,) = trainer.validate(prior, datamodule=data, verbose=False)
        trainer.save_checkpoint(folder / BEST)
    return dict(metrics)


def pretrain_predictor(
    model: MultiTaskPredictor,
    data: CrystalDataModule,
    settings: FitSettings,
    seed: int,
    folder: Path,
    trainers: StageTrainers,
) -> dict[str, float]:
    """Train the body of a predictor's network on several labels; leaves `best.ckpt`."""
    return _fit(model, data, settings, seed, folder, trainers, "predictor-pretraining")


def _fit(
    model: L.LightningModule,
    data: L.LightningDataModule,
    settings: FitSettings,
    seed: int,
    folder: Path,
    trainers: StageTrainers,
    stage: str,
) -> dict[str, float]:
    return trainers.fit(
        model,
        data,
        folder,
        stage,
        seed,
        settings.monitor,
        callbacks=settings.callbacks(),
        **settings.trainer_options(),
    )


def write_disagreement(folder: Path, ids: NDArray[np.str_], members: FloatArray) -> dict[str, float]:
    """Write `disagreement.parquet`, for real crystals [n] the mean and spread of predictions [k, n] of teachers."""
    mean, spread = members.mean(axis=0), members.std(axis=0, ddof=1)
    with replaced_when_complete(folder / DISAGREEMENT) as temporary:
        pd.DataFrame({"id": ids, "prediction": mean, "spread": spread}).to_parquet(temporary, index=False)
    return {"count": len(ids), "median": float(np.median(spread)), "max": spread.max()}


def read_disagreement(folder: Path) -> Disagreement:
    """What `write_disagreement` wrote."""
    table = read_parquet(folder / DISAGREEMENT)
    return Disagreement(table["prediction"].to_numpy(), table["spread"].to_numpy())


def draw_conditions(
    sampler: ConditionSampler,
    data: CrystalDataModule,
    categorical: tuple[int, ...],
    count: int,
    seed: int,
    folder: Path,
    disagreement: Disagreement | None = None,
) -> dict[str, float]:
    """Decide what to ask the generator for; leaves `conditions.parquet`, a column per condition."""
    training = data.training_statistics().conditions.numpy()
    values = sampler.draw(training, count, seed, categorical, disagreement)
    with replaced_when_complete(folder / CONDITIONS) as temporary:
        pd.DataFrame(values, columns=data.conditions).to_parquet(temporary, index=False)
    first = values[:, 0]
    return {"count": count, "min": first.min(), "median": float(np.median(first)), "max": first.max()}


def sample_crystals(
    prior: LatentPrior,
    conditions: FloatArray,
    chunk_size: int,
    seed: int,
    folder: Path,
    trainers: StageTrainers,
) -> dict[str, float]:
    """Generate a crystal per row of conditions [n, C]; leaves what `StructureWriter` writes."""
    requests = ConditionDataModule(conditions.tolist(), len(conditions), seed, chunk_size)
    with trainers.trainer(folder, "samples", [StructureWriter(folder)]) as trainer:
        trainer.predict(prior, datamodule=requests, return_predictions=False)
    return _sample_metrics(CrystalTable.load(folder / SAMPLES))


def derive_crystals(
    source: CrystalSource, data: CrystalDataModule, count: int, seed: int, round: int, folder: Path
) -> dict[str, float]:
    """Make crystals from the training crystals without a generator; leaves the files of `sample_crystals`."""
    samples = source.make(data.training_table, data.conditions, count, seed, round)
    write_samples(folder, samples)
    return _sample_metrics(samples)


def _sample_metrics(samples: CrystalTable) -> dict[str, float]:
    table = describe_samples(samples)
    return {
        "count": len(table),
        **{name: float(table[name].mean()) for name in ("structure_valid", "composition_valid", "valid")},
    }


def filter_crystals(
    filter: Filter,
    samples: CrystalTable,
    training: CrystalTable,
    folder: Path,
    kept: CrystalTable | None = None,
    reduce_cells: bool = False,
) -> dict[str, float]:
    """Keep the samples worth training on; leaves `crystals.npz` and, with every step's numbers, `filter.json`.

    Args:
        filter: Decides.
        samples: Generated crystals.
        training: Crystals the generator was trained on.
        folder: Where to write.
        kept: Crystals of earlier rounds, which are kept before the new ones and not taken a second time.
        reduce_cells: Describe the samples that are kept in Niggli-reduced cells, for features that depend on the cell.

    Raises:
        NoCrystalLeftError: If none of the samples is.
    """
    known = training if kept is None else CrystalTable.concatenate([training, kept])
    result = filter.apply(samples, known)
    if reduce_cells:
        result = replace(result, crystals=niggli_reduce(result.crystals))
    return write_filtered(folder, result, kept)


def write_filtered(folder: Path, result: FilterResult, kept: CrystalTable | None = None) -> dict[str, float]:
    """Write `crystals.npz`, the crystals that passed after those that are kept, and `filter.json`.

    Raises:
        NoCrystalLeftError: If nothing passed.
    """
    report = [{**asdict(step), "rate": None if isnan(step.rate) else step.rate} for step in result.steps]
    write_text_atomically(folder / FILTER_REPORT, json.dumps(report, indent=1))
    result.require_any()
    crystals = result.crystals if kept is None else CrystalTable.concatenate([kept, result.crystals])
    with replaced_when_complete(folder / CRYSTALS) as temporary:
        crystals.save(temporary)
    return {"kept": len(result.crystals), "count": len(crystals), **{step.name: step.rate for step in result.steps}}


def train_predictor(
    model: L.LightningModule,
    data: CrystalDataModule,
    recipe: PredictorRecipe,
    seed: int,
    folder: Path,
    trainers: StageTrainers,
) -> dict[str, float]:
    """Train and evaluate a predictor; leaves `best.ckpt` and the predictions of test and validation rows."""
    fitted = trainers.fit(
        model, data, folder, "predictor", seed, recipe.monitor, recipe.mode, recipe.callbacks, **recipe.options
    )
    errors = evaluate_predictor(model, folder / BEST, data, folder, trainers)
    return {**errors, "epochs": fitted["epochs"], "fit_seconds": fitted["fit_seconds"]}


def evaluate_predictor(
    model: L.LightningModule, checkpoint: Path, data: CrystalDataModule, folder: Path, trainers: StageTrainers
) -> dict[str, float]:
    """Errors of a checkpoint on validation and test rows; leaves the predictions of both."""
    load_weights(model, checkpoint)
    # Every process sees all rows: a distributed sampler would count some of them twice.
    options = {"use_distributed_sampler": False}
    writer = PredictionWriter(folder)
    with trainers.trainer(folder, "evaluation", [writer], **options) as trainer:
        val = trainer.validate(model, datamodule=data, verbose=False)[0]
        test = trainer.test(model, datamodule=data, verbose=False)[0]
        trainer.predict(model, dataloaders=data.test_dataloader(), return_predictions=False)
        writer.file = VALIDATION_PREDICTIONS
        trainer.predict(model, dataloaders=data.val_dataloader(), return_predictions=False)
    return {
        "val_mae": val["val/mae"],
        "test_mae": test["test/mae"],
        "test_rmse": test["test/rmse"],
        "test_r2": test["test/r2"],
    }


def predict_crystals(
    model: L.LightningModule,
    checkpoints: Sequence[Path],
    data: CrystalDataModule,
    crystals: CrystalTable,
    trainers: StageTrainers,
) -> FloatArray:
    """What predictors say about crystals, in every process alike.

    Args:
        model: Takes the weights of each checkpoint in turn.
        checkpoints: The predictors.
        data: Has the target and the rule of the graphs.
        crystals: n crystals.
        trainers: Makes trainers.

    Returns:
        [k, n], of each of k predictors, user's units.
    """
    requests = data.with_training(np.zeros(0, dtype=np.int64), crystals).ordered_dataloader()
    members = []
    for checkpoint in checkpoints:
        load_weights(model, checkpoint)
        with trainers.trainer(None, "predictions", use_distributed_sampler=False) as trainer:
            predictions: list[Any] = trainer.predict(model, dataloaders=requests) or []
        members.append(np.concatenate([part.value.cpu().double().numpy() for part in predictions]))
    return np.stack(members)


def repeated_rows(rows: IntArray, size: int, seed: int) -> IntArray:
    """Rows repeated to a given size: each of them equally often, give or take one.

    Args:
        rows: What to repeat.
        size: Wanted number, at least that of the rows.
        seed: Chooses the rows that occur once more.
    """
    whole, rest = divmod(size, len(rows))
    extra = np.random.default_rng(seed).permutation(rows)[:rest]
    return np.concatenate([np.tile(rows, whole), extra])
