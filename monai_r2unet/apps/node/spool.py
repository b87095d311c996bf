"""The series on disk, from the first slice to the delivered result: where a folder lies is its state.

Each step is one renaming, so a killed node goes on where it was, loses nothing and does nothing twice::

    arriving/            slices that are being written
    incoming/KEY/        a series that is being received, see `arrivals`
    waiting/KEY/         a complete series; `attempts`: how often its segmentation was begun
    making/              results that are being written, and folders that are being removed
    sending/KEY/         a result for the archive, object.dcm, and its record.json
    records/KEY.json     what became of a series: sent, failed or ignored

KEY is made of the SeriesInstanceUID, and the name of a slice of its SOPInstanceUID: a slice that is sent twice replaces
itself, and no name on the disk comes from outside. The thread that segments takes from ``waiting``, and the one that
delivers from ``sending``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_r2unet.files import write_json

__all__ = ["OBJECT", "RECORD", "SERIES", "SLICES", "Spool", "key_of", "keys", "names_in", "read_record"]

OBJECT, RECORD = "object.dcm", "record.json"
SERIES, SLICES, ATTEMPTS = "series", "slices", "attempts"  # in the folder of a series; SERIES holds its UID
PARTS = ("arriving", "incoming", "waiting", "making", "sending", "records")
RECORDS_KEPT = 30 * 24 * 3600.0  # seconds


class Spool:
    """The folders of all states.

    Args:
        folder: The folder that holds them; created if missing. What a killed process was writing is removed.

    Raises:
        OSError: a folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arriving, self.incoming, self.waiting, self.making, self.sending, self.records = (
            folder / part for part in PARTS
        )
        for temporary in (self.arriving, self.making):
            shutil.rmtree(temporary, ignore_errors=True)
        for part in PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)

    def next(self) -> Path | None:
        """The series that has waited longest; those are removed of which a result exists, as after a kill."""
        for folder in sorted(keys(self.waiting), key=lambda folder: folder.stat().st_mtime):
            if names_in(folder) <= self.known(folder.name):
                self.discard(folder)
            elif not self.result(folder.name):  # which is delivered first
                return folder
        return None

    def begin(self, folder: Path) -> int:
        """Count an attempt at a series; returns which one it is."""
        attempts = folder / ATTEMPTS
        with contextlib.suppress(OSError), attempts.open("ab") as file:  # on a full disk none is counted
            file.write(b".")
        return attempts.stat().st_size if attempts.exists() else 1

    def begin_anew(self, folder: Path) -> None:
        """Forget the attempts at a series."""
        (folder / ATTEMPTS).unlink(missing_ok=True)

    def workspace(self, key: str) -> Path:
        """An empty folder for the result of a series, where its `OBJECT` is written."""
        folder = self.making / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def made(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Pass on a result, which is complete in its `workspace`, to be delivered.

        Raises:
            OutputError: the disk is full.
        """
        key = folder.name
        write_json({**record, "instances": sorted(names_in(folder))}, self.making / key / RECORD)
        (self.making / key).replace(self.sending / key)
        self.discard(folder)

    def closed(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Record what became of a series without a result, unless it has an earlier one, and remove its slices.

        Raises:
            OutputError: the disk is full.
        """
        if not self.known(folder.name):
            self._write(folder.name, record)
        self.discard(folder)

    def result(self, key: str) -> dict[str, Any]:
        """The record of a result that is being delivered; empty if there is none."""
        return read_record(self.sending / key / RECORD)

    def delivered(self, key: str, **outcome: Any) -> None:
        """Record what became of a result, and remove it.

        Raises:
            OutputError: the disk is full.
        """
        self._write(key, {**self.result(key), **outcome})
        self.discard(self.sending / key)

    def known(self, key: str) -> set[str]:
        """The slices of the result that a series has, delivered or not."""
        record = self.result(key) or read_record(self.records / f"{key}.json")
        return set(record.get("instances", [])) if record.get("state") != "failed" else set()

    def discard(self, folder: Path) -> None:
        """Remove a folder: at once for everybody else, however long it takes."""
        away = self.making / f"{folder.parent.name}.{folder.name}.{os.urandom(4).hex()}"
        folder.replace(away)
        shutil.rmtree(away, ignore_errors=True)

    def forget(self) -> None:
        """Remove old records. A series that is sent again after that gets the same result, with the same UIDs."""
        for path in self.records.glob("*.json"):
            if time.time() - path.stat().st_mtime > RECORDS_KEPT:
                path.unlink()

    def _write(self, key: str, record: Mapping[str, Any]) -> None:
        write_json({**record, "finished": time.time()}, self.records / f"{key}.json")


def key_of(uid: str) -> str:
    """A short name for a UID on the disk."""
    return hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()[:20]


def keys(part: Path) -> list[Path]:
    """The folders of the series in a state."""
    with os.scandir(part) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def names_in(folder: Path) -> set[str]:
    """The names of the slices of a series."""
    try:
        return {path.name for path in (folder / SLICES).iterdir()}
    except FileNotFoundError:  # it has just been passed on
        return set()


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file; empty if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
