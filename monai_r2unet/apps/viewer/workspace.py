"""The temporary home of uploads and results. It goes with the process; what a killed one left goes with the next."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["workspace"]

PREFIX = "monai-r2unet-view-"


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Make a folder that only this user can read, and remove it at the end."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with FileLock(folder / "lock"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders whose process is gone: its lock went with it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Those of others cannot be opened, and a lock that is not there yet is about to be.
        with contextlib.suppress(OSError, Timeout):
            if (folder / "lock").is_file():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
