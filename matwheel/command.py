"""What the commands beside `matwheel.fit` have in common."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import ArgumentParser, Namespace

from matwheel.progress import hidden_progress
from matwheel.user_errors import shown_as_messages

_NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)
QUIET = "Show no progress, only results and warnings."


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
        options = parser.parse_args(args)
        for name in ("matwheel", "__main__"):  # the second is the command itself under `python -m`
            logging.getLogger(name).setLevel(logging.WARNING if options.quiet else logging.INFO)
        with hidden_progress(options.quiet):
            yield options
