"""The one exception for what a user can put right, and how it is told."""

from __future__ import annotations

import sys
from types import TracebackType

__all__ = ["EXIT_BAD_INPUT", "InputError", "find_input_error", "say_it_plainly"]

EXIT_BAD_INPUT = 2


class InputError(ValueError):
    """Bad input: the message is one sentence that says what is wrong, what was expected, and what to do.

    The command line prints the message alone and leaves with exit code 2; nothing has been written by then.
    """


def find_input_error(error: BaseException | None) -> InputError | None:
    """The :class:`InputError` behind ``error``, however often it was wrapped by those who passed it on."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def say_it_plainly() -> None:
    """Let a process that dies of an :class:`InputError` say its sentence instead of a traceback, with exit code 2.

    For entry points that are not ours: a bundle's ``initialize`` calls it for ``python -m monai.bundle run``.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        bad_input = find_input_error(error)
        if bad_input is None:
            before(kind, error, trace)
            return
        print(f"error: {bad_input}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)

    sys.excepthook = hook
