"""Sends the results to the archive, again and again until it has them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE

from monai_r2unet.apps.node.settings import Settings
from monai_r2unet.apps.node.spool import OBJECT, Spool, keys

__all__ = ["Delivery"]

WAITS = (5.0, 15.0, 60.0, 300.0)  # seconds before the next attempt, when the last ones failed
PAUSE = 30.0  # seconds between looks, if nothing new is made
REFUSALS = 5  # of an object by the archive, after which it is given up
NOT_SUPPORTED = 0x0122  # status, PS3.7, C.5.6: here for an archive that rejects all that is proposed
TIMEOUT = 60.0  # seconds for each answer of the archive

logger = logging.getLogger(__name__)


class Delivery:
    """The thread that delivers, oldest result first.

    A result that is sent once more, because the node was killed before it noted the success, has the same UIDs and the
    same content: the archive keeps one.
    """

    def __init__(self, settings: Settings, spool: Spool) -> None:
        self.archive, self.spool = settings.archive, spool
        self.ae = AE(ae_title=settings.ae_title)
        self.ae.acse_timeout = self.ae.dimse_timeout = self.ae.network_timeout = self.ae.connection_timeout = TIMEOUT
        self.failures = 0  # in a row
        self.refusals: dict[str, int] = {}

    def step(self) -> float:
        """Send what there is; returns the seconds to wait before the next step, if nothing new is made."""
        failed = False
        for folder in sorted(keys(self.spool.sending), key=lambda folder: folder.stat().st_mtime):
            trouble = self._deliver(folder)
            if trouble:
                failed = True
                logger.warning("series %s: %s", self.spool.result(folder.name).get("series"), trouble)
                if folder.name not in self.refusals:
                    break  # the archive cannot be reached: nor for the others
        self.failures = self.failures + 1 if failed else 0
        return WAITS[min(self.failures, len(WAITS)) - 1] if failed else PAUSE

    def _deliver(self, folder: Path) -> str:
        """Send a result and record it; why not, or nothing."""
        key = folder.name
        record = self.spool.result(key)
        status = self._send(folder / OBJECT)
        if status is None:
            return f"{self._place()} cannot be reached or broke off, and is tried again"
        if status == 0 or status >> 12 == 0xB:  # success, or a warning such as of changed elements
            self.refusals.pop(key, None)
            self.spool.delivered(key, state="sent")
            logger.info("series %s: %s is in the archive", record["series"], record["object"])
            return ""
        if status >> 8 == 0xA7:
            return f"{self._place()} is out of resources, and is tried again"
        self.refusals[key] = self.refusals.get(key, 0) + 1
        trouble = f"{self._place()} refused {record['object']} with status 0x{status:04X}"
        if self.refusals[key] >= REFUSALS:
            del self.refusals[key]
            self.spool.delivered(key, state="failed", message=f"{trouble}, {REFUSALS} times")
        return trouble

    def _send(self, path: Path) -> int | None:
        """The archive's status for an object; None without an answer."""
        data: Any = pydicom.dcmread(path)
        self.ae.requested_contexts = []
        self.ae.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
        archive = self.archive
        association = self.ae.associate(archive.address, archive.port, ae_title=archive.ae_title)
        if not association.is_established:
            return NOT_SUPPORTED if association.rejected_contexts else None
        status: int | None = association.send_c_store(data).get("Status")
        if association.is_established:
            association.release()
        return status

    def _place(self) -> str:
        return f"the archive {self.archive.ae_title} at {self.archive.address}:{self.archive.port}"
