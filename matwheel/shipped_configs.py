"""The configs that come with the package, found by name where no file of that name is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_OPTIONS = ("-c", "--config")
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
        The path of the file, or the name itself where there is no such file either.
    """
    if Path(name).exists():
        return name
    parts = PurePosixPath(name.removeprefix("configs/"))
    path = configs_folder() / parts
    is_inside = not parts.is_absolute() and ".." not in parts.parts
    return str(path) if is_inside and path.suffix == ".yaml" and path.is_file() else name


def with_shipped_configs(args: Sequence[str]) -> list[str]:
    """Arguments of a command line in which the values of -c and --config are paths of files."""
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
