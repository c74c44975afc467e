"""Progress where people wait: a bar on a terminal, a line now and then in a log file, or nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import std
from tqdm.auto import tqdm

_LINES_EVERY = 30.0  # seconds between two lines in a log file
_BAR_AFTER = 0.5  # seconds; what is over sooner would only flicker
_LINE = "  {desc}: {n_fmt} of {total_fmt}, {elapsed} since its start, {remaining} left, {rate_fmt}{postfix}"
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def hidden_progress(hidden: bool = True) -> Iterator[None]:
    """Show no progress in a block.

    Args:
        hidden: False to leave it as it is.
    """
    token = _hidden.set(hidden or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)


def progress_bar(label: str, total: float | None, unit: str, shown: bool = True, initial: int = 0) -> std.tqdm[Any]:
    """Rate and time left of work that is counted; to be updated and closed, or used in a `with` statement.

    Args:
        label: What is done.
        total: How much there is to do; None if unknown.
        unit: What is counted, singular.
        shown: Whether there is anything to see.
        initial: What was done before.
    """
    if not shown or _hidden.get():
        return std.tqdm(disable=True)
    unit = f" {unit}"
    # In a notebook, where output is no terminal either, tqdm's own choice is a widget.
    if sys.stderr.isatty() or tqdm.status_printer is not std.tqdm.status_printer:
        return tqdm(desc=label, total=total, unit=unit, initial=initial, leave=False, delay=_BAR_AFTER)
    return _Lines(
        desc=label,
        total=total,
        unit=unit,
        initial=initial,
        mininterval=_LINES_EVERY,
        miniters=1,
        delay=_LINES_EVERY,
        bar_format=_LINE,
    )


class _Lines(std.tqdm):  # type: ignore[type-arg] # (it cannot be subscripted when this runs)
    """Lines that stay, instead of one that is overwritten; none for work that is over before the first is due."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        print(self if msg is None else msg, file=sys.stderr, flush=True)

    def close(self) -> None:
        self.delay = math.inf  # a bar would be drawn once more
        super().close()


class Steps:
    """Numbers the steps of a long work and knows the time since it began.

    Args:
        planned: Names of all steps that are foreseen; one that is not is added when it is reached. Without any, steps
            are not numbered.
    """

    def __init__(self, planned: Iterable[str] = ()) -> None:
        self._planned = set(planned)
        self._numbered = bool(self._planned)
        self._reached: dict[str, int] = {}
        self._started = time.monotonic()

    def reach(self, name: str) -> str:
        """What to call a step: `[3/11] generator`."""
        if not self._numbered:
            return name
        self._planned.add(name)
        number = self._reached.setdefault(name, len(self._reached) + 1)
        return f"[{number}/{len(self._planned)}] {name}"

    @property
    def elapsed(self) -> str:
        """Time since the beginning, as minutes and seconds."""
        return std.tqdm.format_interval(time.monotonic() - self._started)
