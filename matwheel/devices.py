"""Where networks compute."""

from __future__ import annotations

import logging

import lightning as L
import torch
from lightning.pytorch.accelerators import Accelerator, MPSAccelerator

log = logging.getLogger(__name__)

DEVICE_HELP = "Where networks compute: 'auto' for the first GPU if there is one, 'cpu', 'cuda' or 'cuda:1'."


def find_device(name: str = "auto") -> torch.device:
    """A device of this machine.

    Args:
        name: `cpu`, `cuda` or `cuda:1`; `auto` for the first GPU if there is one, else the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    available = [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), "cpu"]
    chosen = {"auto": available[0], "cuda": "cuda:0"}.get(name, name)
    if chosen not in available:
        raise ValueError(f"there is no device {name!r} to compute on: give auto or {' or '.join(available)}")
    return torch.device(chosen)


def trainer_accelerator(asked: str | Accelerator) -> str | Accelerator:
    """The accelerator for a trainer: as asked for, but not MPS, the GPU of Apple silicon.

    The models hold numbers of double precision, which it does not have.

    Args:
        asked: As Lightning takes it. `auto` is the CPU where Lightning would choose MPS, with a warning.

    Raises:
        ValueError: If MPS is asked for.
    """
    available = MPSAccelerator.is_available()
    if asked == "auto" and available:
        log.warning("computing on the CPU: the models need double precision, which MPS (Apple silicon) does not have")
        return "cpu"
    if asked == "mps" or isinstance(asked, MPSAccelerator) or (asked == "gpu" and available):
        raise ValueError(
            "the models need double precision, which MPS (Apple silicon) does not have: leave --trainer.accelerator "
            "out, or give cpu"
        )
    return asked


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 by instructions; without them it is more than ten times slower."""
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_of_slow_precision(trainer: L.Trainer) -> None:
    """Say what to do where a trainer would compute in bfloat16 on a processor that is slow at it."""
    if trainer.strategy.root_device.type == "cpu" and str(trainer.precision).startswith("bf16") and not has_bfloat16():
        log.warning(
            "this processor has no instructions for bfloat16, which is over ten times slower than float32 then: give "
            "--trainer.precision 32-true"
        )
