"""Settings for processes that only segment with shipped bundles: a fast start, and memory kept between slices."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Iterator

__all__ = ["hidden_modules", "import_monai_for_segmentation", "keep_freed_memory"]

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
