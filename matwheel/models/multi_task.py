"""Learning several properties at once, of which each crystal has some."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch_geometric.data import Batch
from torchmetrics import MeanMetric

from matwheel.checkpoint_file import read_checkpoint
from matwheel.data.targets import TargetTransform
from matwheel.models.checkpoints import complete_checkpoint, loading_trainer
from matwheel.models.finite import check_finite
from matwheel.models.optimisation import decayed_groups, may_fuse, one_cycle
from matwheel.models.predictor import LOSSES, PropertyPredictor
from matwheel.models.processes import step_seeds, weight_of_share
from matwheel.nn.transfer import TransferNetwork, read_out

_NETWORK = "network."


class MultiTaskPredictor(L.LightningModule):
    """Trains the body of a predictor's network on the conditions of a data module, with a readout for each.

    Targets are transformed like the predictor's own, one by one; the loss is the mean over all that are known. The
    network's own readout is not used and stays as it is, so that the network in a checkpoint is the predictor's with
    another body.

    Args:
        predictor: Gives network, transform, loss, learning rate and weight decay; it is copied. The learning rate
            follows `one_cycle`.
        num_tasks: Number of conditions.

    Raises:
        ValueError: If its network is no `TransferNetwork`.
    """

    def __init__(self, predictor: PropertyPredictor, num_tasks: int) -> None:
        super().__init__()
        network = predictor.network
        if not isinstance(network, TransferNetwork):
            raise ValueError(
                f"pre-training needs a network with a body and a readout, a TransferNetwork, not "
                f"{type(network).__name__}: choose another network, or none of it"
            )
        self.network = copy.deepcopy(network)
        self.readouts = nn.ModuleList(copy.deepcopy(network.readout) for _ in range(num_tasks))
        self.transforms = nn.ModuleList(copy.deepcopy(predictor.transform) for _ in range(num_tasks))
        self.network.readout.requires_grad_(False)
        self.loss = predictor.loss
        self.learning_rate = predictor.learning_rate
        self.weight_decay = predictor.weight_decay
        self.val_loss = MeanMetric()  # Lightning's own mean over processes rounds their numbers of targets

    def setup(self, stage: str) -> None:
        """Fit the target transforms on the training set."""
        if stage == "fit":
            values = self.trainer.datamodule.training_statistics().conditions  # type: ignore[attr-defined]
            for transform, column in zip(self.transforms, values.unbind(1), strict=True):
                cast(TargetTransform, transform).fit(column)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite."""
        complete_checkpoint(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model."""
        loading_trainer(self, checkpoint)

    def training_step(self, batch: Batch) -> Tensor:
        """Loss of one batch."""
        batch.seed = step_seeds(self.trainer, batch.num_graphs, self.device)
        loss, count = self._loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=count, sync_dist=True)
        return loss * weight_of_share(self.trainer, count)

    def validation_step(self, batch: Batch) -> None:
        """Log the loss."""
        self.val_loss.update(*self._loss(batch))
        self.log("val/loss", self.val_loss, batch_size=batch.num_graphs)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with weight decay on matrices, and the schedule."""
        trained = (p for p in self.parameters() if p.requires_grad)
        groups = decayed_groups(trained, self.learning_rate, self.weight_decay)
        return one_cycle(torch.optim.AdamW(groups, fused=may_fuse(self)), self.trainer)

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Mean error of the known targets, and their number."""
        represented = self.network.represent(batch)
        targets = batch.conditions
        known = torch.isfinite(targets)
        scaled = torch.stack([read_out(readout, represented) for readout in self.readouts], 1)
        columns = zip(self.transforms, targets.unbind(1), strict=True)
        wanted = torch.stack([transform(column) for transform, column in columns], 1)
        errors = LOSSES[self.loss](scaled, torch.where(known, wanted, scaled.detach()), reduction="none")
        check_finite(self, {self.loss: errors.sum(1)}, batch.row)
        count = int(known.sum())
        return errors.sum() / max(count, 1), count


def start_from(predictor: PropertyPredictor, path: Path) -> None:
    """Give a predictor's network the body that a checkpoint of `MultiTaskPredictor` holds.

    Raises:
        ValueError: If it holds another network.
    """
    state = read_checkpoint(path)["state_dict"]
    weights = {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
    try:
        predictor.network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of this network: {error}") from error
