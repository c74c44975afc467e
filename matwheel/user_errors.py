"""What a person can mend is shown as a message, without the traceback that programmers need."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from matwheel.files import NO_ACCESS, NO_SPACE
from matwheel.option_errors import explain

TRACEBACK_VARIABLE = "MATWHEEL_TRACEBACK"
_PARSER = "jsonargparse"
_SPEAKERS = (__name__.partition(".")[0], _PARSER)  # whose messages are about what a person gave


class UserError(Exception):
    """Something that a person can mend, where no built-in exception says it."""


@contextmanager
def shown_as_messages() -> Iterator[None]:
    """End the program with a message where this package or the reader of options says what is wrong.

    The status is 2 for options that cannot be, 130 of Ctrl-C, else 1. It ends so on a full disk and where rights are
    missing, too. All other errors are programming errors and keep their traceback. With the environment variable
    MATWHEEL_TRACEBACK set, all do.
    """
    try:
        yield
    except ArgumentError as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        print(f"error: {explain(str(error))}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        print("ended by Ctrl-C", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from error
    except (ValueError, FloatingPointError, OSError, UserError) as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not _is_for_users(error):
            raise
        print(f"error: {_told(error)}\n(set {TRACEBACK_VARIABLE}=1 to see where it was found)", file=sys.stderr)
        raise SystemExit(1) from error


def _told(error: Exception) -> str:
    """The message of an error with what to do, which those of the operating system and the parser lack."""
    if isinstance(error, OSError) and error.errno in NO_ACCESS and error.filename is not None:
        return f"{error.filename} cannot be opened ({error.strerror}): change its rights, or give another"
    return explain(str(error)) if _raised_in(error) == _PARSER else str(error)


def _is_for_users(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in NO_SPACE | NO_ACCESS:
        return True
    return _raised_in(error) in _SPEAKERS


def _raised_in(error: Exception) -> str:
    """The package whose code raised an error."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    raised_in = _module(frame.tb_frame.f_globals) if frame is not None else ""
    return raised_in.partition(".")[0]


def _module(variables: Mapping[str, Any]) -> str:
    """Name of a module, also of the one that is run as a program, whose `__name__` is `__main__`."""
    spec = variables.get("__spec__")
    return str(spec.name if spec is not None else variables.get("__name__", ""))
