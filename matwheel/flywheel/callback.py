"""The flywheel: a callback that turns the fit of one predictor into a comparison with and without synthetic data."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    Callback,
    Checkpoint,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
)
from lightning.pytorch.cli import SaveConfigCallback

from matwheel.data.catalogue import DATASETS
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.conditions import ConditionSampler, KernelDensity
from matwheel.flywheel.filters import BasicFilter, Filter, NoCrystalLeftError
from matwheel.flywheel.ledger import Ledger, derive_seed
from matwheel.flywheel.processes import Processes
from matwheel.flywheel.results import ResultRow, write_results
from matwheel.flywheel.stages import Baseline, FitSettings, PredictorRecipe
from matwheel.flywheel.trainers import BEST, SeededEpochs, StageTrainers, load_weights, seed_all
from matwheel.flywheel.wheel import Wheel
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.report.table import format_results

log = logging.getLogger(__name__)

RESULTS = "results.csv"
_DEFAULT_FIT = FitSettings()
_NOT_OF_RECIPE = (Checkpoint, ProgressBar, ModelSummary, LearningRateMonitor, SaveConfigCallback, BasePredictionWriter)
"""Callbacks that watch a training without changing it."""


class Flywheel(Callback):
    """Generates crystals from the training set and measures whether they help the predictor of this trainer.

    Before the first epoch it trains the generator and its latent prior on the real training crystals, samples new ones
    under conditions like the training labels, filters them, and trains copies of the predictor on other mixtures. Then
    the trainer itself fits real and synthetic crystals together (arm `F+G_F`). All arms start from the same weights and
    seed, follow the same recipe, choose their checkpoint on the same validation rows and are tested on the same rows.
    The seed is the one of `seed_everything`. Finished stages are skipped when the run is repeated, an interrupted one
    continues; only an interrupted fit of the outer trainer starts over, unless it is given its `ckpt_path`.

    Args:
        generator: The conditional autoencoder.
        prior: Makes the latent prior of an autoencoder.
        generator_fit: How the autoencoder is trained.
        prior_fit: How the prior is trained.
        conditions: Which condition values are asked for; distributed as the training labels by default.
        filter: Which synthetic crystals are used; valid ones without copies by default.
        synthetic_ratio: Crystals generated per real training crystal, before filtering.
        synthetic_weight: Weight of a synthetic crystal in the predictor's loss; a real one has 1.
        chunk_size: Crystals generated at a time.
        arms: What the predictor is trained on besides `F+G_F`: the real crystals (`F`), the synthetic ones (`G_F`), the
            real ones repeated to the number of `F+G_F` (`F x k`).
        baselines: Reference predictors: training median (`dummy`), trees on composition statistics (`trees`).
        folder: Folder of the run; the trainer's `default_root_dir` by default.
    """

    def __init__(
        self,
        generator: ConCDVAE,
        prior: Callable[[ConCDVAE], LatentPrior] = LatentPrior,
        generator_fit: FitSettings = _DEFAULT_FIT,
        prior_fit: FitSettings = _DEFAULT_FIT,
        conditions: ConditionSampler | None = None,
        filter: Filter | None = None,
        synthetic_ratio: float = 1.0,
        synthetic_weight: float = 1.0,
        chunk_size: int = 64,
        arms: Sequence[Literal["F", "F x k", "G_F"]] = ("F", "F x k", "G_F"),
        baselines: Sequence[Baseline] = ("dummy", "trees"),
        folder: Path | None = None,
    ) -> None:
        if synthetic_ratio <= 0:
            raise ValueError(f"synthetic_ratio must be positive, not {synthetic_ratio}")
        self.generator = generator
        self.prior = prior
        self.generator_fit = generator_fit
        self.prior_fit = prior_fit
        self.conditions = conditions if conditions is not None else KernelDensity()
        self.filter = filter if filter is not None else BasicFilter()
        self.synthetic_ratio = synthetic_ratio
        self.synthetic_weight = synthetic_weight
        self.chunk_size = chunk_size
        self.arms = tuple(arms)
        self.baselines = tuple(baselines)
        self.folder = folder
        self.results: list[ResultRow] = []
        """What is known so far, as in `results.csv`."""
        self._wheel: Wheel | None = None
        self._seeding = SeededEpochs(0)
        self._skips_fit = False
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Run all stages before the trainer's own fit and give it the synthetic crystals."""
        if stage != "fit":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, CrystalDataModule):
            raise ValueError("the flywheel needs a CrystalDataModule")
        recipe = _recipe(trainer, self)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._seeding = SeededEpochs(derive_seed(seed, "predictor"))
        folder = self.folder if self.folder is not None else Path(trainer.default_root_dir)
        ledger = Ledger(folder, Processes.of(trainer)).__enter__()
        try:
            self._wheel = Wheel(
                generator=self.generator,
                make_prior=self.prior,
                generator_fit=self.generator_fit,
                prior_fit=self.prior_fit,
                conditions=self.conditions,
                filter=self.filter,
                synthetic_ratio=self.synthetic_ratio,
                synthetic_weight=self.synthetic_weight,
                chunk_size=self.chunk_size,
                model=copy.deepcopy(pl_module),
                recipe=recipe,
                data=data.with_training(),
                ledger=ledger,
                trainers=StageTrainers(trainer),
                seed=seed,
            )
            self._turn(self._wheel)
            self._prepare_fit(self._wheel, trainer, pl_module, data)
        except BaseException:
            ledger.__exit__()
            raise

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the epoch as in the other arms."""
        self._seeding.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the batch as in the other arms."""
        self._seeding.on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the best checkpoint, and report."""
        assert self._wheel is not None
        if not self._skips_fit:
            checkpoint = trainer.checkpoint_callback
            assert isinstance(checkpoint, ModelCheckpoint)
            if not checkpoint.best_model_path:
                raise ValueError("the fit left no checkpoint to evaluate: train for at least one epoch")
            seconds = time.perf_counter() - self._started
            self._add(self._wheel.finish_mixed(Path(checkpoint.best_model_path), seconds))
        self._print()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let another process work in the run's folder."""
        self._release()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let another process work in the run's folder."""
        self._release()

    def _turn(self, wheel: Wheel) -> None:
        self.results = []
        for kind in self.baselines:
            self._add(wheel.baseline(kind))
        if "F" in self.arms:
            self._add(wheel.arm("F"))
        try:
            count = len(wheel.synthetic)
        except NoCrystalLeftError:
            self._print()
            raise
        log.info("%d synthetic crystals beside %d real ones", count, len(wheel.data.train_rows))
        for arm in ("F x k", "G_F"):
            if arm in self.arms:
                self._add(wheel.arm(arm))

    def _prepare_fit(
        self, wheel: Wheel, trainer: L.Trainer, pl_module: L.LightningModule, data: CrystalDataModule
    ) -> None:
        finished = wheel.mixed_result()
        self._skips_fit = finished is not None
        data.use_training(None, wheel.synthetic, wheel.synthetic_weight)
        if finished is not None:
            self._add(wheel.arm_row("F+G_F", data, finished))
            load_weights(pl_module, finished.folder / BEST)
            trainer.fit_loop.max_epochs = 0
            trainer.num_sanity_val_steps = 0
        seed_all(self._seeding.seed)
        self._started = time.perf_counter()

    def _add(self, row: ResultRow) -> None:
        """Add a row to the results, on disk as well, so that nothing known is lost if a later stage fails."""
        assert self._wheel is not None
        self.results.append(row)
        ledger = self._wheel.ledger
        if ledger.processes.is_first:
            write_results(ledger.folder / RESULTS, self.results)

    def _print(self) -> None:
        assert self._wheel is not None
        data, ledger = self._wheel.data, self._wheel.ledger
        if ledger.processes.is_first:
            unit = DATASETS[data.dataset].units.get(data.target, "") if data.dataset in DATASETS else ""
            print(f"\n{format_results(self.results, unit)}\n\nResults: {ledger.folder / RESULTS}")

    def _release(self) -> None:
        if self._wheel is not None:
            self._wheel.ledger.__exit__()


