"""Files written completely or not at all, whatever happens to the process or the disk; JSON; checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_r2unet.errors import OutputError

__all__ = ["is_there", "sha256", "short_name", "temporary_name", "write_json", "written_whole"]

LONGEST = 255  # bytes of a file's name, on nearly every file system
ABANDONED = 3600.0  # seconds without a change after which a temporary file counts as abandoned
LISTING = (
    0.01  # share of the time that may go into listing folders for such files: a folder of masks may hold thousands
)

_listings: dict[Path, tuple[float, list[Path]]] = {}  # hidden files of folders, and until when that is new enough


@contextlib.contextmanager
def written_whole(path: Path, ending: str) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which replaces `path` once written; after an error it is removed.

    Raises:
        OutputError: the disk is full or failed, or the folder is gone; an existing file is left untouched.
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
    """A unique hidden name beside `path`; temporary files that killed processes left there are removed."""
    stem = short_name(path.name, len(f"..12345678{ending}"))
    left = re.compile(rf"\.{re.escape(stem)}\.[0-9a-f]{{8}}{re.escape(ending)}")
    for other in _hidden_files(path.parent):
        with contextlib.suppress(OSError):  # another process may remove it too
            if left.fullmatch(other.name) and time.time() - other.stat().st_mtime > ABANDONED:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return path.with_name(f".{stem}.{os.urandom(4).hex()}{ending}")


def _hidden_files(folder: Path) -> list[Path]:
    """The hidden files of a folder; the listing is kept for a hundred times as long as it took to make."""
    started = time.monotonic()
    until, hidden = _listings.get(folder, (0.0, []))
    if started >= until:
        hidden = list(folder.glob(".*")) if folder.is_dir() else []
        ended = time.monotonic()
        _listings[folder] = (ended + (ended - started) / LISTING, hidden)
    return hidden


def short_name(name: str, more: int) -> str:
    """``name``, or a checksum in its place where ``more`` bytes would make it too long, or it is not UTF-8."""
    try:
        if len(name.encode("utf-8")) + more <= LONGEST:
            return name
    except UnicodeEncodeError:
        pass
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; a name that the file system does not accept cannot exist."""
    try:
        return path.exists()
    except OSError:
        return False


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write ``content`` atomically, through a temporary file beside ``path``.

    NaN (an undefined measure) becomes ``null``, because JSON has no NaN.
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
