"""Reading checkpoints without executing anything."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from matwheel import weights_file
from matwheel.files import STAGE


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint, or of exported weights, on the CPU; nothing in it is executed.

    Raises:
        ValueError: If there is no such file, or it is damaged or holds anything but weights and plain values.
    """
    if not path.is_file():
        raise ValueError(f"no such checkpoint: {path}")
    if path.suffix == ".skops":
        raise ValueError(f"{path} is a predictor that is no network: predict, evaluate and export take it")
    if path.suffix == weights_file.SUFFIX:
        return weights_file.read_weights(path)
    try:
        _refuse_unpacking(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways: each means unreadable
        mend = "Give another one"
        if path.with_name(STAGE).is_file():
            mend += f", or delete this folder of a stage of a flywheel, {path.parent}, and run the same command again"
        raise ValueError(
            f"{path} is not a checkpoint that can be read: it is cut off, damaged, of another program, or holds code, "
            f"which is never run ({type(error).__name__}). {mend}"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise ValueError(f"{path} holds no weights ('state_dict'): give a checkpoint that 'fit' left")
    return content


def _refuse_unpacking(path: Path) -> None:
    """Checkpoints are archives without compression: one that would grow is not torch's."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("the archive is compressed")
