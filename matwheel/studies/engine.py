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


def import_extra(module: str) -> ModuleType:
    """Import the package of an extra that is named like it or installs it.

    Raises:
        UserError: If it is not installed; names the extra.
    """
    extra = {"ray": "ray", "submitit": "slurm"}[module]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f'{module} is not installed: pip install "matwheel[{extra}]"') from error
