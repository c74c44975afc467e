"""The processes that run a flywheel together: who writes, how they wait for and tell each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning as L


@dataclass(frozen=True)
class Processes:
    """What stages need to know of distributed training.

    Attributes:
        is_first: Whether this process writes files.
        barrier: Wait for all processes.
        broadcast: Every process gets the first one's value.
    """

    is_first: bool
    barrier: Callable[[], None]
    broadcast: Callable[[Any], Any]

    @classmethod
    def of(cls, trainer: L.Trainer) -> Processes:
        """The processes of a trainer."""
        return cls(trainer.is_global_zero, trainer.strategy.barrier, trainer.strategy.broadcast)


SINGLE_PROCESS = Processes(is_first=True, barrier=lambda: None, broadcast=lambda value: value)
