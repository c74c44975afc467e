"""The configs that come with the package, found by name where no file of that name is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_CONFIG = ("-c", "--config")
_OPTIONS = (*_CONFIG, "--trainer.callbacks.predictors")
_ENDINGS = (".yaml", ".yml")
_PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """The folder `configs`: inside an installed package, beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config(name: str) -> str:
    """A file of that name, else the config of the package.

    Args:
        name: Path, or a config of the package, for example `flywheel/full.yaml` or `configs/flywheel/full.yaml`.

    Returns:
        The path of the file, or what is given if it is not the name of a YAML file.

    Raises:
        ValueError: If there is no such file either; lists those of the package.
    """
    return name if not name.endswith(_ENDINGS) or Path(name).exists() else shipped_config(name)


def shipped_config(name: str) -> str:
    """Path of a config of the package.

    Args:
        name: For example `flywheel/full.yaml` or `configs/flywheel/full.yaml`.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    parts = PurePosixPath(name.removeprefix("configs/"))
    known = sorted(path.relative_to(configs_folder()).as_posix() for path in configs_folder().glob("*/*.yaml"))
    if str(parts) in known:
        return str(configs_folder() / parts)
    close = difflib.get_close_matches(str(parts), known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    raise ValueError(f"there is no config '{name}'{hint} Those of the package: {', '.join(known)}")


def with_shipped_configs(args: Sequence[str]) -> list[str]:
    """Arguments of a command line in which the values of options that name a config are paths of files."""
    found = []
    for previous, argument in zip(["", *args], args, strict=False):
        option, equals, value = argument.partition("=")
        if previous in _OPTIONS:
            found.append(find_config(argument))
        elif equals and option in _OPTIONS:
            found.append(f"{option}={find_config(value)}")
        else:
            found.append(argument)
    return found


def given_configs(args: Sequence[str]) -> list[Path]:
    """The YAML files that a command line gives as configs."""
    names = [
        argument if previous in _CONFIG else argument.partition("=")[2]
        for previous, argument in zip(["", *args], args, strict=False)
        if previous in _CONFIG or argument.partition("=")[0] in _CONFIG
    ]
    return [Path(name) for name in names if name.endswith(_ENDINGS) and Path(name).is_file()]
