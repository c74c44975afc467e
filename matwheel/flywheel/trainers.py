"""Trainers inside a trainer: stages run on the hardware of the trainer that the wheel is attached to."""

from __future__ import annotations

import copy
import logging
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy

from matwheel.data.shares import Shares
from matwheel.devices import find_device
from matwheel.flywheel.latest import LatestCheckpoint, TrainingState, state_to_continue
from matwheel.flywheel.ledger import derive_seed
from matwheel.flywheel.processes import SINGLE_PROCESS, Processes
from matwheel.flywheel.tracking import Tracker
from matwheel.models.checkpoints import WholeCheckpoints
from matwheel.models.training_progress import TrainingProgress

BEST = "best.ckpt"
_EXPECTED_WARNINGS = (
    ".*exists and is not empty.*",  # an interrupted attempt is continued in its folder
    ".*in eval mode at the start of training.*",  # the prior keeps its autoencoder so
    ".*smaller than the logging interval.*",  # everything is logged once per epoch
    ".*does not have many workers.*",  # batches are slices of arrays in memory
    ".*LeafSpec.*is deprecated.*",
)


class SeededEpochs(Callback):
    """Seeds every epoch and batch by its number, so that a resumed training equals an unbroken one.

    The order of an epoch gets a generator of its own, because Lightning makes the iterator of a first epoch earlier
    than those of later ones. All processes are seeded alike: see `matwheel.models.processes`.

    Args:
        seed: Seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the order of this epoch."""
        sampler = getattr(trainer.train_dataloader, "sampler", None)
        if isinstance(sampler, Shares):
            seed = derive_seed(self.seed, f"epoch {trainer.current_epoch} order")
            sampler.seed = seed - sampler.epoch  # it seeds its generator with the sum of the two

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed this batch."""
        seed_all(derive_seed(self.seed, f"epoch {trainer.current_epoch} batch {batch_idx}"))


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch, without the environment variables by which Lightning seeds new processes."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


class StageTrainers:
    """Makes trainers with the accelerator, devices, strategy and precision of another one.

    Args:
        outer: The trainer to be like; by default each stage uses Lightning's own choice in one process.
    """

    def __init__(self, outer: L.Trainer | None = None) -> None:
        self.outer = outer
        self.tracker = Tracker(outer)

    @property
    def precision(self) -> str:
        """That of every stage, as Lightning names it."""
        return str(self.outer.precision) if self.outer is not None else "32-true"

    @property
    def device(self) -> torch.device:
        """Where networks compute that a stage asks without a trainer."""
        return self.outer.strategy.root_device if self.outer is not None else find_device()

    @contextmanager
    def trainer(
        self, folder: Path | None, stage: str, callbacks: Sequence[Callback] = (), **options: Any
    ) -> Iterator[L.Trainer]:
        """A trainer for one stage.

        Args:
            folder: Where the stage writes; None for a trainer that leaves nothing, such as one that only predicts.
            stage: What it does, for the progress bar.
            callbacks: Its callbacks.
            **options: Further arguments of the trainer.
        """
        if self.outer is not None and self.outer.progress_bar_callback is not None:
            callbacks = [*callbacks, TrainingProgress(stage)]
        loggers = [CSVLogger(folder, name="logs"), *self.tracker.loggers(folder)] if folder is not None else False
        with quiet():
            trainer = L.Trainer(
                default_root_dir=folder,
                logger=loggers,
                callbacks=list(callbacks),
                enable_model_summary=False,
                enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
                num_sanity_val_steps=0,
                **self._hardware(),
                **options,
            )
            # The wheel handles signals, see `interruption`: those of nested trainers would take its place.
            trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
            yield trainer

    def fit(
        self,
        model: L.LightningModule,
        data: L.LightningDataModule,
        folder: Path,
        stage: str,
        seed: int,
        monitor: str | None,
        mode: str = "min",
        callbacks: Sequence[Callback] = (),
        **options: Any,
    ) -> dict[str, float]:
        """Train a model, continuing from `last.ckpt` if it is there; leaves the best one in `best.ckpt`.

        Args:
            model: Trained in place.
            data: Its data.
            folder: Where checkpoints and logs go.
            stage: Name of the stage.
            seed: Decides every random number of the training.
            monitor: Validation metric that says which epoch is best; the last epoch if None.
            mode: `min` or `max`.
            callbacks: Callbacks that change the training; they are copied first.
            **options: Further arguments of the trainer.

        Returns:
            The metrics after the last epoch, the best value of `monitor` as `best`, the number of `epochs`
            and `fit_seconds`.
        """
        checkpoint = ModelCheckpoint(
            dirpath=folder,
            filename=Path(BEST).stem,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=True if monitor is None else None,
            enable_version_counter=False,
        )
        state = TrainingState(folder)
        callbacks = [*copy.deepcopy(list(callbacks)), SeededEpochs(seed), state, checkpoint, LatestCheckpoint(folder)]
        processes = SINGLE_PROCESS if self.outer is None else Processes.of(self.outer)
        last = state_to_continue(folder, processes)
        seed_all(seed)
        with self.trainer(folder, stage, callbacks, **options) as trainer:
            clock = time.perf_counter()
            trainer.fit(model, datamodule=data, ckpt_path=last)
            metrics = state.metrics(trainer)
            if not (folder / BEST).is_file():
                raise ValueError(f"the training of the {stage} left no checkpoint: is {monitor} logged in validation?")
            if checkpoint.best_model_score is not None:
                metrics["best"] = float(checkpoint.best_model_score)
            progress: Any = trainer.fit_loop.epoch_progress.current
            metrics["epochs"] = progress.processed  # unlike `current_epoch` right after a resumption as well
            metrics["fit_seconds"] = time.perf_counter() - clock
        return metrics

    def _hardware(self) -> dict[str, Any]:
        outer = self.outer
        plugins: list[Any] = [WholeCheckpoints()]
        if outer is None:
            return {"plugins": plugins}
        strategy = outer.strategy
        options: dict[str, Any] = {
            "accelerator": outer.accelerator,
            "devices": outer.num_devices if isinstance(outer.accelerator, CPUAccelerator) else outer.device_ids,
            "num_nodes": outer.num_nodes,
            "precision": outer.precision,
            "enable_progress_bar": outer.progress_bar_callback is not None,
            "plugins": plugins,
        }
        if isinstance(strategy, ParallelStrategy):
            options["strategy"] = _copied(strategy)
            plugins.append(_SameProcesses(outer))
        return options


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning says at the start and end of every fit, and its warnings about what is meant to be so."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "matwheel.writers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _SameProcesses(LightningEnvironment):
    """Tells a nested trainer that its processes exist already: those of the outer trainer.

    Without it a trainer nested in the first of several processes would launch all of them again.
    """

    def __init__(self, outer: L.Trainer) -> None:
        super().__init__()
        self._local_rank = outer.local_rank
        self._node_rank = outer.node_rank
        environment = getattr(outer.strategy, "cluster_environment", None)
        self._outer = environment if isinstance(environment, ClusterEnvironment) else LightningEnvironment()

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._outer.main_address

    @property
    def main_port(self) -> int:
        return self._outer.main_port

    def local_rank(self) -> int:
        return self._local_rank

    def node_rank(self) -> int:
        return self._node_rank

    def teardown(self) -> None:
        """Leave the environment variables to the outer trainer."""


def _copied(strategy: ParallelStrategy) -> Strategy | str:
    if isinstance(strategy, DDPStrategy):
        # The settings of DistributedDataParallel, such as find_unused_parameters, are kept in a private attribute only.
        return DDPStrategy(process_group_backend=strategy.process_group_backend, **strategy._ddp_kwargs)
    return str(getattr(strategy, "strategy_name", "auto"))
