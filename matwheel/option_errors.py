"""What is wrong with an option, in a line: the parser's own message lists every type that a value does not have."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable

_UNKNOWN_OPTION = re.compile(
    r"Problem with given class_path '([\w.]+)':\s+(?:Option|Validation failed: Key)"
    r" '(\w+)' is not (?:accepted|expected)"
)  # the wording of old and new versions of jsonargparse
_UNRECOGNISED = re.compile(r"unrecognized arguments: --([\w.]+)", re.IGNORECASE)
_UNKNOWN_NAME = re.compile(r"Expected a dot import path string: (\w+)")
_UNKNOWN_ATTRIBUTE = re.compile(r"module '[\w.]+' has no attribute '(\w+)'")
_WRONG_TYPE = re.compile(r"Parser key \"([\w.]+)\":\s+Expected a <class '([\w.]+)'>\. Got value: (.*)")
_OPTION = re.compile(r"Parser key \"([\w.]+)\"")
_PACKAGE = __name__.partition(".")[0]


def explain(message: str) -> str:
    """A message of the parser as a person needs it; unchanged where nothing better is known.

    Args:
        message: What the parser says.
    """
    if found := _UNKNOWN_OPTION.search(message):
        path, option = found.groups()
        return f"{path.rpartition('.')[2]} has no option '{option}'{_hint(option, _options(path))}"
    if found := _UNKNOWN_NAME.search(message) or _UNKNOWN_ATTRIBUTE.search(message):
        name = found[1]
        if name in _classes():
            return f"{name} is no class for the option '{_OPTION.findall(message)[-1]}': --help says what it takes"
        return (
            f"there is no class '{name}'{_hint(name, _classes())} A class of the package is known by its name, any "
            "other by module and name (package.module.Class)"
        )
    if found := _UNRECOGNISED.search(message):
        part, _, option = found[1].rpartition(".")
        hint = _hint(option, _options("lightning.Trainer")) if part == "trainer" else "."
        return f"there is no option '--{found[1]}'{hint} --help lists those there are"
    if found := _WRONG_TYPE.search(message):
        return f"option '{found[1]}' must be of type {found[2]}, not {found[3]!r}"
    return message.strip()


def _options(class_path: str) -> list[str]:
    """Names of the arguments of a class."""
    return list(inspect.signature(pkgutil.resolve_name(class_path)).parameters)


def _classes() -> set[str]:
    """Names of the classes of the package that have been imported."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE]
    return {name for module in modules for name, value in vars(module).items() if inspect.isclass(value)}


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else "."
