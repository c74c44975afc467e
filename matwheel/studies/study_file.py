"""The file that describes a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from textwrap import shorten
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from matwheel.shipped_configs import shipped_config
from matwheel.studies.grid import Cell, Settings, expand

_KEYS = ("name", "config", "options", "grid", "share")


@dataclass(frozen=True)
class Study:
    """Runs to be made and compared.

    Attributes:
        name: Name of the study.
        axes: What its cells differ in.
        cells: Its runs.
        share: Axes along which runs may have stages in common.
    """

    name: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    share: tuple[str, ...] = ()


def read_study(path: Path) -> Study:
    """Read a study file: YAML with `name`, `config`, `options`, `grid` and `share`.

    Each value of an axis is a label with options for it, and optionally further configs; `{OPTION: [values]}` is short
    for an axis that changes one option, labelled by its values. Paths of configs are relative to the study file, and
    where no such file is, a config of the package is found by its name; `${oc.env:NAME}` is an environment variable.

    Args:
        path: The file.

    Raises:
        ValueError: If it cannot be read as a study; says where.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}: set it, or correct the study file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not a study file that can be read: {error}") from error
    study = _mapping(content, str(path))
    if study and not study.keys() & set(_KEYS):
        raise ValueError(f"{path} is no study file, which is YAML with {', '.join(_KEYS)}")
    if unknown := [key for key in study if key not in _KEYS]:
        named = shorten(", ".join(unknown), 60, placeholder=" …")
        raise ValueError(f"{path} has {named}, but a study consists of {', '.join(_KEYS)}")
    if not isinstance(study.get("name"), str):
        raise ValueError(f"{path} needs a name of the study, not {study.get('name')!r}")
    try:
        base = _settings({**_mapping(study.get("options"), "options"), "config": study.get("config")}, path.parent)
        grid = {axis: _axis(axis, values, path.parent) for axis, values in _mapping(study.get("grid"), "grid").items()}
        share = tuple(_texts(study.get("share"), "share"))
        if unknown := [axis for axis in share if axis not in grid]:
            raise ValueError(f"stages cannot be shared along {', '.join(unknown)}: the axes are {', '.join(grid)}")
        return Study(study["name"], tuple(grid), tuple(expand(base, grid)), share)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _axis(axis: str, values: object, folder: Path) -> dict[str, Settings]:
    named = _mapping(values, f"the axis {axis}")
    if len(named) == 1 and isinstance(listed := next(iter(named.values())), list):
        option = next(iter(named))
        return {str(value): Settings(options=((option, value),)) for value in listed}
    return {label: _settings(_mapping(value, f"{axis} {label}"), folder) for label, value in named.items()}


def _settings(content: Mapping[str, Any], folder: Path) -> Settings:
    paths = tuple(_config(folder, name) for name in _texts(content.get("config"), "config"))
    return Settings(paths, tuple((name, value) for name, value in content.items() if name != "config"))


def _config(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    try:
        return path if path.is_file() else Path(shipped_config(name))
    except ValueError as error:
        raise ValueError(f"{error}. Other paths are relative to the study file") from error


def _texts(content: object, where: str) -> list[str]:
    """One text or several; none for nothing."""
    texts: list[Any] = [] if content is None else content if isinstance(content, list) else [content]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where} must be a text or a list of them, not {shortened(content)}")
    return texts


def _mapping(content: object, where: str) -> dict[str, Any]:
    """A mapping with names as keys; an empty one for nothing."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be a mapping of names to values, not {shortened(content)}")
    return {str(name): value for name, value in content.items()}
