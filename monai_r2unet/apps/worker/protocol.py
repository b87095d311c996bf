"""The commands that the worker takes, and how they and its events become lines.

``python -m monai_r2unet.worker`` reads one JSON object a line from standard input::

    {"cmd": "run", "job": 7, "bundle": "lung", "input": "ct.nrrd", "output": "lung.seg.nrrd", "device": "auto",
     "slices": [100], "weights": "own.pt", "batch_size": 4, "overwrite": true, "cpu_fallback": true,
     "trust_bundle": true, "engine": "torch", "scale": "1400px", "clean_up": true}
    {"cmd": "cancel"}    every run that was asked for before
    {"cmd": "quit"}      the same, and leave

Of a run only ``bundle``, ``input`` and ``output`` are required; the output's ending names its format. ``job`` is
whatever the caller wants back in the events. ``slices`` are indices along that axis of the stored image along which its
axial slices are stacked: only these are segmented, and all others are 0 in the output, which has the whole image's
grid. ``cpu_fallback``: go on on the CPU when the GPU is full. ``trust_bundle``: ``bundle`` may be the folder of a
bundle that is not shipped, whose configuration can execute any code. ``engine``: what runs the network, ``torch`` or
another of `monai_r2unet.inference.engines`. ``scale``: of a fundus photograph whose field of view cannot be found, the
factor by which it is resized for the network or, as a string that ends in ``px``, the diameter of its field of view in
pixels. ``clean_up``: remove islands from the mask of a volume, if the bundle does; where only some slices are
segmented, nothing is removed. A run waits for those before it.

Events leave on standard output, one a line, prefixed with ``@@`` so that nothing printed by others can pass for one::

    ready      version, protocol, bundles              once, before anything else, and before the slow imports
    devices    devices                                 once the imports are done; each: id, name, and the bytes that are
                                                       free_bytes and total_bytes of a GPU
    log        job, level (info, warning), message
    progress   job, done, total                        slices
    done       job, output, voxels, millilitres (null of a picture), warnings, seconds
    cancelled  job                                     nothing was written; comes at once, whatever is under way
    error      job, code, message                      nothing was written; the message is one sentence

Commands are taken from the start, also before ``ready``. Each run ends with exactly one of the last three. Codes:
``protocol`` (not a valid command), ``input`` (what the user can put right), ``memory``, ``output`` (the disk is full or
failed), ``internal`` (details are on standard error).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from monai_r2unet.errors import InputError

__all__ = ["PROTOCOL", "Answer", "Request", "event_line", "lines", "read_command", "read_event", "request_of"]

PROTOCOL = 2  # raised when a client must know of a change
MARK = "@@"  # before each event, so that nothing printed by others can pass for one


@dataclass(frozen=True)
class Request:
    """A request to segment an image; the module's docstring says what each part means."""

    bundle: str
    input: str
    output: str
    job: Any = None
    device: str = "auto"
    weights: str | None = None
    batch_size: int | None = None
    slices: list[int] | None = None
    overwrite: bool = False
    cpu_fallback: bool = False
    trust_bundle: bool = False
    engine: str = "torch"
    scale: float | str | None = None
    clean_up: bool = True


Answer = tuple[str, dict[str, Any]]  # the event that ends a run, and what it carries


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_integer, value))


def _number_or_text(value: Any) -> bool:
    return _integer(value) or isinstance(value, float | str)


@dataclass(frozen=True)
class Field:
    """What a part of a request may be.

    Args:
        expected: its type, as messages name it.
        check: whether a JSON value that is not null is of that type.
        optional: whether it may be null.
    """

    expected: str
    check: Callable[[Any], bool]
    optional: bool = False


FIELDS = {
    "bundle": Field("str", _text),
    "input": Field("str", _text),
    "output": Field("str", _text),
    "job": Field("Any", lambda value: True, optional=True),
    "device": Field("str", _text),
    "weights": Field("str | None", _text, optional=True),
    "batch_size": Field("int | None", _integer, optional=True),
    "slices": Field("list[int] | None", _integers, optional=True),
    "overwrite": Field("bool", _flag),
    "cpu_fallback": Field("bool", _flag),
    "trust_bundle": Field("bool", _flag),
    "engine": Field("str", _text),
    "scale": Field("float | str | None", _number_or_text, optional=True),
    "clean_up": Field("bool", _flag),
}
REQUIRED = ("bundle", "input", "output")


def lines(file: int) -> Iterator[bytes]:
    """The lines that come in through a file descriptor, until it closes.

    Without Python's buffers: a thread that waits in one holds its lock, which stops the interpreter from ending.
    """
    rest = b""
    while chunk := os.read(file, 65536):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def event_line(event: str, content: dict[str, Any]) -> bytes:
    """An event as a line, in ASCII."""
    return f"{MARK}{json.dumps({'event': event, **content})}\n".encode("ascii")


def read_event(line: bytes) -> dict[str, Any] | None:
    """A line of the worker as its event, with the key ``event``; None if others printed it."""
    if not line.startswith(MARK.encode("ascii")):
        return None
    event: dict[str, Any] = json.loads(line[len(MARK) :])
    return event


def read_command(line: bytes) -> dict[str, Any]:
    """A line as a command: an object with ``cmd`` ``run``, ``cancel`` or ``quit``.

    Raises:
        InputError: if it is none.
    """
    try:
        command = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not a valid command, because no JSON ({error})") from error
    if not isinstance(command, dict) or command.get("cmd") not in ("run", "cancel", "quit"):
        raise InputError("not a valid command, expected an object whose cmd is run, cancel or quit")
    return command


def request_of(command: dict[str, Any]) -> Request:
    """The request in a ``run`` command.

    Raises:
        InputError: if a part is missing, unknown or of the wrong type.
    """
    parts = {name: value for name, value in command.items() if name != "cmd"}
    unknown = sorted(parts.keys() - FIELDS)
    if unknown:
        raise InputError(f"not a valid run: unknown {', '.join(unknown)}, expected {', '.join(FIELDS)}")
    for name in REQUIRED:
        if name not in parts:
            raise InputError(f"not a valid run: {name} is missing")
    for name, value in parts.items():
        field = FIELDS[name]
        if not (field.optional if value is None else field.check(value)):
            raise InputError(f"not a valid run: {name} is {value!r}, expected {field.expected}")
    if parts.get("batch_size") is not None and parts["batch_size"] < 1:
        raise InputError(f"not a valid run: batch_size is {parts['batch_size']}, expected 1 or more")
    return Request(**parts)