def _recipe(trainer: L.Trainer, wheel: Flywheel) -> PredictorRecipe:
    """How a trainer trains, as far as it changes the result."""
    options: Any = trainer  # Lightning does not declare all of these attributes
    if options.fast_dev_run:
        raise ValueError("fast_dev_run leaves no checkpoint for the flywheel to evaluate: lower max_epochs instead")
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, ModelCheckpoint):
        raise ValueError("the flywheel evaluates the best checkpoint: add a ModelCheckpoint with a monitor")
    names = (
        "max_epochs",
        "min_epochs",
        "max_steps",
        "gradient_clip_val",
        "accumulate_grad_batches",
        "check_val_every_n_epoch",
        "limit_train_batches",
        "limit_val_batches",
        "log_every_n_steps",
    )
    clipping = trainer.gradient_clip_algorithm
    return PredictorRecipe(
        monitor=checkpoint.monitor,
        mode=checkpoint.mode,
        callbacks=[_copied(c) for c in options.callbacks if not isinstance(c, _NOT_OF_RECIPE) and c is not wheel],
        options={
            **{name: getattr(trainer, name) for name in names},
            "gradient_clip_algorithm": clipping.value if clipping is not None else None,
        },
    )


def _copied(callback: Callback) -> Callback:
    """A copy without the logging functions that Lightning attaches, which would drag the whole trainer along."""
    state = vars(callback)
    attached = {name: state.pop(name) for name in list(state) if name in ("log", "log_dict")}
    try:
        return copy.deepcopy(callback)
    finally:
        state.update(attached)
