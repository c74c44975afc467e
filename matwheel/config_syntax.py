"""What is wrong with a config before its options are looked at: no YAML, or a name that is none of an option."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

import yaml

from matwheel.option_errors import parts_with


def check_config(path: Path, known: Collection[str]) -> None:
    """Refuse a config that the parser would refuse without saying which it is.

    Args:
        path: The file.
        known: The options of the first level.

    Raises:
        ValueError: Names the file and the place in it.
    """
    try:
        content = yaml.compose(path.read_bytes(), yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ValueError(
            f"{path}{place}: {error.problem}: correct the config, in which levels are indented by spaces, those of one "
            "level alike"
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}: give a text file with options") from error
    if not isinstance(content, yaml.MappingNode):
        return
    for key, _ in content.value:
        name = str(key.value).rstrip("+").partition(".")[0]
        if name not in known:
            close = [*parts_with(name), *difflib.get_close_matches(name, sorted(known), n=1)]
            hint = f"; did you mean '{close[0]}'?" if close else "."
            raise ValueError(
                f"{path}, line {key.start_mark.line + 1}: there is no option '{name}' on the first level{hint} "
                "--print_config shows those there are"
            )
