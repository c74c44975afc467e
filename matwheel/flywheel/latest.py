"""The latest state of a training on disk, so complete that a training continued from it ends as if never broken."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from matwheel.checkpoint_file import read_checkpoint
from matwheel.flywheel.processes import Processes

log = logging.getLogger(__name__)

LAST = "last.ckpt"
_STATE = "matwheel_training_state"


class LatestCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` after every epoch.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder, filename=Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False
        )


def state_to_continue(folder: Path, processes: Processes) -> Path | None:
    """The `last.ckpt` of an interrupted training, None where there is none; all processes must ask together.

    One that cannot be read is reported and removed: the training then begins anew, with the same result.
    """
    path = folder / LAST
    if processes.is_first and path.is_file():
        try:
            read_checkpoint(path)
        except ValueError as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            log.warning("%s is damaged (%s): this training starts again from its first epoch", path, reason)
            path.unlink()
    return path if processes.broadcast(path.is_file()) else None


class TrainingState(Callback):
    """Keeps in checkpoints what Lightning does not: whether training shall stop, and the metrics so far.

    Without it a training that was interrupted after its early stop would go on.

    Args:
        folder: Where the checkpoints of this training lie. Lightning's own record is an absolute path, which is of no
            use after the folder of a run was moved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics: dict[str, float] = {}

    def metrics(self, trainer: L.Trainer) -> dict[str, float]:
        """The metrics after the last epoch, even if it was trained before an interruption."""
        return self._metrics | {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state."""
        checkpoint[_STATE] = {
            "should_stop": trainer.should_stop,
            "metrics": self.metrics(trainer),
            "folder": str(self.folder.resolve()),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore it; Lightning restores callbacks after this."""
        state = checkpoint[_STATE]
        trainer.should_stop = state["should_stop"]
        self._metrics = state["metrics"]
        checkpoint["callbacks"] = _moved(checkpoint["callbacks"], state["folder"], str(self.folder.resolve()))


def _moved(value: Any, old: str, new: str) -> Any:
    """The same with paths in the folder `old` replaced by those in `new`."""
    if isinstance(value, str) and Path(value).is_relative_to(old):
        return str(new / Path(value).relative_to(old))
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(content, old, new) for key, content in value.items()}
    return value
