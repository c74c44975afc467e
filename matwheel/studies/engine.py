"""What runs the programs of a study, and where."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from types import ModuleType
from typing import Protocol

from matwheel.studies.command import Command, Finished
from matwheel.user_errors import UserError


class Engine(Protocol):
    """Runs programs."""

    def run(self, commands: Sequence[Command]) -> Generator[Finished]:
        """Run all, in this order as far as there is room; those that run are ended when the generator is closed.

        Yields:
            Each of them when it has ended, whatever its outcome.
        """
        ...


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a package that only an extra of this one installs.

    Raises:
        UserError: If it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f'{module} is not installed: pip install "matwheel[{extra}]"') from error
