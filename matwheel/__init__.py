"""Matwheel: a data flywheel for materials property prediction.

The functions for scripts and notebooks are in `matwheel.api`, which is imported when it is first used.
"""

from __future__ import annotations

from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    if name == "api":
        from importlib import import_module

        return import_module("matwheel.api")
    raise AttributeError(f"module 'matwheel' has no attribute {name!r}")
