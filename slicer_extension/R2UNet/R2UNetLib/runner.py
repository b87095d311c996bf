"""Jobs: sent to the worker and followed until their results are in the scene."""

from __future__ import annotations

import time
import traceback
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from .catalogue import Answer, Catalogue
from .job import Job, Outcome
from .numbers import keep_densities
from .outputs import hide_preview, new_segmentation, new_sequence, preview_segmentation
from .problem import Problem
from .pythons import chosen_python
from .segments import Undo, check_target, read_result, write_segments
from .volumes import write_volume
from .worker_client import PROTOCOL, WorkerClient

PATIENCE = 10_000  # milliseconds in which the worker has to respond to a cancel


class Listener(Protocol):
    """Receiver of notifications, such as the panel."""

    def onWorkerChanged(self) -> None:
        """The worker is ready, its devices are known, or it has exited."""

    def onBundleAnswer(self, answer: Answer) -> None:
        """A bundle was added, or was not."""

    def onText(self, line: str) -> None:
        """There is a new line for the log."""

    def onProgress(self, done: int, total: int, elapsed: float, remaining: float | None) -> None:
        """Number of finished slices; times are in seconds."""

    def onFinished(self, outcome: Outcome) -> None:
        """The job has ended."""


class JobRunner:
    """Runs one job at a time, in the worker. The scene changes only when a job is complete.

    Args:
        listener: Receiver of notifications; may be None, and may change.
    """

    def __init__(self, listener: Listener | None) -> None:
        self.listener = listener
        self.client = WorkerClient(self._on_event, self._log, self._on_worker_gone)
        self.catalogue = Catalogue(self.client.send, self._on_bundle_answer, self._log)
        self.worker_problem = ""  # the reason why there is no worker
        self.job: Job | None = None
        self.outcome: Outcome | None = None  # of the last job
        self.undo: Undo | None = None  # for the last change of an existing segmentation
        self._number = 0  # of the job; distinguishes late answers from current ones

    def start_worker(self) -> None:
        """Start the worker, unless it is running.

        Raises:
            Problem: if it cannot be started.
        """
        if not self.client.running:
            python = chosen_python()
            self.worker_problem = ""
            self.client.start(python)

    def start(self, job: Job) -> None:
        """Start a job.

        Raises:
            Problem: if it cannot be started; the job has then ended.
        """
        self.job, self.outcome = job, None
        self._number += 1
        try:
            if job.target is not None:
                check_target(job.target, job.volume, job.bundle, job.slices is not None)
            self._send_item(job)
        except Problem:
            self.job = None
            job.clean_up()
            raise

    def cancel(self) -> None:
        """Stop the job; the listener is notified when it has stopped."""
        job = self.job
        if job is not None and not job.cancelling:
            job.cancelling = True
            self.client.send("cancel")
            qt.QTimer.singleShot(PATIENCE, lambda: self._insist(job))

    def close(self) -> None:
        """Stop everything, and wait at most a few seconds for the worker."""
        self.client.stop()
        if self.job is not None:
            self.job.clean_up()
            self.job = None

    def _send_item(self, job: Job) -> None:
        write_volume(job.items[job.item], job.input, job.slices)
        self.client.send(
            "run",
            job=self._number,
            bundle=job.bundle,
            input=str(job.input),
            output=str(job.output(job.item)),
            device=job.device,
            **({"trust_bundle": True} if self.catalogue.is_trusted(job.bundle) else {}),
            **({"cpu_fallback": True} if job.cpu_fallback else {}),
            **({} if job.scale is None else {"scale": job.scale}),
            # A part of a lung that a few slices show must not be mistaken for an island.
            **({} if job.slices is None else {"clean_up": False}),
        )

    def _on_event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "log":
            self._log(event["message"])
        elif kind == "ready":
            self._on_ready(event)
        elif kind == "devices" or (kind in ("bundle", "error") and self.catalogue.take(event)):
            self._tell_change()
            return
        job = self.job
        if job is None or event.get("job") != self._number:
            return
        if kind == "progress":
            self._on_progress(job, event["done"], event["total"])
        elif kind == "done":
            job.warnings += [self._in_their_words(job, warning) for warning in event["warnings"]]
            # The densities of some slices are not those of a segment.
            job.densities.append(event.get("densitometry", {}) if job.slices is None else {})
            self._on_item_done(job)
        elif kind == "cancelled":
            self._finish("cancelled", _("Cancelled: nothing was changed."))
        elif kind == "error":
            self._finish("failed", self._in_their_words(job, event["message"]))

    def _on_ready(self, event: dict[str, Any]) -> None:
        if event["protocol"] == PROTOCOL:
            self.catalogue.begin(event["bundles"])
        else:
            self.client.last_text.append(f"protocol {event['protocol']}, expected {PROTOCOL}")
            self._give_up(_("The installed R2U-Net is not compatible with this extension: update both."))
            self.client.stop()
        self._tell_change()

    def _on_progress(self, job: Job, done: int, total: int) -> None:
        done, total = job.item * total + done, len(job.items) * total
        if self.listener is not None:
            self.listener.onProgress(done, total, time.monotonic() - job.started, job.remaining(done / total))

    def _on_item_done(self, job: Job) -> None:
        job.input.unlink()
        job.item += 1
        try:
            if job.item < len(job.items):
                self._send_item(job)
                return
            self._on_all_done(job)
        except Problem as problem:
            self._finish("failed", str(problem))
        except Exception:  # a bug in this module; the panel must keep working
            self._log(traceback.format_exc())
            self._finish("failed", _("The result could not be shown, because of a fault in this module: see the log."))

    def _on_all_done(self, job: Job) -> None:
        volume = job.volume
        if volume.GetScene() is None:
            raise Problem(_("The volume was removed while it was being segmented, so nothing was added."))
        results = [read_result(job.output(item)) for item in range(len(job.items))]
        for segments, densities in zip(results, job.densities, strict=True):
            keep_densities(segments, densities)
        if job.target is not None:
            if job.target.GetScene() is None:
                raise Problem(_("The segmentation was removed while its volume was being segmented."))
            check_target(job.target, volume, job.bundle, job.slices is not None)
            self.undo = write_segments(results[0], job.target, volume, job.bundle, job.slices)
            node = job.target
        elif len(job.items) > 1:
            node = new_sequence(volume, job.title, results, job.bundle)
        else:
            node = preview_segmentation(volume, job.title) if job.preview else new_segmentation(volume, job.title)
            write_segments(results[0], node, volume, job.bundle, job.slices)
        if not job.preview:
            hide_preview(volume)
        if any(segment.mask.any() for segments in results for segment in segments):
            message = _("Done in {seconds:.1f} s.").format(seconds=time.monotonic() - job.started)
        else:
            message = _("Nothing was found: is '{name}' an image of the kind that this bundle is made for?").format(
                name=volume.GetName()
            )
        self._finish("done", " ".join([message, *job.warnings]), node)

    def _finish(self, state: str, message: str, node: Any = None) -> None:
        job, self.job = self.job, None
        if job is None:
            return
        job.clean_up()
        self.outcome = Outcome(state, message, node, job.preview)
        self._log(message)
        if self.listener is not None:
            self.listener.onFinished(self.outcome)

    def _insist(self, job: Job) -> None:
        """Kill a worker that does not respond to a cancel."""
        if self.job is job:
            self.client.kill()

    def _on_worker_gone(self, code: int | None) -> None:
        last = " ".join(self.client.last_text)
        if self.job is not None and self.job.cancelling:
            self._finish("cancelled", _("Cancelled: nothing was changed."))
        elif "No module named" in last:
            self._give_up(_("The chosen Python lacks a package that R2U-Net needs: see the log, then 'Set up'."))
        elif code is None:
            self._give_up(_("The program that segments has ended unexpectedly: press the button again."))
        else:
            self._give_up(_("The program that segments has failed: see the log."))
        self.catalogue.give_up(self.worker_problem)
        self._tell_change()

    def _give_up(self, problem: str) -> None:
        self.worker_problem = problem
        self._finish("failed", problem)

    def _in_their_words(self, job: Job, message: str) -> str:
        """The worker's message, with the volume's name instead of a temporary file's."""
        return message.replace(str(job.input), f"'{job.items[job.item].GetName()}'")

    def _on_bundle_answer(self, answer: Answer) -> None:
        self._log(answer.message)
        if self.listener is not None:
            self.listener.onBundleAnswer(answer)

    def _tell_change(self) -> None:
        if self.listener is not None:
            self.listener.onWorkerChanged()

    def _log(self, line: str) -> None:
        if self.listener is not None:
            self.listener.onText(line)
