"""Checkpoints: written whole, read without executing anything, and checked against the model they are loaded into."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from matwheel.checkpoint_file import read_checkpoint
from matwheel.files import replaced_when_complete

MODEL_CLASS = "model_class"
"""Key of the name of the model's class in checkpoints."""
_SHOWN = 3  # names of weights in a message
_NOISE_LEVELS = ("noise.sigmas", "diffusion.betas")
"""Endings of names of buffers that hold settings, which weights were trained for."""


@runtime_checkable
class HoldsData(Protocol):
    """A model whose weights include data, as many as there were."""

    def make_room(self, state: Mapping[str, Any]) -> None:
        """Before weights are loaded, take their sizes."""


class WholeCheckpoints(TorchCheckpointIO):
    """How trainers write and read checkpoints: complete or not at all, and never with code inside."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint that replaces an earlier one when it is complete."""
        content = io.BytesIO()  # torch itself reports a full disk as an internal error
        torch.save(checkpoint, content)
        with replaced_when_complete(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `read_checkpoint`; whatever is asked for, only weights and plain values are loaded."""
        return read_checkpoint(Path(path))


def complete_checkpoint(model: L.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Add to a checkpoint about to be written what tells it from others, and refuse weights that are not finite.

    The extra state of a model's parts, such as names of conditions, is put in once more: a callback that averages
    weights writes the state of a copy made before the fit began, whose extra state is of then.

    Args:
        model: Has the present state.
        checkpoint: Is changed.

    Raises:
        FloatingPointError: If a weight is not finite; earlier checkpoints stay as they are.
    """
    extra = {name: value for name, value in model.state_dict().items() if name.endswith("_extra_state")}
    checkpoint["state_dict"].update(extra)
    checkpoint[MODEL_CLASS] = kind_of(model)
    bad = not_finite(checkpoint["state_dict"])
    if bad:
        raise FloatingPointError(
            f"training diverged: {_some(bad)} of {type(model).__name__} are not finite in epoch "
            f"{model.trainer.current_epoch} and not saved; the checkpoint before is kept. Lower the learning rate or "
            "clip gradients"
        )


def kind_of(model: L.LightningModule) -> str:
    """What a model's checkpoints are called: its class, or what its class names as common to several."""
    kind: str = getattr(model, "checkpoint_kind", type(model).__name__)
    return kind


def not_finite(state: Mapping[str, object]) -> list[str]:
    """Names of the tensors that hold a number that is not finite."""
    return [
        name
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]


def load_weights(model: L.LightningModule, path: Path) -> None:
    """Put the weights of a checkpoint into a model.

    Raises:
        ValueError: If the file cannot be read, or its weights do not fit the model.
    """
    load_state(model, read_checkpoint(path), path)


def load_state(model: L.LightningModule, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Put the weights of a checkpoint that was read from a file into a model.

    Raises:
        ValueError: If its weights do not fit the model.
    """
    check_fits(model, checkpoint, path)
    model.load_state_dict(checkpoint["state_dict"])


def check_fits(model: L.LightningModule, checkpoint: Mapping[str, Any], path: object) -> None:
    """Accept a checkpoint of a model like this one.

    Args:
        model: Would be given the weights.
        checkpoint: What was read.
        path: Where from.

    Raises:
        ValueError: If it is of another class, or was made with other settings of the networks.
    """
    name = kind_of(model)
    made_by = checkpoint.get(MODEL_CLASS, name)
    if made_by != name:
        raise ValueError(f"{path} is a checkpoint of {made_by}, not of {name}: give one of {name}, or another config")
    given = checkpoint["state_dict"]
    if isinstance(model, HoldsData):
        model.make_room(given)
    own = model.state_dict()
    other_shape = [key for key in own if key in given and _shape(own[key]) != _shape(given[key])]
    groups = {
        "missing": [key for key in own if key not in given],
        "unknown": [key for key in given if key not in own],
        "of another shape": other_shape,
    }
    misfits = [f"{_some(keys)} are {how}" for how, keys in groups.items() if keys]
    if misfits:
        raise ValueError(
            f"{path} does not fit this {name} ({'; '.join(misfits)}): use the config.yaml that was saved with it, or "
            "a checkpoint of this config; what another version of this program made, train again"
        )
    for key in own:
        if key.endswith(_NOISE_LEVELS) and not torch.equal(own[key].cpu(), given[key].cpu()):
            there, here = (f"{levels[0]:.4g} to {levels[-1]:.4g}" for levels in (given[key], own[key]))
            raise ValueError(
                f"{path} was trained with other noise than this {name} has: {key} from {there}, not from {here}. Use "
                "the config.yaml that was saved with it, or its noise"
            )


def loading_trainer(model: L.LightningModule, checkpoint: Mapping[str, Any]) -> L.Trainer | None:
    """The trainer that has read a checkpoint for a model, after `check_fits`; None where none has."""
    trainer = model._trainer
    if trainer is not None:
        check_fits(model, checkpoint, trainer.ckpt_path)
    return trainer


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the weights {', '.join(names[:_SHOWN])}{more}"
