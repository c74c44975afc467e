"""Checkpoints: written whole, and what they hold besides weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from matwheel.files import replaced_when_complete


class WholeCheckpoints(TorchCheckpointIO):
    """How trainers write checkpoints: complete or not at all.

    Lightning's own way goes through the system's folder for temporary files, from where a move to another disk is a
    copy that can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint that replaces an earlier one when it is complete."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with replaced_when_complete(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


def save_extra_state(model: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Put the extra state of a model's parts, such as names of conditions, into a checkpoint about to be written.

    A callback that averages weights writes the state of a copy made before the fit began, whose extra state is of then.

    Args:
        model: Has the present state.
        checkpoint: Is changed.
    """
    extra = {name: value for name, value in model.state_dict().items() if name.endswith("_extra_state")}
    checkpoint["state_dict"].update(extra)
