"""The module R2UNet of 3D Slicer: its entry point and its panel. R2UNetLib does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import slicer
import vtk
from R2UNetLib.bundle_menu import BundleMenu
from R2UNetLib.catalogue import Answer
from R2UNetLib.choices import Choices
from R2UNetLib.diagnostics import diagnostics
from R2UNetLib.job import Outcome
from R2UNetLib.logic import R2UNetLogic
from R2UNetLib.outputs import sequence_of
from R2UNetLib.problem import Problem
from R2UNetLib.pythons import chosen_python
from R2UNetLib.segments import check_target
from R2UNetLib.self_test import R2UNetTest
from R2UNetLib.setup_section import SetupSection
from R2UNetLib.shown import ResultSection, Status
from R2UNetLib.texts import bundle_problem, describe_bundle, describe_time, goes_by_field_of_view
from R2UNetLib.train_section import TrainSection
from R2UNetLib.training import Training
from R2UNetLib.volumes import check_volume, slice_count
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

__all__ = ["R2UNet", "R2UNetLogic", "R2UNetTest", "R2UNetWidget"]


class R2UNet(ScriptedLoadableModule):
    """The module's entry in Slicer before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "R2U-Net"
        parent.categories = [_("Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The monai-r2unet developers"]
        parent.helpText = _(
            "Segments CT volumes and colour pictures with trained R2U-Nets. Choose a volume, choose what to find, and "
            "press 'Segment'. For research, not for diagnosis. Nothing leaves your computer."
        )
        parent.acknowledgementText = _(
            "R2U-Net: Alom et al. 2018, arXiv:1802.06955. The networks and their weights come with the Python package "
            "monai-r2unet, whose bundles name the data they were trained on."
        )


class R2UNetWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent: Any = None) -> None:
        self.logic: R2UNetLogic | None = None
        self.parameters: Any = None
        self._connection: Any = None
        self._slicesOf: Any = None  # the volume whose number of slices is shown
        self._problem: str | None = None  # the problem last shown, which prevents segmenting
        # Slicer's own class last: it calls setup() if there is no parent.
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    # ---- life cycle ----

    def setup(self) -> None:
        """Build the panel; called once, when it is first shown."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/R2UNet.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = R2UNetLogic(self, self)
        self.status = Status(self.ui)
        self.resultSection = ResultSection(self.ui, self.status)
        self.choices = Choices(self.ui)
        self.bundleMenu = BundleMenu(self.ui.addBundleButton, self.logic, self.status, self._chooseBundle)
        self.setupSection = SetupSection(self.ui, self.onText, self.onSetUpChanged)
        self.trainSection = TrainSection(
            self.ui, self.logic, lambda: "auto" if self.parameters is None else self.parameters.device
        )

        self.ui.segmentButton.connect("clicked(bool)", self.onSegmentButton)
        self.ui.previewButton.connect("clicked(bool)", self.onPreviewButton)
        self.ui.undoButton.connect("clicked(bool)", self.onUndoButton)
        self.ui.copyDiagnosticsButton.connect("clicked(bool)", self.onCopyDiagnosticsButton)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneReplaced)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneReplaced)
        self._connectParameters()

    def enter(self) -> None:
        """Called when the user opens the panel."""
        self._connectParameters()
        self.trainSection.refresh()
        self.startWorker()

    def cleanup(self) -> None:
        """Called when the module is reloaded or Slicer exits: stop everything."""
        self._disconnectParameters()
        self.removeObservers()
        if self.logic is not None:
            self.setupSection.close()
            self.logic.close()

    def onReload(self) -> None:
        """Reload the module's parts too (for developers)."""
        for name in [name for name in sys.modules if name.split(".")[0] == "R2UNetLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller: Any = None, event: Any = None) -> None:
        """Let go of the parameter node, which is about to be removed."""
        self._disconnectParameters()

    def onSceneReplaced(self, caller: Any = None, event: Any = None) -> None:
        """Called when the scene is empty or was extended."""
        self._connectParameters()
        self.trainSection.refresh()

    # ---- the worker ----

    def startWorker(self) -> None:
        """Start the worker, which reports the available choices; or show what is missing."""
        try:
            self.logic.startWorker()
        except Problem as problem:
            self.status.complain(str(problem))
            self.ui.setupCollapsibleButton.collapsed = False
        else:
            self._update()

    def onSetUpChanged(self) -> None:
        """Called when another Python was chosen, or something was installed."""
        self.logic.runner.client.stop()
        self.startWorker()

    def onWorkerChanged(self) -> None:
        """Called when the worker has reported its bundles and devices, or has exited."""
        ready = self.logic.runner.client.ready
        if ready is not None:
            self.setupSection.show(ready["version"])
        self.choices.offer(self.logic.bundles, self.logic.devices)
        self._update()

    def onBundleAnswer(self, answer: Answer) -> None:
        """Called when the worker has examined a bundle that is being added."""
        self.bundleMenu.answered(answer)

    # ---- events of a training ----

    def onTrainingProgress(self, training: Training) -> None:
        """Show the course of the training."""
        self.trainSection.progress(training)

    def onTrainingFinished(self, training: Training) -> None:
        """Show the end of the training, and list its bundle."""
        self.trainSection.finished(training)
        if training.trained:
            self.bundleMenu.add(Path(training.trained))

    def onText(self, line: str) -> None:
        """Add a line to the log."""
        self.ui.logTextEdit.appendPlainText(line)

    # ---- choices ----

    def _connectParameters(self) -> None:
        self._disconnectParameters()
        self.parameters = self.logic.getParameterNode()
        if self.parameters.inputVolume is None:
            self.parameters.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self._connection = self.parameters.connectGui(self.ui)
        self.addObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        self.choices.parameters = self.parameters
        self.choices.offer(self.logic.bundles, self.logic.devices)
        self._showResult()
        self._update()

    def _disconnectParameters(self) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._connection)
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
            self.parameters = self.choices.parameters = None

    def _chooseBundle(self, folder: str) -> None:
        if self.parameters is not None:
            self.parameters.bundle = folder
        self.onWorkerChanged()

    # ---- buttons ----

    def onSegmentButton(self, checked: bool = False) -> None:
        """Segment, or cancel the running segmentation."""
        if self.logic.busy:
            self.logic.cancel()
            self._update()
            return
        p = self.parameters
        slices = (p.firstSlice, p.lastSlice) if p.onlySlices else None
        if p.outputSegmentation is not None and not self._mayOverwrite(slices):
            return
        self._start(
            lambda: self.logic.process(
                p.inputVolume,
                p.bundle,
                p.outputSegmentation,
                device=p.device,
                cpuFallback=p.cpuFallback,
                slices=slices,
                allItems=p.allItems and self.ui.allItemsCheckBox.enabled,
                scale=self._scale(),
            )
        )

    def onPreviewButton(self, checked: bool = False) -> None:
        """Segment the displayed slice."""
        p = self.parameters
        self._start(
            lambda: self.logic.preview(
                p.inputVolume, p.bundle, device=p.device, cpuFallback=p.cpuFallback, scale=self._scale()
            )
        )

    def onUndoButton(self, checked: bool = False) -> None:
        """Undo the last change of an existing segmentation."""
        try:
            self.logic.undo()
        except Problem as problem:
            self.status.complain(str(problem))
        else:
            self.status.say(_("Undone: the segmentation is as it was before."))
        self._showResult()
        self._update()

    def onCopyDiagnosticsButton(self, checked: bool = False) -> None:
        """Copy diagnostics for support."""
        slicer.app.clipboard().setText(diagnostics(self.logic, self.ui.logTextEdit.plainText))
        self.status.say(_("The diagnostics are on the clipboard."))

    def _scale(self) -> str | None:
        """The scale typed by the user, if the bundle uses one."""
        return self.parameters.scale.strip() or None if self.ui.scaleLineEdit.enabled else None

    def _mayOverwrite(self, slices: tuple[int, int] | None) -> bool:
        p = self.parameters
        try:
            check_volume(p.inputVolume)
            names = check_target(p.outputSegmentation, p.inputVolume, p.bundle, slices is not None)
        except Problem as problem:
            self.status.complain(str(problem))
            return False
        question = _("'{segmentation}' already has {segments} from this module. Replace it? Other segments stay.")
        return not names or slicer.util.confirmYesNoDisplay(
            question.format(segmentation=p.outputSegmentation.GetName(), segments=", ".join(names))
        )

    def _start(self, command: Any) -> None:
        try:
            command()
        except Problem as problem:
            self.status.complain(str(problem))
            return
        self.status.start()
        self.status.say(_("Starting ..."))
        self._update()

    # ---- events of the logic ----

    def onProgress(self, done: int, total: int, elapsed: float, remaining: float | None) -> None:
        """Show the number of finished slices."""
        self.status.progress(done, total)
        if not self.logic.cancelling:
            self.status.say(describe_time(done, total, elapsed, remaining))

    def onFinished(self, outcome: Outcome) -> None:
        """Show the outcome of the job."""
        self.status.end(outcome.state == "done")
        if outcome.state == "done" and not outcome.preview and self.parameters is not None:
            self.parameters.result = outcome.node
        if outcome.state == "failed":
            self.status.complain(outcome.message)
        else:
            self.status.say(outcome.message)
        self._showResult()
        self._update()

    # ---- display ----

    def _update(self, caller: Any = None, event: Any = None) -> None:
        if self.parameters is None:
            return
        volume, bundle = self.parameters.inputVolume, self.logic.bundle(self.parameters.bundle)
        self.ui.bundleDescriptionLabel.setText("" if bundle is None else describe_bundle(bundle))
        self.choices.show()
        self.bundleMenu.show(self.parameters.bundle)
        self._updateSlices(volume)
        self.ui.allItemsCheckBox.setEnabled(volume is not None and sequence_of(volume) is not None)
        for widget in (self.ui.scaleLabel, self.ui.scaleLineEdit):
            widget.setEnabled(goes_by_field_of_view(bundle))

        problem = self._problemWith(volume, bundle)
        busy = self.logic.busy
        self.ui.segmentButton.setText(_("Cancel") if busy else _("Segment"))
        self.ui.segmentButton.setToolTip(problem or (_("Stop; nothing changes.") if busy else _("Segment the volume.")))
        self.ui.segmentButton.setEnabled(not self.logic.cancelling and (busy or not problem))
        self.ui.previewButton.setEnabled(not busy and not problem)
        self.ui.undoButton.setEnabled(not busy and self.logic.canUndo)
        for section in (self.ui.inputsCollapsibleButton, self.ui.advancedCollapsibleButton):
            section.setEnabled(not busy)
        self.ui.setupCollapsibleButton.setEnabled(not busy)
        if self.logic.cancelling:
            self.status.say(_("Cancelling ..."))
        elif not busy and problem != self._problem:  # otherwise the last message stays
            self._problem = problem
            self.status.say(problem or _("Ready."))

    def _problemWith(self, volume: Any, bundle: Any) -> str:
        """The problem that prevents segmenting; empty if there is none."""
        try:
            if not self.logic.bundles:
                chosen_python()
                return self.logic.runner.worker_problem or _("Looking for what can be found in images ...")
            check_volume(volume)
        except Problem as problem:
            return str(problem)
        return bundle_problem(bundle, self.parameters.bundle)

    def _updateSlices(self, volume: Any) -> None:
        try:
            check_volume(volume)
        except Problem:
            return
        last = slice_count(volume) - 1
        if volume is not self._slicesOf:
            self._slicesOf = volume
            if not self.parameters.onlySlices:
                self.parameters.firstSlice, self.parameters.lastSlice = 0, last
        for box in (self.ui.firstSliceSpinBox, self.ui.lastSliceSpinBox):
            box.setMaximum(last)
            box.setEnabled(self.parameters.onlySlices)

    def _showResult(self) -> None:
        self.resultSection.show(None if self.parameters is None else self.parameters.result)
