"""What is wrong with an option, in a line: the parser's own message lists every type that a value does not have."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable
from typing import get_args, get_type_hints

_UNKNOWN_OPTION = re.compile(
    r"Problem with given class_path '([\w.]+)':\s+"
    r"(?:(?:Option|Validation failed: Key) '|unrecognized arguments: --)([\w-]+)"
)  # the wording of old and new versions of jsonargparse, and that about an option with parts
_UNKNOWN_OPTION_OF_FACTORY = re.compile(r"Option '(\w+)' is not accepted\. Got value: Namespace\(class_path='([\w.]+)'")
_UNRECOGNISED = re.compile(r"unrecognized arguments: --([\w.-]+)", re.IGNORECASE)
_HELP_OPTION = re.compile(r"^--([\w.]+)\.help: ")
_UNKNOWN_NAME = re.compile(r"Expected a dot import path string: (\w+)$")
_UNKNOWN_ATTRIBUTE = re.compile(r"module '[\w.]+' has no attribute '(\w+)'")
_WRONG_TYPE = re.compile(r"Expected a <class '([\w.]+)'>(?:\. Got value: (.*))?$")
_OTHER_TYPE = re.compile(r"^\s*- Expected a <class '([\w.]+)'>$", re.MULTILINE)
_WRONG_CHOICE = re.compile(r"Expected a (?:typing\.)?Literal\[(.*)\]\. Got value: (.*)$")
_ABSTRACT = re.compile(r"Expected an instantiatable class, but ([\w.]+) is abstract$")
_NO_CONFIG = re.compile(r"(?:Unexpected config|Problems parsing config): (.*)", re.DOTALL)
_OPTION = re.compile(r"Parser key \"([\w.]+)\"")
_ALTERNATIVES = re.compile(r"\s*(?:Parser key \"|Does not validate against|Problem with given class_path)")
_LIST_OF_CLASSES = re.compile(r"- Expected a <class 'list'>\s+(?=- Expected a dot import path)")
_NO_REASON = re.compile(
    r"(?:- )?(?:$|.*:$|Does not validate against|Subtypes: |Given value|Expected a <class 'NoneType'>"
    r"|Expected a path but|Not a valid subclass|a class path \(str\)|a dict with)"
)  # what the parser says about an alternative that nobody has meant, or before it comes to the point
_GIVEN_VALUE = re.compile(r"^\s*Given value: (.*)", re.MULTILINE)
_PACKAGE = __name__.partition(".")[0]
_COMMAND_LINE = f"{_PACKAGE}.cli"
_PARTS = {"data": f"{_PACKAGE}.data.module.CrystalDataModule", "trainer": "lightning.Trainer"}
_BASES = ("lightning.LightningDataModule", "lightning.LightningModule", "lightning.Callback")
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "collections.abc.Sequence": "a list",
}
_NO_MODEL = re.compile(r"the following arguments are required: \w+\.model$")
_CONFIGS = "-c predictor/cgcnn.yaml or -c flywheel/full.yaml"
_WORD = re.compile(r"[A-Za-z_][\w+. -]*")
_LONGEST = 300


def explain(message: str) -> str:
    """A message of the parser as a person needs it: a line of bounded length, where a value has many types about one.

    Args:
        message: What the parser says.
    """
    line = _explained(message)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _explained(message: str) -> str:
    if found := _NO_CONFIG.match(message):
        return (
            f"what is given as -c is no config, which is YAML with options ({_line(found[1])[:60]} …): a table of "
            "crystals is given as --data.dataset"
        )
    if _NO_MODEL.match(message):
        return f"no config names a model: give one, such as {_CONFIGS}"
    above, reason, below = _first_reason(message)
    options = _OPTION.findall(above)
    if found := _UNKNOWN_OPTION.search(f"{above}{reason}"):
        return _no_option(*found.groups())
    if found := _UNKNOWN_OPTION_OF_FACTORY.search(reason):
        return _no_option(found[2], found[1])
    options += _HELP_OPTION.findall(reason)
    if options and (found := _UNKNOWN_NAME.search(reason) or _UNKNOWN_ATTRIBUTE.search(reason)):
        name = found[1]
        if name in _classes():
            return f"{name} is no class for the option '{options[-1]}': --help says what it takes"
        return (
            f"there is no class '{name}'{_hint(name, _classes())} A class of the package is known by its name, any "
            "other by module and name (package.module.Class)"
        )
    if found := _UNRECOGNISED.search(reason):
        return _no_such_option(found[1], _hint_for_option(found[1]))
    if not options:
        return reason
    option = options[-1]
    if option == "data":
        return "option 'data' must be a class or a config: for a table of crystals, did you mean --data.dataset?"
    if found := _WRONG_TYPE.search(reason):
        given = _GIVEN_VALUE.search(below) if found[2] is None else None
        return _wrong_type(option, [found[1], *_OTHER_TYPE.findall(below)], str(given[1] if given else found[2]))
    if found := _WRONG_CHOICE.search(reason):
        return f"option '{option}' must be one of {found[1]}, not {found[2]!r}"
    if found := _ABSTRACT.search(reason):
        known = sorted(kind.__name__ for kind in pkgutil.resolve_name(found[1]).__subclasses__())
        return f"options of '{option}' come after its class: give '{option}' as {' or '.join(known)} first"
    return f"option '{option}': {reason}"


def _first_reason(message: str) -> tuple[str, str, str]:
    """The first alternative that says something, on one line, with what is above and below it.

    The parser lists, for each of the types that a value may have, why it is not of that type. The first is the one that
    the configs have chosen, those after it are the bases, which know nothing of a subclass's options.
    """
    if not _ALTERNATIVES.match(message):
        return "", _line(message), ""
    lines = _LIST_OF_CLASSES.sub("", message).splitlines()
    for start, line in enumerate(lines):
        text = line.lstrip()
        if _NO_REASON.match(text):
            continue
        column = len(line) - len(text.removeprefix("- "))
        end = start + 1
        while end < len(lines) and lines[end][:column].isspace():
            end += 1
        reason = _line("\n".join(lines[start:end])).removeprefix("- ")
        return "\n".join([*lines[:start], ""]), reason, "\n".join(lines[end:])
    return "", _line(message), ""


def _line(text: str) -> str:
    return " ".join(text.split())


def no_such_option(message: str, known: Iterable[str]) -> str:
    """A message on an option that a command does not have, with the one that may be meant; others as they are.

    Args:
        message: What the parser says.
        known: The options of the command, such as `--out`.
    """
    found = _UNRECOGNISED.search(message)
    return message if found is None else _no_such_option(found[1], _hint(f"--{found[1]}", known))


def _no_such_option(option: str, hint: str) -> str:
    return f"there is no option '--{option}'{hint} --help lists those there are"


def _wrong_type(option: str, types: list[str], given: str) -> str:
    types = sorted(filter("NoneType".__ne__, types), key="bool".__eq__)
    named = list(dict.fromkeys(_TYPES.get(kind, f"of type {kind}") for kind in types))
    example = f""", such as '["{given}"]'""" if named == ["a list"] and _WORD.fullmatch(given) else ""
    return f"option '{option}' must be {' or '.join(named)}{example}, not {given!r}"


def _no_option(class_path: str, option: str) -> str:
    name = class_path.rpartition(".")[2]
    if class_path in _BASES:  # nothing has chosen a class
        return f"the option '{option}' is of a class that no config names: give a config before it, such as {_CONFIGS}"
    inner = _options_of_parts(class_path, option)
    hint = f"; did you mean '{inner[0]}'?" if inner else _hint(option, _options(class_path))
    return f"{name} has no option '{option}'{hint}"


def parts_with(option: str) -> list[str]:
    """Where in a config an option of this name is, such as `data.init_args.dataset`."""
    places = {"data": "data.init_args", "trainer": "trainer"}
    return [f"{places[part]}.{option}" for part, path in _PARTS.items() if option in _options(path)]


def _options_of_parts(class_path: str, option: str) -> list[str]:
    """The option of this name of each part of a class, such as `crystals.dataset`."""
    if not _is_of_package(class_path):
        return []  # its annotations may name what is not there
    types = get_type_hints(pkgutil.resolve_name(class_path).__init__)
    parts = [(name, part) for name, kind in types.items() for part in (kind, *get_args(kind)) if inspect.isclass(part)]
    paths = [(name, f"{part.__module__}.{part.__qualname__}") for name, part in parts]
    return [f"{name}.{option}" for name, path in paths if _is_of_package(path) and option in _options(path)]


def _hint_for_option(given: str) -> str:
    part, _, option = given.rpartition(".")
    if part in _PARTS:
        return _hint(option, _options(_PARTS[part]))
    if part or _COMMAND_LINE not in sys.modules:  # another command has no such parts
        return "."
    known = {name: f"--{part}.{name}" for part, path in _PARTS.items() for name in _options(path)}
    close = difflib.get_close_matches(option, sorted(known), n=1)
    return f"; did you mean '{known[close[0]]}'?" if close else "."


def _is_of_package(name: str) -> bool:
    return name.partition(".")[0] == _PACKAGE


def _options(class_path: str) -> list[str]:
    """Names of the arguments of a class."""
    return list(inspect.signature(pkgutil.resolve_name(class_path)).parameters)


def _classes() -> set[str]:
    """Names of the classes of the package that have been imported."""
    modules = [module for name, module in sys.modules.items() if _is_of_package(name)]
    return {name for module in modules for name, value in vars(module).items() if inspect.isclass(value)}


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else "."
