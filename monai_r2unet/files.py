"""Files that appear under their names whole or not at all, whatever befalls the process or the disk."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from monai_r2unet.errors import OutputError

__all__ = ["temporary_name", "written_whole"]

ABANDONED = 3600.0  # seconds without a change after which nobody can still be writing a file


@contextlib.contextmanager
def written_whole(path: Path, ending: str) -> Iterator[Path]:
    """Name a temporary file beside `path`, which takes its place once written; after an error nothing is left of it.

    Raises:
        OutputError: the disk is full or failed, or the folder is gone; what was there before is untouched.
    """
    temporary = temporary_name(path, ending)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path, ending: str = "") -> Path:
    """A hidden name beside `path` that nobody else uses; what was left under such names by the killed is removed."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(ending)}")
    for other in path.parent.glob(".*") if path.parent.is_dir() else ():
        with contextlib.suppress(OSError):  # another process may remove it too
            if left.fullmatch(other.name) and time.time() - other.stat().st_mtime > ABANDONED:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{ending}")
