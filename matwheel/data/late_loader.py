"""Batches in an order that is decided when the first of them is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader
from torch_geometric.data import Batch


class LateLoader(DataLoader[Batch]):
    """Workers begin an epoch when its first batch is asked for, not when the iterator is made.

    Lightning makes the iterator of the first epoch, and of a resumed one, before it tells the sampler which epoch that
    is. Without workers torch asks the sampler late by itself.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch declares a class of its own
        yield from super().__iter__()
