"""The temporary folder of uploads and results, removed at exit; after a kill, the next start removes it."""

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
    """Create a folder that only this user can read, and remove it at the end."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with FileLock(folder / "lock"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders of dead processes, whose locks are free."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Other users' folders cannot be opened; a missing lock is about to be created.
        with contextlib.suppress(OSError, Timeout):
            if (folder / "lock").is_file():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
