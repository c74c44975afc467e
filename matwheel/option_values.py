"""Options from text: YAML with interpolation, in which None is null."""

from __future__ import annotations

import io
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader
from omegaconf import OmegaConf

MODE = "omegaconf"
"""The `parser_mode` whose texts are read here."""


def read_none_as_null() -> None:
    """Let parsers take null for options of any depth.

    What is given for a part of a part they hand on as text that Python writes, in which null is `None`.
    """
    set_loader(MODE, _load, (yaml.YAMLError,))


def _load(text: str) -> Any:
    value = get_loader("yaml")(text)
    if isinstance(value, dict | list):
        value = OmegaConf.to_object(OmegaConf.load(io.StringIO(text)))
    return _with_null(value)


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_null(part) for part in value]
    return None if value == "None" else value
