"""What a checkpoint holds besides weights."""

from __future__ import annotations

from typing import Any

import lightning as L


def save_extra_state(model: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Put the extra state of a model's parts, such as names of conditions, into a checkpoint about to be written.

    A callback that averages weights writes the state of a copy made before the fit began, whose extra state is of then.

    Args:
        model: Has the present state.
        checkpoint: Is changed.
    """
    extra = {name: value for name, value in model.state_dict().items() if name.endswith("_extra_state")}
    checkpoint["state_dict"].update(extra)
