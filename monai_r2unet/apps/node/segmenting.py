"""Segments what waits, in a worker process: a crash there ends one attempt at one series."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai_r2unet.apps.node.arrivals import Arrivals
from monai_r2unet.apps.node.result import Header, give_uids, read_header, uids_of
from monai_r2unet.apps.node.settings import OUTPUTS, Rule, Settings
from monai_r2unet.apps.node.spool import OBJECT, SERIES, SLICES, Spool, names_in
from monai_r2unet.apps.worker.protocol import WORKER, read_event

__all__ = ["Segmenting"]

ATTEMPTS = 5  # at a series during whose segmentation the worker or the node ends
LONGEST = 3600.0  # seconds of one, after which the worker is ended
# What a record keeps of the worker's answer.
KEPT = ("voxels", "millilitres", "labels", "densitometry", "warnings", "seconds")
PAUSE = 0.5  # seconds between looks at what has arrived

logger = logging.getLogger(__name__)


class Segmenting:
    """The thread that looks for complete series and segments them, one after the other.

    Args:
        settings: Rules, device, and whether patients may be named.
        spool: Where the series lie.
        arrivals: What is being received.
        on_made: Called when there is a result to deliver.
    """

    def __init__(self, settings: Settings, spool: Spool, arrivals: Arrivals, on_made: Callable[[], None]) -> None:
        self.settings, self.spool, self.arrivals, self.on_made = settings, spool, arrivals, on_made
        self.worker: subprocess.Popen[bytes] | None = None
        self.working: dict[str, Any] = {}  # the series that is being segmented: key, done, total

    def step(self) -> float:
        """Segment a series, if there is one; returns the seconds to wait before the next step."""
        self._started()  # its imports take seconds
        self.arrivals.settle()
        folder = self.spool.next()
        if folder is None:
            return PAUSE
        try:
            self._segment(folder)
        finally:
            self.working = {}
        return 0.0

    def _segment(self, folder: Path) -> None:
        series = (folder / SERIES).read_text(encoding="utf-8")
        about: dict[str, Any] = {"series": series, "began": time.time()}
        try:
            header = read_header(folder)
        except Exception as error:  # whatever pydicom raises
            self._close(folder, about, "failed", f"its header cannot be read ({type(error).__name__})")
            return
        about["slices"] = header.series.slices
        if self.settings.log_patients:
            about["patient"] = " ".join(header.patient)
        rule = next((rule for rule in self.settings.rules if rule.fits(header.series)), None)
        if rule is None:
            self._close(folder, about, "ignored", "no rule fits")
            return
        about |= {"bundle": rule.bundle, "output": rule.output}
        attempt = self.spool.begin(folder)
        if attempt > ATTEMPTS:
            self._close(folder, about, "failed", f"its segmentation was begun {ATTEMPTS} times and never ended")
            return
        logger.info("series %s: %d slices, to %s of %s", series, about["slices"], rule.output, rule.bundle)
        self._run(folder, rule, header, about)

    def _run(self, folder: Path, rule: Rule, header: Header, about: dict[str, Any]) -> None:
        output = self.spool.workspace(folder.name) / f"mask{OUTPUTS[rule.output]}"
        self.working = {"key": folder.name, "done": 0, "total": about["slices"]}
        answer = self._ask(folder, rule, output)
        if answer is None:
            logger.warning("series %s: the worker process ended", about["series"])
            return
        if not self.settings.log_patients:
            answer = {name: header.hidden(value) for name, value in answer.items()}
        if answer["event"] == "error" and answer["code"] != "output":
            self._close(folder, about, "failed", answer["message"])
            return
        try:
            if answer["event"] == "error":
                raise OSError(answer["message"])
            self._keep(folder, rule, output, {**about, **{name: answer[name] for name in KEPT if name in answer}})
        except OSError:  # the disk is full: this attempt does not count
            self.spool.begin_anew(folder)
            raise

    def _keep(self, folder: Path, rule: Rule, output: Path, record: dict[str, Any]) -> None:
        """Pass on a result, with UIDs that depend on the slices and on what made it from them."""
        uids = uids_of(rule, names_in(folder))
        give_uids(output, uids)
        output.rename(output.with_name(OBJECT))
        self.spool.made(folder, {**record, "object": uids[1]})
        logger.info("series %s: segmented, %s voxels", record["series"], record["voxels"])
        self.on_made()

    def _close(self, folder: Path, about: dict[str, Any], state: str, message: str) -> None:
        """End with a series of which there is no result."""
        logger.log(logging.WARNING if state == "failed" else logging.INFO, "series %s: %s", about["series"], message)
        self.spool.closed(folder, {**about, "state": state, "message": message})

    def _ask(self, folder: Path, rule: Rule, output: Path) -> dict[str, Any] | None:
        """Let the worker segment; returns its last event, ``done`` or ``error``, or None if it ended instead."""
        worker = self._started()
        assert worker.stdin is not None
        assert worker.stdout is not None
        paths = {"input": str(folder / SLICES), "output": str(output), "overwrite": True}
        which = {"bundle": rule.bundle, "trust_bundle": rule.trust_bundle, "device": self.settings.device}
        command = {"cmd": "run", **which, **paths}
        watch = threading.Timer(LONGEST, worker.kill)
        watch.daemon = True
        watch.start()
        try:
            worker.stdin.write(json.dumps(command).encode("ascii") + b"\n")
            worker.stdin.flush()
            for line in worker.stdout:
                event = read_event(line) or {"event": ""}
                if event["event"] in ("done", "error"):
                    return event
                if event["event"] == "progress":
                    self.working |= {"done": event["done"], "total": event["total"]}
        except BrokenPipeError:
            pass
        finally:
            watch.cancel()
        worker.kill()
        worker.wait()
        return None

    def _started(self) -> subprocess.Popen[bytes]:
        """The worker, which keeps a bundle loaded; it leaves by itself when this process is killed."""
        if self.worker is None or self.worker.poll() is not None:
            # Its own log may quote headers.
            stderr = None if self.settings.log_patients else subprocess.DEVNULL
            pipe = subprocess.PIPE
            self.worker = subprocess.Popen(WORKER, stdin=pipe, stdout=pipe, stderr=stderr)
        return self.worker
