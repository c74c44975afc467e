"""A property predictor: any network that gives one number per crystal, trained on a transformed target."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch_geometric.data import Batch
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

from matwheel.data.module import CrystalDataModule
from matwheel.data.targets import TargetTransform
from matwheel.models.checkpoints import complete_checkpoint, loading_trainer
from matwheel.models.finite import check_finite
from matwheel.models.optimisation import check_learning_rate, decayed_groups, may_fuse, one_cycle
from matwheel.models.processes import step_seeds, weight_of_share

log = logging.getLogger(__name__)

TARGET = "target"
"""Key of the target's name in checkpoints."""
_SEEN = "seen"
"""Key of the real crystals that a checkpoint was trained on or chosen by: `dataset`, `ids`."""
LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


class Predictions(NamedTuple):
    """Predicted property of a batch of crystals.

    Attributes:
        row: [B] int64, rows of the data module's table.
        value: [B], user's units.
    """

    row: Tensor
    value: Tensor


class PropertyPredictor(L.LightningModule):
    """Trains a network on one property and reports errors in the user's units.

    The target transform is fitted on the training set when a fit begins and travels in the checkpoint. The loss is
    computed on the transformed target; `val/` and `test/` errors `mae`, `rmse` and `r2` are in the user's units.

    Args:
        network: Module that maps a batch (see `matwheel.data.keys`) to [B] numbers.
        transform: Map between the property and the variable the network learns; `log` by default.
        loss: Of the transformed target: `l1`, `huber` (quadratic below one standard deviation) or `mse`.
        learning_rate: Highest learning rate of AdamW.
        weight_decay: Of weight matrices; biases and norms are left alone.
        schedule: Learning rate over the run: `one_cycle` (rises over the first tenth of the steps, then falls to
            nearly zero as a cosine) or `constant`.
    """

    def __init__(
        self,
        network: nn.Module,
        transform: TargetTransform | None = None,
        loss: Literal["l1", "huber", "mse"] = "l1",
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        schedule: Literal["one_cycle", "constant"] = "one_cycle",
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}: choose one of {', '.join(LOSSES)}")
        check_learning_rate(learning_rate)
        self.save_hyperparameters(ignore=["network", "transform"])
        self.network = network
        self.transform = transform if transform is not None else TargetTransform("log")
        self.loss = loss
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.val_errors = MetricCollection(
            {"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False), "r2": _R2()}, prefix="val/"
        ).set_dtype(torch.float64)  # sums of squares of targets far from zero cancel
        self.test_errors = self.val_errors.clone(prefix="test/")

    def setup(self, stage: str) -> None:
        """Fit the target transform on the training set."""
        if stage == "fit":
            target = self._data.training_statistics().target
            if len(target) > 1 and bool((target == target[0]).all()):
                log.warning(
                    "all %d training values of %r are %g: there is nothing to learn",
                    len(target),
                    self._data.target,
                    float(target[0]),
                )
            self.transform.fit(target)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the name of the target, and which crystals are known."""
        complete_checkpoint(self, checkpoint)
        checkpoint[TARGET] = getattr(self._data, "target", None)
        if isinstance(self._data, CrystalDataModule):
            rows = np.union1d(self._data.train_rows, self._data.val_rows)
            ids = self._data.table.ids[rows[rows < len(self._data.table)]]  # beyond are synthetic ones
            checkpoint[_SEEN] = {"dataset": Path(self._data.dataset).name, "ids": ids.tolist()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model, or of one for another target than the data module was told to read."""
        trainer = loading_trainer(self, checkpoint)
        if trainer is None:
            return
        trained, wanted = checkpoint.get(TARGET), getattr(self._data, "target", None)
        predicts_unlabelled = trainer.predicting and getattr(self._data, "target_option", None) is None
        if None not in (trained, wanted) and trained != wanted and not predicts_unlabelled:
            raise ValueError(
                f"{trainer.ckpt_path} predicts {trained!r}, data.target is {wanted!r}: name the same target, or "
                "give another checkpoint"
            )
        if trainer.testing and isinstance(self._data, CrystalDataModule):
            _warn_of_known(checkpoint.get(_SEEN, {}), self._data)

    def forward(self, batch: Batch) -> Tensor:
        """Predict the property in the user's units, [B]."""
        scaled: Tensor = self.network(batch)
        return self.transform.prediction(scaled)

    def training_step(self, batch: Batch) -> Tensor:
        """Loss of one batch: the mean over crystals of weight times error."""
        self._refuse_missing(batch, "training")
        batch.seed = step_seeds(self.trainer, batch.num_graphs, self.device)
        errors = self._errors(self.network(batch), batch.target)
        check_finite(self, {self.loss: errors}, batch.row)
        loss: Tensor = (batch.weight * errors).mean()
        count = batch.num_graphs
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=count, sync_dist=True)
        return loss * weight_of_share(self.trainer, count)

    def validation_step(self, batch: Batch) -> None:
        """Errors of one batch."""
        self._evaluate(batch, self.val_errors)

    def on_validation_start(self) -> None:
        """Refuse to validate what was never trained."""
        self._check_fitted()

    def on_test_start(self) -> None:
        """Refuse to test what was never trained."""
        self._check_fitted()

    def test_step(self, batch: Batch) -> None:
        """Errors of one batch."""
        self._evaluate(batch, self.test_errors)

    def on_predict_start(self) -> None:
        """Refuse to predict with what was never trained."""
        self._check_fitted()

    def predict_step(self, batch: Batch) -> Predictions:
        """Predictions in the user's units with the rows they belong to."""
        return Predictions(batch.row, self(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with weight decay on matrices only, and the schedule."""
        groups = decayed_groups(self.parameters(), self.learning_rate, self.weight_decay)
        optimizer = torch.optim.AdamW(groups, fused=may_fuse(self))
        if self.schedule == "constant":
            return optimizer
        return one_cycle(optimizer, self.trainer)

    @property
    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _errors(self, scaled: Tensor, target: Tensor) -> Tensor:
        return LOSSES[self.loss](scaled, self.transform(target), reduction="none")

    def _evaluate(self, batch: Batch, errors: MetricCollection) -> None:
        self._refuse_missing(batch, "validation or test")
        scaled = self.network(batch)
        loss = self._errors(scaled, batch.target).mean()
        self.log(f"{errors.prefix}loss", loss, batch_size=batch.num_graphs, sync_dist=True)
        errors.update(self.transform.prediction(scaled).double(), batch.target.double())
        self.log_dict(errors, batch_size=batch.num_graphs)

    def _check_fitted(self) -> None:
        if not self.transform.fitted:
            raise ValueError("this predictor was never trained: fit it first, or give a checkpoint with --ckpt_path")

    def _refuse_missing(self, batch: Batch, part: str) -> None:
        missing = torch.isnan(batch.target)
        if missing.any():
            raise ValueError(f"no target value, but part of {part}: {self._names(batch, missing)}")

    def _names(self, batch: Batch, which: Tensor) -> str:
        names = self._data.ids(batch.row[which])
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class _R2(R2Score):
    """Coefficient of determination in any unit: the sums of torchmetrics count as 0 below 1e-4.

    NaN where the targets do not vary, as those of a single crystal.
    """

    def compute(self) -> Tensor:
        variation = self.sum_squared_error - self.sum_error**2 / self.total
        varies = variation > 1e-12 * self.sum_squared_error  # else rounding is all there is
        return torch.where(varies, 1 - self.residual / variation, torch.nan)


def _warn_of_known(seen: dict[str, Any], data: CrystalDataModule) -> None:
    if seen.get("dataset") != Path(data.dataset).name:
        return
    known = int(np.isin(data.table.ids[data.test_rows], seen["ids"]).sum())
    if known:
        log.warning(
            "the model was trained on or chosen by %d of the %d test crystals, so that its errors say little: give the "
            "config.yaml of its training, or the same data.split",
            known,
            len(data.test_rows),
        )
