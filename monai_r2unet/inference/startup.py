"""Settings for processes that only segment with shipped bundles: a fast start, and memory kept between slices.

Also for every program: standard streams that are open and can print any name.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = [
    "hidden_modules",
    "import_monai_for_segmentation",
    "keep_freed_memory",
    "leaving_on_interrupt",
    "open_standard_streams",
]

PRINTABLE = "monai_r2unet.printable"  # name of an error handler for encodings

# MONAI imports these if they are installed, although segmentation never uses them: more than half of the time until
# the first slice.
UNUSED = (
    "ignite",
    "jsonschema",
    "matplotlib",
    "pandas",
    "requests",
    "scipy.optimize",
    "scipy.signal",
    "scipy.spatial",
    "sklearn",
    "tensorboard",
)

# Parameters of glibc's mallopt(3), and our values.
M_TRIM_THRESHOLD, KEPT = -1, 512 << 20  # bytes: freed memory is kept up to this
M_MMAP_THRESHOLD, VOLUME = -3, 32 << 20  # bytes: feature maps are smaller; complete volumes are returned at once
M_ARENA_MAX, SHARED = -8, 1  # only the arena that all threads share can keep that much


def open_standard_streams() -> None:
    """Redirect closed standard streams to nowhere, and make the others print characters that they cannot encode.

    Otherwise the next opened file would take the descriptor of a closed stream and receive the output of C libraries,
    and a name outside the terminal's encoding would raise.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    codecs.register_error(PRINTABLE, _printable)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            with contextlib.suppress(OSError):  # what was printed before cannot be written
                stream.reconfigure(errors=PRINTABLE)


@contextlib.contextmanager
def leaving_on_interrupt() -> Iterator[None]:
    """Exit at once on Ctrl+C within the context. For imports, which can swallow the exception."""

    def leave(*_: object) -> None:
        os.write(2, b"interrupted\n")
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler for encodings: undecoded bytes of file names stay, missing characters are escaped."""
    if isinstance(error, UnicodeEncodeError) and 0xDC80 <= ord(error.object[error.start]) <= 0xDCFF:
        return bytes([ord(error.object[error.start]) - 0xDC00]), error.start + 1
    return codecs.backslashreplace_errors(error)


def import_monai_for_segmentation() -> None:
    """Import MONAI as if the packages for training and figures were not installed; they are optional for MONAI.

    In this process MONAI's handlers and figures cannot be used. Does nothing if MONAI has been imported before.
    """
    if "monai" in sys.modules:
        return
    with hidden_modules(*UNUSED):
        for name in ("monai", "monai.bundle", "monai.inferers", "monai.transforms"):
            importlib.import_module(name)


@contextlib.contextmanager
def hidden_modules(*names: str) -> Iterator[None]:
    """Within the context, make modules look uninstalled unless they have already been imported."""
    hidden = [name for name in names if name not in sys.modules]
    # For Python, None means that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def keep_freed_memory() -> None:
    """Reuse memory for the feature maps of the next slice, if the C library is glibc.

    By default glibc returns large blocks to the kernel, which clears each page before it is used again: this costs up
    to a fifth of the network's time on a CPU. Call it before other threads start.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    for parameter, value in ((M_TRIM_THRESHOLD, KEPT), (M_MMAP_THRESHOLD, VOLUME), (M_ARENA_MAX, SHARED)):
        mallopt(parameter, value)
