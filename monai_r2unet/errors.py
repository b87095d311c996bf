"""Exceptions for problems the user can solve, and how they are shown."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType

__all__ = [
    "EXIT_BAD_INPUT",
    "InputError",
    "NotEnoughMemoryError",
    "OutputError",
    "as_argument",
    "as_setting",
    "as_switch",
    "find_input_error",
    "first_line",
    "known_error",
    "say_it_plainly",
    "sentence_of",
]

EXIT_BAD_INPUT = 2

_interrupts: list[int] = []  # those of Ctrl+C since `say_it_plainly`: the exception may be swallowed on its way

Spelling = Callable[[str, object], str]


def as_argument(option: str, value: object) -> str:
    """An option as an argument in Python: ``overwrite=True``."""
    return f"{option}={value!r}"


def as_switch(option: str, value: object) -> str:
    """An option as on the command line: ``--overwrite``, ``--allow-nonfinite 3``."""
    return as_setting(option.replace("_", "-"), value)


def as_setting(option: str, value: object) -> str:
    """An option as `monai.bundle` takes it: ``--dataset_dir FOLDER``."""
    return f"--{option}" if value is True else f"--{option} {value}"


class InputError(ValueError):
    """Bad input: the message is one sentence that says what is wrong, what was expected, and what to do.

    The command line prints only the message and exits with code 2; nothing has been written by then.

    Args:
        message: The sentence. What it tells the user to do needs no option.
        remedy: What an option does about it, such as "replace it".
        option: The argument that does it, such as ``overwrite``; each program spells it its way, or leaves the remedy
            out if it has no such option.
        value: The value to give it; ``True`` for one that is on or off.

    Example:
        >>> error = InputError("a.nrrd exists: choose another name", remedy="replace it", option="overwrite")
        >>> print(error)
        a.nrrd exists: choose another name, or replace it with overwrite=True
        >>> print(error.spelled(as_switch))
        a.nrrd exists: choose another name, or replace it with --overwrite
        >>> print(error.message)
        a.nrrd exists: choose another name
    """

    def __init__(self, message: str, *, remedy: str = "", option: str = "", value: object = True) -> None:
        self.message, self.remedy, self.option, self.value = message, remedy, option, value
        super().__init__(self.spelled(as_argument))

    def spelled(self, spelling: Spelling) -> str:
        """The sentence with the option as `spelling` writes it."""
        if not self.option:
            return self.message
        return f"{self.message}, or {self.remedy} with {spelling(self.option, self.value)}"


class NotEnoughMemoryError(MemoryError):
    """Out of memory on the GPU or the host: the message is one sentence with the place and the remedy."""


class OutputError(OSError):
    """A file could not be written through no fault of the input: the disk is full or failed, or the folder is gone.

    Args:
        path: The file to write; an existing one is left untouched.
        error: The cause.
    """

    def __init__(self, path: str | os.PathLike[str], error: Exception) -> None:
        if isinstance(error, OutputError):
            self.reason: str = error.reason
        else:
            self.reason = getattr(error, "strerror", None) or first_line(error)
        super().__init__(
            f"{os.fspath(path)} could not be written ({self.reason}): is the disk full, or its folder gone?"
        )


def find_input_error(error: BaseException | None) -> InputError | None:
    """The :class:`InputError` behind ``error``, however many exceptions wrap it."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """The first line of the message of ``error``, or its type if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def sentence_of(error: BaseException, spelling: Spelling | None = None) -> str:
    """``error`` as one line for the user: this module's exceptions keep their own message.

    Args:
        error: Any exception.
        spelling: How the program spells options; by default it has none, and no option is mentioned.
    """
    known = known_error(error)
    if isinstance(known, InputError):
        return known.message if spelling is None else known.spelled(spelling)
    return str(known or f"unexpected {type(error).__name__}: {first_line(error)}")


def known_error(error: BaseException) -> Exception | None:
    """``error``, or the :class:`InputError` behind it, if it belongs to this module."""
    return error if isinstance(error, NotEnoughMemoryError | OutputError) else find_input_error(error)


def say_it_plainly() -> None:
    """Make an uncaught error that the user can solve print its message instead of a traceback.

    That is an :class:`InputError`, or whatever the parts of a configuration raise about the values that they are given
    (exit code 2); what this module knows besides (1); and Ctrl+C (130). For foreign entry points: a bundle's
    ``initialize`` calls it for ``python -m monai.bundle run``.
    """
    before = sys.excepthook
    _interrupts.clear()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note_interrupt)

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt) or _interrupts:  # which ends a data loader's processes, too
            print("interrupted", file=sys.stderr)
            gc.freeze()  # the interpreter would take seconds to collect what torch has made
            sys.exit(130)
        known = known_error(error)
        if known is None and _while_initialising(trace):
            known = _wrong_value(error)
        if known is None:
            before(kind, error, trace)
            return
        print(f"error: {known.spelled(as_setting) if isinstance(known, InputError) else known}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT if isinstance(known, InputError) else 1)

    sys.excepthook = hook


def _note_interrupt(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def _while_initialising(trace: TracebackType | None) -> bool:
    """Whether an error arose while MONAI created what a configuration describes, before anything ran."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(trace)]
    return any(code.co_name == "initialize" and "monai" in code.co_filename for code in codes)


def _wrong_value(error: BaseException) -> InputError:
    """What a configuration's part raises about its values, as a sentence that names the part."""
    part, inner = "", error
    while True:
        named = re.match(r"Failed to instantiate component '?([\w.]+)", str(inner))
        part = named[1] if named else part
        if inner.__cause__ is None:
            break
        inner = inner.__cause__
    what = f"{part} in the configuration cannot be created" if part else "the configuration cannot be used"
    return InputError(f"{what} ({type(inner).__name__}: {first_line(inner)}): check the options and its values")
