"""The module's functions, with or without its panel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from .job import Job
from .outputs import sequence_of
from .parameters import R2UNetParameters
from .problem import Problem
from .runner import JobRunner, Listener
from .training import Training, TrainingListener, TrainingRunner
from .training_data import Case
from .volumes import check_volume, shown_slice, slice_count

MOST_NAMED = 3  # labels in a node's name


class R2UNetLogic(ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Segments volumes of the scene with the bundles of the Python package monai_r2unet.

    A worker process does all computing; it is started when first needed and then kept. Call `close` when the logic is
    no longer needed.

    Examples::

        logic = R2UNetLogic()
        segmentation = logic.process(volume, "lung", waitForCompletion=True)
        logic.close()
    """

    def __init__(self, listener: Listener | None = None, trainingListener: TrainingListener | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        VTKObservationMixin.__init__(self)
        self.runner = JobRunner(listener)
        self.trainingRunner = TrainingRunner(trainingListener)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneClosing)

    def getParameterNode(self) -> R2UNetParameters:
        """The parameters that are saved with the scene."""
        return R2UNetParameters(super().getParameterNode())

    # ---- state ----

    @property
    def busy(self) -> bool:
        """Whether a segmentation is running."""
        return self.runner.job is not None

    @property
    def cancelling(self) -> bool:
        """Whether the segmentation is being cancelled."""
        return self.runner.job is not None and self.runner.job.cancelling

    @property
    def training(self) -> Training | None:
        """The running training; None if there is none."""
        return self.trainingRunner.training

    @property
    def canUndo(self) -> bool:
        """Whether the last segmentation changed an existing one and can be undone."""
        return self.runner.undo is not None and self.runner.undo.node.GetScene() is not None

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """The available bundles, as described by the worker; empty until it is ready."""
        return self.runner.catalogue.bundles

    @property
    def devices(self) -> list[dict[str, Any]]:
        """The available devices, as described by the worker; empty until it has found them."""
        return self.runner.client.devices

    def bundle(self, name: str) -> dict[str, Any] | None:
        """The description of a bundle; None if there is none with this name."""
        return next((bundle for bundle in self.bundles if bundle["name"] == name), None)

    # ---- commands ----

    def startWorker(self) -> None:
        """Start the worker, unless it is running; segmenting does so too.

        Raises:
            Problem: if it cannot be started.
        """
        self.runner.start_worker()

    def addBundle(self, path: Path | str, *, trusted: bool = False) -> None:
        """Add a bundle to the list, now and in future sessions; the listener is notified of the answer.

        Args:
            path: The bundle's folder, or a zip file, which is unpacked in its folder.
            trusted: Its author is trusted, so that it may execute any code. A bundle that only uses what R2U-Net's
                own bundles use needs no trust.

        Raises:
            Problem: if the worker cannot be started, or the zip file cannot be unpacked.
        """
        self.startWorker()
        self.runner.catalogue.add(Path(path), trusted)

    def discardBundle(self, folder: str) -> None:
        """Do not add a bundle that is not trusted; what was unpacked for it is removed."""
        self.runner.catalogue.discard(folder)

    def removeBundle(self, name: str) -> None:
        """Take an added bundle off the list; its folder stays."""
        self.runner.catalogue.remove(name)

    def train(
        self,
        name: str,
        folder: Path | str,
        source: Path | Sequence[Case],
        *,
        labels: str = "",
        modality: str = "",
        epochs: int = 0,
        device: str = "auto",
    ) -> None:
        """Plan and train a bundle in a separate process; the training's listener is notified.

        Args:
            name: Name of the bundle, which becomes the folder `name` in `folder`.
            folder: An existing folder. For cases of the scene, the data set is also written there, to `name` followed
                by "_data".
            source: Cases of the scene (see `training_data.cases_of_scene`), or a data set's folder.
            labels: Names of the labels of a data set that has none: "liver,kidney".
            modality: "CT" or "MR", for cases of the scene; empty to guess it from the values.
            epochs: Passes over the training images; 0 for as many as planned.
            device: "auto", "cpu", "cuda:0", ...

        Raises:
            Problem: if it cannot start; nothing was created.
        """
        self.trainingRunner.start(
            name, Path(folder), source, labels=labels, modality=modality, epochs=epochs, device=device
        )

    def cancelTraining(self) -> None:
        """Stop the training and remove everything it created. The listener is notified."""
        self.trainingRunner.cancel()

    def process(
        self,
        volume: slicer.vtkMRMLVolumeNode,
        bundle: str,
        segmentation: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        device: str = "auto",
        cpuFallback: bool = False,
        slices: tuple[int, int] | None = None,
        allItems: bool = False,
        scale: float | str | None = None,
        waitForCompletion: bool = False,
    ) -> slicer.vtkMRMLSegmentationNode | None:
        """Segment a volume.

        Args:
            volume: CT, or a colour picture as a vector volume, as required by the bundle.
            bundle: Name of the bundle; for an added one, its folder.
            segmentation: Segmentation to write into; only segments that this module made with the same bundle are
                replaced. None for a new one.
            device: "auto", "cpu", "cuda:0", ...
            cpuFallback: Continue on the CPU when the memory of the graphics card is full.
            slices: Index of the first and of the last axial slice; the others stay unchanged. None for all.
            allItems: Segment each item of the volume's sequence; only into a new segmentation.
            scale: Only for fundus photographs whose field of view cannot be found: the factor by which they are resized
                for the network, or the diameter of their field of view in pixels, such as "1400px". None to find it.
            waitForCompletion: Return when everything is done; otherwise the listener is notified.

        Returns:
            The segmentation, with waitForCompletion; otherwise None.

        Raises:
            Problem: if it fails; the scene is unchanged.
        """
        check_volume(volume)
        items = [volume]
        if allItems:
            found = sequence_of(volume)
            if found is None:
                raise Problem(_("The volume '{name}' is not part of a sequence.").format(name=volume.GetName()))
            if segmentation is not None:
                raise Problem(_("All items of a sequence can only be segmented into a new segmentation."))
            items = [found[1].GetNthDataNode(index) for index in range(found[1].GetNumberOfDataNodes())]
            for item in items:
                check_volume(item)
        if slices is not None and not 0 <= slices[0] <= slices[1] < slice_count(volume):
            raise Problem(
                _("The slices {first} to {last} were chosen, but the volume has those from 0 to {end}.").format(
                    first=slices[0], last=slices[1], end=slice_count(volume) - 1
                )
            )
        title = self._prepare(bundle)
        job = Job(volume, bundle, title, device, cpuFallback, slices, segmentation, items, scale=scale)
        return self._run(job, waitForCompletion)

    def preview(
        self,
        volume: slicer.vtkMRMLVolumeNode,
        bundle: str,
        index: int | None = None,
        *,
        device: str = "auto",
        cpuFallback: bool = False,
        scale: float | str | None = None,
        waitForCompletion: bool = False,
    ) -> slicer.vtkMRMLSegmentationNode | None:
        """Segment one axial slice into the volume's preview; other slices of the preview stay unchanged.

        Args:
            volume: See `process`, also for the other arguments.
            bundle: See `process`.
            index: Index of the slice; None for the one in the Red view.
            device: See `process`.
            cpuFallback: See `process`.
            scale: See `process`.
            waitForCompletion: See `process`.

        Returns:
            The preview, with waitForCompletion; otherwise None.

        Raises:
            Problem: see `process`.
        """
        check_volume(volume)
        slices = (shown_slice(volume) if index is None else index,) * 2
        title = self._prepare(bundle)
        job = Job(volume, bundle, title, device, cpuFallback, slices, None, [volume], preview=True, scale=scale)
        return self._run(job, waitForCompletion)

    def cancel(self) -> None:
        """Stop the running job; the scene stays unchanged. The listener is notified when the job has stopped."""
        self.runner.cancel()

    def undo(self) -> None:
        """Undo the last change of an existing segmentation.

        Raises:
            Problem: if there is nothing to undo.
        """
        undo, self.runner.undo = self.runner.undo, None
        if undo is None:
            raise Problem(_("There is nothing to undo."))
        undo.undo()

    def close(self) -> None:
        """Stop everything, when the panel, the module or Slicer closes. Waits a few seconds for the worker."""
        self.removeObservers()
        self.runner.listener = None
        self.trainingRunner.close()
        self.runner.close()

    def _run(self, job: Job, wait: bool) -> slicer.vtkMRMLSegmentationNode | None:
        self.runner.start(job)
        if not wait:
            return None
        while self.runner.job is job:
            slicer.app.processEvents()
            time.sleep(0.005)
        outcome = self.runner.outcome
        if outcome is None:
            raise Problem(_("The module was closed before the segmentation was done."))
        if outcome.state != "done":
            raise Problem(outcome.message)
        return outcome.node

    def _prepare(self, bundle: str) -> str:
        """Make sure that a job can start; returns the bundle's title, for the names of nodes."""
        if self.busy:
            raise Problem(_("A segmentation is still running: wait for it or cancel it."))
        self.startWorker()
        described = self.bundle(bundle)
        if described is None:
            return bundle
        names = [label["name"] for label in described["labels"]]
        return ", ".join(names) if len(names) <= MOST_NAMED else described["title"]

    def _onSceneClosing(self, caller: Any = None, event: Any = None) -> None:
        self.runner.undo = None
        self.cancel()
