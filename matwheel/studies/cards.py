"""The GPUs of this machine, and which of them each of several programs has."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable that names the GPUs a program sees, separated by commas."""


def visible_cards() -> list[str]:
    """Names of the GPUs that this process sees, as the variable has them."""
    count = torch.cuda.device_count()
    names = os.environ[VISIBLE].split(",") if VISIBLE in os.environ else [str(number) for number in range(count)]
    return names[:count]


def divided(cards: Sequence[str], jobs: int, each: int | None) -> list[Sequence[str]]:
    """Divide GPUs among programs that run at a time.

    Args:
        cards: Names of the GPUs.
        jobs: Programs at a time.
        each: GPUs of each program; None for equal shares, or, where there are more programs than GPUs, for one that
            several have.

    Returns:
        The GPUs of each program.

    Raises:
        ValueError: If there are too few.
    """
    if each is not None and jobs * each > len(cards):
        raise ValueError(
            f"{jobs} jobs with {each} GPUs each need {jobs * each}, but {len(cards)} are visible here: lower --jobs or "
            "--gpus"
        )
    count = max(len(cards) // jobs, 1) if each is None else each
    starts = [job * count % max(len(cards), 1) for job in range(jobs)]
    return [cards[start : start + count] for start in starts]
