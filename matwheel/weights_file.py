"""Weights without anything else, as safetensors: a file in which nothing that runs can hide."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from matwheel.files import replaced_when_complete

SUFFIX = ".safetensors"
_KEPT = ("model_class", "target")  # of a checkpoint, besides its weights
_EXTRA = "extra_state"


def write_weights(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write the weights of a checkpoint, and what tells it from others.

    Args:
        path: Ends in `.safetensors`.
        checkpoint: See `read_checkpoint`. The extra state of its modules (such as names of conditions) must be plain
            values; it goes into the file's metadata.
    """
    from safetensors.torch import save

    state = checkpoint["state_dict"]
    tensors = {name: value.clone().contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    extra = {name: value for name, value in state.items() if name not in tensors}
    metadata = {name: checkpoint[name] for name in _KEPT if checkpoint.get(name) is not None}
    with replaced_when_complete(path) as temporary:
        temporary.write_bytes(save(tensors, {**metadata, _EXTRA: json.dumps(extra)}))


def read_weights(path: Path) -> dict[str, Any]:
    """What `write_weights` wrote, as the part of a checkpoint that it is.

    Raises:
        ValueError: If the file is damaged or was not written by `write_weights`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
        extra = json.loads(metadata[_EXTRA])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold the weights of a model of this program, or is damaged: give a file that "
            "'python -m matwheel.export' wrote"
        ) from error
    return {"state_dict": {**state, **extra}, **{name: metadata[name] for name in _KEPT if name in metadata}}
