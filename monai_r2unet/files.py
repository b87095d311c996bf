"""Files written completely or not at all, whatever befalls the process or the disk; JSON; checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_r2unet.errors import OutputError

__all__ = ["sha256", "temporary_name", "write_json", "written_whole"]

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


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write ``content`` whole or not at all: into a temporary file beside ``path``, which then takes its place.

    Measures that do not exist, NaN, become ``null``, because JSON has no NaN.
    """
    text = json.dumps(_without_nan(content), indent=2, default=str, allow_nan=False)
    with written_whole(Path(path), ".tmp") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
