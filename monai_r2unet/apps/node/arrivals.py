"""What is being received: which series are complete, and which are cut off.

A folder in ``incoming`` has a marker: ``open`` while somebody sends, and after the node was killed meanwhile; ``cut``
when a sender was lost or a slice was refused. Without one, all senders have closed their associations properly.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from monai_r2unet.apps.node.settings import Limits, Seconds
from monai_r2unet.apps.node.spool import SERIES, SLICES, Spool, key_of, keys, names_in
from monai_r2unet.errors import OutputError
from monai_r2unet.files import written_whole

__all__ = ["CUT", "Arrivals", "Full"]

OPEN, CUT = "open", "cut"
CUT_KEPT = 24 * 3600.0  # seconds in which the rest of a series may still come

logger = logging.getLogger(__name__)


class Full(Exception):
    """There is no room for a slice; the message says why."""


@dataclass
class Arrival:
    """What this process knows of a series that is being received.

    Args:
        last: When its last slice came or its last sender went, on the monotonic clock.
        senders: Associations that have brought slices and are still open.
        storing: Number of slices that are being written: a slow disk is no silence of the sender.
        cut: Whether a sender was lost or a slice refused.
    """

    last: float
    senders: set[int] = field(default_factory=set)
    storing: int = 0
    cut: bool = False


class Arrivals:
    """The series that are being received; threads of senders and the one that segments use it.

    Args:
        spool: Where they lie.
        limits: How much may arrive.
        seconds: When a series is complete.
    """

    def __init__(self, spool: Spool, limits: Limits, seconds: Seconds) -> None:
        self.spool, self.limits, self.seconds = spool, limits, seconds
        self.lock = threading.Lock()
        now = time.monotonic()
        self.arrivals = {folder.name: Arrival(now) for folder in keys(spool.incoming) if (folder / OPEN).exists()}

    def store(self, series: str, instance: str, data: bytes, sender: int) -> None:
        """Keep a slice.

        Args:
            series: Its SeriesInstanceUID.
            instance: Its SOPInstanceUID.
            data: The DICOM file.
            sender: Number of the association.

        Raises:
            Full: a limit is reached, or the disk is full; the series is cut off.
        """
        key, name = key_of(series), f"{key_of(instance)}.dcm"
        folder, arriving = self.spool.incoming / key, self.spool.arriving / f"{sender}.{name}"
        with self.lock:
            arrival = self._arrival(key, sender)
            arrival.storing += 1
        try:
            self._check_room(folder)
            with written_whole(arriving, ".tmp") as temporary:
                temporary.write_bytes(data)
            with self.lock:
                if folder.is_dir():
                    (folder / OPEN).touch()
                else:
                    _make(folder, series, arriving.with_suffix(".folder"))
                arriving.replace(folder / SLICES / name)
                if sender not in arrival.senders:  # it was lost meanwhile
                    _mark(folder, cut=arrival.cut)
        except (Full, OSError) as error:
            arrival.cut = True
            with contextlib.suppress(OSError):
                arriving.unlink(missing_ok=True)
            if isinstance(error, Full):
                raise
            raise Full(f"the disk: {OutputError(folder, error).reason}") from error
        finally:
            with self.lock:
                arrival.storing -= 1
                arrival.last = time.monotonic()

    def end(self, sender: int, *, properly: bool) -> None:
        """Note that an association has ended: released, or lost."""
        with self.lock:
            for key, arrival in self.arrivals.items():
                if sender in arrival.senders:
                    arrival.senders.discard(sender)
                    arrival.cut |= not properly
                    arrival.last = time.monotonic()
                    if not arrival.senders:
                        _mark(self.spool.incoming / key, cut=arrival.cut)

    def settle(self) -> None:
        """Let what is complete wait to be segmented; called while nothing is being segmented."""
        for folder in keys(self.spool.incoming):
            with self.lock:
                if (folder / CUT).exists():
                    self._keep_for_its_rest(folder)
                elif self._is_complete(folder, self.arrivals.get(folder.name)):
                    self._pass_on(folder)
        with self.lock:
            here = {folder.name for folder in keys(self.spool.incoming)}
            self.arrivals = {key: one for key, one in self.arrivals.items() if one.senders or key in here}

    def _arrival(self, key: str, sender: int) -> Arrival:
        """The series that an association brings slices of; what was cut off is open again."""
        arrival = self.arrivals.setdefault(key, Arrival(time.monotonic()))
        if not arrival.senders:
            arrival.cut = False
            with contextlib.suppress(FileNotFoundError):
                (self.spool.incoming / key / CUT).rename(self.spool.incoming / key / OPEN)
        arrival.senders.add(sender)
        return arrival

    def _check_room(self, folder: Path) -> None:
        limits = self.limits
        free = shutil.disk_usage(self.spool.folder).free
        if free < limits.free_gb * 1e9:
            raise Full(f"{free / 1e9:.2f} GB of the disk are free, and {limits.free_gb:g} GB have to stay free")
        count = len(names_in(folder))
        if count >= limits.slices:
            raise Full(f"the series has {count} slices, and {limits.slices} are allowed")
        if not count and len(keys(self.spool.incoming)) + len(keys(self.spool.waiting)) >= limits.series:
            raise Full(f"{limits.series} series are being received or wait, which is the limit")

    def _is_complete(self, folder: Path, arrival: Arrival | None) -> bool:
        if arrival is None:  # received before this process began, and released
            return True
        if arrival.cut or arrival.storing:
            return False
        quiet = time.monotonic() - arrival.last
        return quiet >= (self.seconds.after_silence if (folder / OPEN).exists() else self.seconds.after_release)

    def _pass_on(self, folder: Path) -> None:
        """Let a complete series wait for its segmentation, unless there is a result of the same slices."""
        key, names = folder.name, names_in(folder)
        known, waiting = self.spool.known(key), self.spool.waiting / key
        if waiting.is_dir():  # more slices, or the same once more
            for name in names:
                (folder / SLICES / name).replace(waiting / SLICES / name)
            self.spool.discard(folder)
        elif names <= known:
            logger.info("series %s: sent again, and known already", _series_of(folder))
            self.spool.discard(folder)
        elif self.spool.result(key):
            return  # until its result is delivered
        elif known and not names >= known:
            logger.warning(
                "series %s: %d slices came after it was segmented and are dropped; send the whole series again",
                _series_of(folder),
                len(names - known),
            )
            self.spool.discard(folder)
        else:
            logger.info("series %s: complete, %d slices", _series_of(folder), len(names))
            (folder / OPEN).unlink(missing_ok=True)
            folder.replace(waiting)

    def _keep_for_its_rest(self, folder: Path) -> None:
        """Keep a series that was cut off for a day, unless a result of its slices is known."""
        if names_in(folder) <= self.spool.known(folder.name):
            self.spool.discard(folder)
        elif time.time() - (folder / CUT).stat().st_mtime > CUT_KEPT:
            message = "it was cut off, and the rest did not come: send it again"
            logger.warning("series %s: %s", _series_of(folder), message)
            self.spool.closed(folder, {"state": "failed", "series": _series_of(folder), "message": message})


def _make(folder: Path, series: str, workspace: Path) -> None:
    """Make the folder of a series, in one step, and marked as open from the beginning."""
    (workspace / SLICES).mkdir(parents=True, exist_ok=True)
    (workspace / OPEN).touch()
    (workspace / SERIES).write_text(series, encoding="utf-8")
    workspace.replace(folder)


def _mark(folder: Path, *, cut: bool) -> None:
    """Mark that nobody sends a series any more; renaming and removing need no room on the disk."""
    if not folder.is_dir():  # nothing of it was kept, or it was passed on
        return
    if not cut:
        (folder / OPEN).unlink(missing_ok=True)
        return
    try:
        (folder / OPEN).rename(folder / CUT)
    except FileNotFoundError:  # it was complete, and what came later was refused
        with contextlib.suppress(OSError):
            (folder / CUT).touch()
    logger.warning("series %s: cut off; slices so far: %d", _series_of(folder), len(names_in(folder)))


def _series_of(folder: Path) -> str:
    return (folder / SERIES).read_text(encoding="utf-8")
