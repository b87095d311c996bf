"""The worker's protocol: its commands and events, one JSON object per line.

``python -m monai_r2unet.worker`` reads one JSON object per line from standard input::

    {"cmd": "run", "job": 7, "bundle": "lung", "input": "ct.nrrd", "output": "lung.seg.nrrd", "device": "auto",
     "slices": [100], "weights": "own.pt", "batch_size": 4, "overwrite": true, "cpu_fallback": true,
     "trust_bundle": true, "engine": "torch", "scale": "1400px", "clean_up": true}
    {"cmd": "describe", "job": "b1", "bundle": "my_data/liver"}
    {"cmd": "cancel"}    cancel all runs requested so far
    {"cmd": "quit"}      cancel them and exit

A run needs only ``bundle``, ``input`` and ``output``; the output's ending selects the format. ``job`` is returned
unchanged in the events. ``slices``: indices of the axial slices to segment, along the axis on which the stored image
stacks them; all other slices of the output are 0, and its grid is that of the complete image. ``cpu_fallback``:
continue on the CPU if the GPU's memory is full. ``trust_bundle``: allow the folder of a bundle that is not shipped,
although its configuration can execute any code. ``engine``: the engine that runs the network, ``torch`` or another
one from `monai_r2unet.inference.engines`. ``scale``: for a fundus photograph whose field of view cannot be found, the
resizing factor for the network or, as a string ending in ``px``, the diameter of the field of view in pixels.
``clean_up``: remove islands from the mask of a volume, if the bundle does so; ignored if only some slices are
segmented. Runs are carried out one after the other. A ``describe`` needs only ``bundle``, a folder; it is answered at
once with ``bundle`` or ``error``.

Events are written to standard output, one per line, prefixed with ``@@`` to tell them from anything else printed::

    ready      version, protocol, bundles              once, first, before the slow imports
    devices    devices                                 once, after the imports; id and name of each device, and
                                                       free_bytes and total_bytes of a GPU, unless it is unusable,
                                                       as its name then says
    bundle     job, unsafe, and all that ready has of  answer to describe; ``name`` is the folder's path, unless it is a
               a shipped bundle                        shipped bundle; unsafe: the first thing for which the bundle
                                                       needs to be trusted, null if it needs no trust
    log        job, level (info, warning), message
    progress   job, done, total                        slices
    done       job, output, voxels, millilitres (null for a picture), labels (each: value, name, voxels, millilitres),
               densitometry (for bundles that ask for it), warnings, seconds
    cancelled  job                                     sent at once; nothing was written
    error      job, code, message                      nothing was written; the message is one sentence

Commands are accepted from the start, even before ``ready``. Each run ends with exactly one of the last three events.
Codes: ``protocol`` (invalid command), ``input`` (the user can correct it), ``memory``, ``output`` (the disk is full or
failed), ``internal`` (details on standard error).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from monai_r2unet.errors import InputError

__all__ = [
    "PROTOCOL",
    "WORKER",
    "Answer",
    "Request",
    "event_line",
    "lines",
    "read_command",
    "read_event",
    "request_of",
]

PROTOCOL = 3  # increased with every change that clients must know
WORKER = (sys.executable, "-m", "monai_r2unet.worker")  # starts the process
COMMANDS = ("run", "describe", "cancel", "quit")
MARK = "@@"  # prefix of each event, to distinguish it from anything else printed


@dataclass(frozen=True)
class Request:
    """A request to segment an image; the module's docstring explains each field."""

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
    """The type of a field of a request.

    Args:
        expected: Name of the type in messages.
        check: Predicate that tells whether a JSON value other than null has the type.
        optional: True if null is allowed.
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
    """Yield the lines read from a file descriptor until it closes.

    Unbuffered: a thread that waits in one of Python's buffers holds its lock, which keeps the interpreter from exiting.
    """
    rest = b""
    while chunk := os.read(file, 65536):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def event_line(event: str, content: dict[str, Any]) -> bytes:
    """An event as a line, in ASCII."""
    return f"{MARK}{json.dumps({'event': event, **content})}\n".encode("ascii")


def read_event(line: bytes) -> dict[str, Any] | None:
    """Parse a line of the worker as an event, with the key ``event``; None if the line is not an event."""
    if not line.startswith(MARK.encode("ascii")):
        return None
    event: dict[str, Any] = json.loads(line[len(MARK) :])
    return event


def read_command(line: bytes) -> dict[str, Any]:
    """Parse a line as a command: an object whose ``cmd`` is ``run``, ``describe``, ``cancel`` or ``quit``.

    Raises:
        InputError: if the line is not a command.
    """
    try:
        command = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not a valid command, because it is not JSON ({error})") from error
    if not isinstance(command, dict) or command.get("cmd") not in COMMANDS:
        raise InputError("not a valid command, expected an object whose cmd is run, describe, cancel or quit")
    return command


def request_of(command: dict[str, Any]) -> Request:
    """The request in a ``run`` command.

    Raises:
        InputError: if a field is missing, unknown or of the wrong type.
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
    for name, value in parts.items():
        if isinstance(value, str) and "\0" in value:
            raise InputError(f"not a valid run: {name} holds a null character, which no name has")
    if parts.get("batch_size") is not None and parts["batch_size"] < 1:
        raise InputError(f"not a valid run: batch_size is {parts['batch_size']}, expected 1 or more")
    return Request(**parts)
