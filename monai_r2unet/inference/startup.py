"""Settings of a process that only segments with the shipped bundles: a quick start, and memory kept between slices."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Iterator

__all__ = ["hidden_modules", "import_monai_for_segmentation", "keep_freed_memory"]

# What MONAI imports where it is installed, though segmentation never uses it: more than half of the time until the
# first slice.
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

# Parameters of glibc's mallopt(3), with what they are set to.
M_TRIM_THRESHOLD, KEPT = -1, 512 << 20  # bytes: freed memory is kept up to this
M_MMAP_THRESHOLD, VOLUME = -3, 32 << 20  # bytes: feature maps stay below; whole volumes go back at once
M_ARENA_MAX, SHARED = -8, 1  # only the arena that all threads share can keep that much


def import_monai_for_segmentation() -> None:
    """Import MONAI as if packages for training and figures were not installed, which MONAI is made for.

    In this process MONAI's handlers and figures stay out of use. Does nothing once MONAI is imported.
    """
    if "monai" in sys.modules:
        return
    with hidden_modules(*UNUSED):
        for name in ("monai", "monai.bundle", "monai.inferers", "monai.transforms"):
            importlib.import_module(name)


@contextlib.contextmanager
def hidden_modules(*names: str) -> Iterator[None]:
    """Let those of the modules that are not imported yet pass for not installed, as long as the context lasts."""
    hidden = [name for name in names if name not in sys.modules]
    # None is Python's own way to say that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def keep_freed_memory() -> None:
    """Let the feature maps of one slice take the memory of the last one's, where the C library is glibc.

    By itself glibc hands large blocks back to the kernel, which clears each page before it gives it out again: that
    costs as much as a fifth of the network's time on a CPU. To be called before there are other threads.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    for parameter, value in ((M_TRIM_THRESHOLD, KEPT), (M_MMAP_THRESHOLD, VOLUME), (M_ARENA_MAX, SHARED)):
        mallopt(parameter, value)
