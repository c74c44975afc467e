"""One turn of the wheel: which stage needs which, with what settings, and what each arm is trained on."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import pandas as pd

from matwheel.data.crystal import CrystalTable, IntArray
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.conditions import ConditionSampler
from matwheel.flywheel.filters import Filter
from matwheel.flywheel.fingerprint import Json, data_fingerprint, describe
from matwheel.flywheel.ledger import Ledger, StageResult, derive_seed
from matwheel.flywheel.results import ResultRow
from matwheel.flywheel.stages import (
    CONDITIONS,
    CRYSTALS,
    Baseline,
    FitSettings,
    PredictorRecipe,
    draw_conditions,
    evaluate_baseline,
    evaluate_predictor,
    filter_crystals,
    repeated_rows,
    sample_crystals,
    train_generator,
    train_predictor,
    train_prior,
)
from matwheel.flywheel.trainers import BEST, StageTrainers, load_weights, seed_all
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.unpack import Provenance
from matwheel.writers import SAMPLES

Arm = Literal["F", "F x k", "G_F", "F+G_F"]
ROUND = 1
_NOT_OF_PRIOR = ("vae", "vae_checkpoint", "sampler", "oversample", "max_atoms_per_batch", "provenance")
"""Parts of a prior that its training does not depend on, or that are inputs of the stage."""
_ATTACHED = ("log", "log_dict", "_average_model")
"""What Lightning attaches to callbacks when a trainer starts."""


@dataclass
class Wheel:
    """Stages of one turn, run through a ledger.

    Attributes:
        generator: The conditional autoencoder, untrained; it is copied before use.
        make_prior: Makes the latent prior of an autoencoder.
        generator_fit: How the autoencoder is trained.
        prior_fit: How the prior is trained.
        conditions: Which condition values are asked for.
        filter: Which synthetic crystals are used.
        synthetic_ratio: Crystals generated per real training crystal.
        synthetic_weight: Weight of a synthetic crystal in the predictor's loss.
        chunk_size: Crystals generated at a time.
        model: The predictor, untrained; it is copied before use.
        recipe: How predictors are trained.
        data: Real crystals; left as they are.
        ledger: Where stages are recorded.
        trainers: Makes trainers.
        seed: Seed of the run.
    """

    generator: ConCDVAE
    make_prior: Callable[[ConCDVAE], LatentPrior]
    generator_fit: FitSettings
    prior_fit: FitSettings
    conditions: ConditionSampler
    filter: Filter
    synthetic_ratio: float
    synthetic_weight: float
    chunk_size: int
    model: L.LightningModule
    recipe: PredictorRecipe
    data: CrystalDataModule
    ledger: Ledger
    trainers: StageTrainers
    seed: int

    def __post_init__(self) -> None:
        if self.data.target not in self.data.conditions:
            raise ValueError(
                f"synthetic crystals are labelled by their condition: add the target {self.data.target!r} to the "
                f"conditions {self.data.conditions}"
            )
        if not len(self.data.val_rows) or not len(self.data.test_rows):
            raise ValueError("the wheel compares arms on validation and test rows: the split must have both")

    @cached_property
    def data_key(self) -> str:
        """Identity of the real crystals, their labels, the split and the graphs."""
        return data_fingerprint(self.data)

    @cached_property
    def untrained_prior(self) -> LatentPrior:
        """The prior around an untrained autoencoder; made once, since its weights are random."""
        seed_all(derive_seed(self.seed, "prior weights"))
        return self.make_prior(copy.deepcopy(self.generator))

    @cached_property
    def crystals(self) -> StageResult:
        """Generator, prior, conditions, samples and filter, each unless finished before."""
        run = self.ledger.run
        generator_seed, prior_seed = self._seed("generator"), self._seed("prior")
        generator = run(
            "generator",
            lambda folder: train_generator(
                copy.deepcopy(self.generator), self.data, self.generator_fit, generator_seed, folder, self.trainers
            ),
            {"model": describe(self.generator), "fit": describe(self.generator_fit)},
            {"data": self.data_key},
            generator_seed,
        )

        def fit_prior(folder: Path) -> dict[str, float]:
            prior = copy.deepcopy(self.untrained_prior)
            prior.vae_checkpoint = generator.folder / BEST
            return train_prior(prior, self.data, self.prior_fit, prior_seed, folder, self.trainers)

        prior = run(
            "prior",
            fit_prior,
            {"model": describe(self.untrained_prior, skip=_NOT_OF_PRIOR), "fit": describe(self.prior_fit)},
            {"data": self.data_key, "generator": generator.key},
            prior_seed,
        )
        conditions = self._draw_conditions()
        samples = self._sample(prior, conditions)
        training = self.data.table.take(self.data.train_rows)
        return run(
            "crystals",
            self._once(
                lambda folder: filter_crystals(
                    self.filter, CrystalTable.load(samples.folder / SAMPLES), training, folder
                )
            ),
            describe(self.filter),
            {"data": self.data_key, "samples": samples.key},
            seed=0,  # nothing is random
        )

    @cached_property
    def synthetic(self) -> CrystalTable:
        """The synthetic crystals that passed the filter."""
        return CrystalTable.load(self.crystals.folder / CRYSTALS)

    def _draw_conditions(self) -> StageResult:
        count = max(round(self.synthetic_ratio * len(self.data.train_rows)), 1)
        is_class = self.generator.condition_embedding.is_class
        categorical = tuple(column for column, value in enumerate(is_class) if value)
        seed = self._seed("conditions")
        return self.ledger.run(
            "conditions",
            self._once(lambda folder: draw_conditions(self.conditions, self.data, categorical, count, seed, folder)),
            {"sampler": describe(self.conditions), "count": count, "categorical": list(categorical)},
            {"data": self.data_key},
            seed,
        )

    def _sample(self, prior: StageResult, conditions: StageResult) -> StageResult:
        seed = self._seed("samples")

        def work(folder: Path) -> dict[str, float]:
            model = copy.deepcopy(self.untrained_prior)
            load_weights(model, prior.folder / BEST)
            model.provenance = Provenance(model.weights_hash(), ROUND)
            values = pd.read_parquet(conditions.folder / CONDITIONS).to_numpy()
            return sample_crystals(model, values, self.chunk_size, seed, folder, self.trainers)

        model = self.untrained_prior
        return self.ledger.run(
            "samples",
            work,
            {"sampler": describe(model.sampler), "oversample": model.oversample},
            {"prior": prior.key, "conditions": conditions.key},
            seed,
        )

    def baseline(self, kind: Baseline) -> ResultRow:
        """A reference predictor on the real crystals."""
        seed = self._seed("baseline")
        result = self.ledger.run(
            f"baseline-{kind}",
            self._once(lambda folder: evaluate_baseline(kind, self.data, seed, folder)),
            {"kind": kind},
            {"data": self.data_key},
            seed,
        )
        return self._row(kind, kind, len(self.data.train_rows), 0, result.metrics, result.seconds)

    def arm(self, arm: Arm) -> ResultRow:
        """The predictor on one mixture."""
        data, config, inputs = self.mixture(arm)
        seed = self._seed("predictor")
        result = self.ledger.run(
            _stage_name(arm),
            lambda folder: train_predictor(copy.deepcopy(self.model), data, self.recipe, seed, folder, self.trainers),
            config,
            inputs,
            seed,
        )
        return self.arm_row(arm, data, result)

    def arm_row(self, arm: Arm, data: CrystalDataModule, result: StageResult) -> ResultRow:
        """The row of results of an arm that was trained on `data`."""
        n_synthetic = len(data.synthetic) if data.synthetic is not None else 0
        network = getattr(self.model, "network", self.model)
        seconds = result.seconds + result.metrics.get("outer_fit_seconds", 0.0)
        n_real = len(data.train_rows) - n_synthetic
        return self._row(arm, type(network).__name__, n_real, n_synthetic, result.metrics, seconds)

    def mixture(self, arm: Arm) -> tuple[CrystalDataModule, Json, dict[str, str]]:
        """What an arm is trained on, and the settings and inputs of its stage."""
        rows = self.data.train_rows
        config: dict[str, Json] = {
            "model": describe(self.model),
            "recipe": describe(self.recipe, skip=_ATTACHED),
            "batch_size": self.data.batch_size,
        }
        inputs = {"data": self.data_key}
        if arm == "F":
            return self.data.with_training(rows), config, inputs
        if arm == "F x k":
            size = len(rows) + len(self.synthetic)
            repeated = repeated_rows(rows, size, self._seed("repeated rows"))
            return self.data.with_training(repeated), {**config, "size": size}, inputs
        inputs["crystals"] = self.crystals.key
        real: IntArray = rows if arm == "F+G_F" else np.zeros(0, dtype=np.int64)
        data = self.data.with_training(real, self.synthetic, self.synthetic_weight)
        return data, {**config, "weight": self.synthetic_weight}, inputs

    def mixed_result(self) -> StageResult | None:
        """The arm `F+G_F` if it was finished before."""
        _, config, inputs = self.mixture("F+G_F")
        return self.ledger.finished(_stage_name("F+G_F"), config, inputs, self._seed("predictor"))

    def finish_mixed(self, checkpoint: Path, fit_seconds: float) -> ResultRow:
        """Evaluate and record the arm `F+G_F`, which was trained elsewhere."""
        data, config, inputs = self.mixture("F+G_F")

        def work(folder: Path) -> dict[str, float]:
            if self.ledger.processes.is_first:
                shutil.copyfile(checkpoint, folder / BEST)
            self.ledger.processes.barrier()
            model = copy.deepcopy(self.model)
            errors = evaluate_predictor(model, folder / BEST, data, folder, self.trainers)
            return {**errors, "outer_fit_seconds": fit_seconds}

        result = self.ledger.run(_stage_name("F+G_F"), work, config, inputs, self._seed("predictor"))
        return self.arm_row("F+G_F", data, result)

    def _row(
        self, arm: str, predictor: str, n_real: int, n_synthetic: int, metrics: Mapping[str, float], seconds: float
    ) -> ResultRow:
        return ResultRow(
            dataset=self.data.dataset,
            target=self.data.target,
            scenario="full",
            arm=arm,
            predictor=predictor,
            split=_split_name(self.data.split),
            seed=self.seed,
            round=ROUND if n_synthetic else 0,
            n_real=n_real,
            n_synthetic=n_synthetic,
            test_mae=metrics["test_mae"],
            test_rmse=metrics["test_rmse"],
            test_r2=metrics["test_r2"],
            val_mae=metrics["val_mae"],
            seconds=seconds,
        )

    def _seed(self, purpose: str) -> int:
        return derive_seed(self.seed, purpose)

    def _once(self, work: Callable[[Path], dict[str, float]]) -> Callable[[Path], dict[str, float]]:
        """Work that only the first process does, whose numbers all get."""
        processes = self.ledger.processes

        def run(folder: Path) -> dict[str, float]:
            metrics: dict[str, float] = processes.broadcast(work(folder) if processes.is_first else {})
            return metrics

        return run


def _stage_name(arm: Arm) -> str:
    return f"predictor-{arm.replace(' ', '_')}"


def _split_name(split: object) -> str:
    """Kind of split and the number that tells it from others of its kind."""
    numbers = [getattr(split, name) for name in ("index", "fold", "seed") if hasattr(split, name)]
    return "-".join([type(split).__name__, *map(str, numbers[:1])])
