"""Where networks compute."""

from __future__ import annotations

import torch

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
