"""What the commands beside `matwheel.fit` have in common."""

from __future__ import annotations

import errno
import logging
import os
import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from matwheel.option_errors import no_such_option
from matwheel.progress import hidden_progress
from matwheel.user_errors import shown_as_messages

_NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)
_MISSING = "the following arguments are required: "
QUIET = "Show no progress, only results and warnings."


def _as_typed(parser: ArgumentParser, message: str) -> str:
    """A message on options as one types them: `--out`, which the parser calls `out`, and the nearest to a misspelt."""
    typed = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    if not message.startswith(_MISSING):
        return no_such_option(message, typed.values())
    return _MISSING + ", ".join(typed.get(name, name) for name in message.removeprefix(_MISSING).split(", "))


def _expanded(value: Any) -> Any:
    """An option whose paths begin in the home folder where they begin with `~`: shells leave it in `--out=~/x`."""
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    if not isinstance(value, Path):
        return value
    path = Path(os.path.expanduser(value))  # noqa: PTH111  that of Path fails where `~` begins a mere name
    _check_path(path)
    return path


def _check_path(path: Path) -> None:
    """Refuse here what no question about a path can be asked of, such as whether it is a folder."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise ValueError(
                f"{str(path)[:100]!r} cannot be a file or folder ({error.strerror}): give another"
            ) from error


@contextmanager
def command(parser: ArgumentParser, args: Sequence[str] | None) -> Iterator[Namespace]:
    """Read options, then do what they say, with messages on the terminal and errors of the user's as messages.

    Args:
        parser: Knows the options; gets `--quiet`.
        args: Arguments instead of those of the process.
    """
    logging.basicConfig(format="%(message)s")
    parser.add_argument("--quiet", action="store_true", help=QUIET)
    parser.exit_on_error = False  # what is wrong is said in a line, without the usage
    parser._negative_number_matcher = _NEGATIVE_NUMBER  # argparse takes -1e30 for an option
    with shown_as_messages():
        try:
            options = parser.parse_args(args)
        except ArgumentError as error:
            raise ArgumentError(None, _as_typed(parser, str(error))) from error
        for name, value in vars(options).items():
            options[name] = _expanded(value)
        for name in ("matwheel", "__main__"):  # the second is the command itself under `python -m`
            logging.getLogger(name).setLevel(logging.WARNING if options.quiet else logging.INFO)
        with hidden_progress(options.quiet):
            yield options
