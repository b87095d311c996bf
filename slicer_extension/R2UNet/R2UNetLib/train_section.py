"""The part of the panel in which the user trains a bundle on segmentations of the scene or of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .curve import curve
from .problem import Problem
from .shown import Status
from .texts import describe_training
from .training import Training
from .training_data import Case, cases_of_scene, label_names

CURVE = (380, 150)  # pixels
MODALITIES = ("", "CT", "MR")


class TrainSection:
    """Collects what a training needs, and shows its course.

    Args:
        ui: The panel's widgets.
        logic: The module's logic.
        device: Returns the chosen device.
    """

    def __init__(self, ui: Any, logic: Any, device: Callable[[], str]) -> None:
        self.ui = ui
        self.logic = logic
        self.device = device
        self.status = Status(ui, "train")
        self._cases: list[Case] = []
        for modality in MODALITIES:
            ui.trainModalityComboBox.addItem(modality or _("Automatic"), modality)
        ui.trainEpochsSpinBox.setSpecialValueText(_("as planned"))
        ui.trainButton.connect("clicked(bool)", self._train_or_cancel)
        ui.trainRefreshButton.connect("clicked(bool)", self.refresh)
        ui.trainSceneRadioButton.connect("toggled(bool)", self.show)
        ui.trainCasesListWidget.connect("itemChanged(QListWidgetItem*)", self._show_labels)
        self.refresh()

    def refresh(self, _checked: bool = False) -> None:
        """List the segmentations of the scene; those that were not there before are chosen."""
        chosen = {(case.volume.GetID(), case.segmentation.GetID()): self._is_chosen(i) for i, case in self._listed()}
        self._cases = cases_of_scene()
        box = self.ui.trainCasesListWidget
        blocked = box.blockSignals(True)
        box.clear()
        for case in self._cases:
            text = f"{case.volume.GetName()}: {case.segmentation.GetName()} ({', '.join(label_names([case]))})"
            item = qt.QListWidgetItem(text)
            known = chosen.get((case.volume.GetID(), case.segmentation.GetID()), True)
            item.setCheckState(qt.Qt.Checked if known else qt.Qt.Unchecked)
            box.addItem(item)
        box.blockSignals(blocked)
        self.show()

    def show(self, _value: Any = None) -> None:
        """Show what can be chosen."""
        ui, running, scene = self.ui, self.logic.training is not None, self.ui.trainSceneRadioButton.checked
        for widget in (ui.trainSceneRadioButton, ui.trainFolderRadioButton, ui.trainNameLineEdit):
            widget.setEnabled(not running)
        for widget in (ui.trainDestPathLineEdit, ui.trainEpochsSpinBox):
            widget.setEnabled(not running)
        for widget in (ui.trainCasesListWidget, ui.trainRefreshButton, ui.trainModalityComboBox):
            widget.setEnabled(scene and not running)
        for widget in (ui.trainSourcePathLineEdit, ui.trainLabelsLineEdit):
            widget.setEnabled(not scene and not running)
        ui.trainButton.setText(_("Cancel") if running else _("Train"))
        self._show_labels()

    def progress(self, training: Training) -> None:
        """Show the course of a training."""
        if training.share:
            self.status.progress(round(1000 * training.share), 1000)
        self.status.say(describe_training(training))
        if training.plan:
            self.ui.trainPlanLabel.setText("\n".join(f"{what}: {value} ({why})" for what, value, why in training.plan))
        if training.epochs:
            self.ui.trainCurveLabel.setPixmap(curve(training.epochs, training.planned_epochs, *CURVE))

    def finished(self, training: Training) -> None:
        """Show the end of a training."""
        self.status.end(bool(training.trained))
        if training.problem:
            self.status.complain(training.problem)
        elif training.cancelled:
            self.status.say(_("Cancelled: everything that the training created was removed."))
        else:
            best = max((epoch.dice for epoch in training.epochs if epoch.dice is not None), default=0.0)
            message = _("Done: validation Dice {dice:.3f}. The bundle is in {folder} and under 'Find'.")
            self.status.say(message.format(dice=best, folder=training.trained))
        self.show()

    def _listed(self) -> list[tuple[int, Case]]:
        return [(i, case) for i, case in enumerate(self._cases) if i < self.ui.trainCasesListWidget.count]

    def _is_chosen(self, index: int) -> bool:
        return bool(self.ui.trainCasesListWidget.item(index).checkState() == qt.Qt.Checked)

    def _chosen(self) -> list[Case]:
        """The chosen cases that are still in the scene."""
        listed = [case for i, case in self._listed() if self._is_chosen(i)]
        return [case for case in listed if case.volume.GetScene() and case.segmentation.GetScene()]

    def _show_labels(self, _item: Any = None) -> None:
        names = label_names(self._chosen())
        text = _("Labels: {names}").format(names=", ".join(names)) if names else _("No volume with a segmentation yet.")
        self.ui.trainSceneLabelsLabel.setText(text if self.ui.trainSceneRadioButton.checked else "")

    def _train_or_cancel(self, _checked: bool = False) -> None:
        if self.logic.training is not None:
            self.status.say(_("Cancelling ..."))
            self.logic.cancelTraining()
            return
        ui = self.ui
        scene = ui.trainSceneRadioButton.checked
        try:
            source = self._chosen() if scene else Path(ui.trainSourcePathLineEdit.currentPath)
            if not scene and not ui.trainSourcePathLineEdit.currentPath:
                raise Problem(_("Choose the folder with the images and masks."))
            if not ui.trainDestPathLineEdit.currentPath:
                raise Problem(_("Choose the folder in which the bundle is to be created."))
            self.logic.train(
                ui.trainNameLineEdit.text.strip(),
                Path(ui.trainDestPathLineEdit.currentPath),
                source,
                labels="" if scene else ui.trainLabelsLineEdit.text.strip(),
                modality=ui.trainModalityComboBox.currentData if scene else "",
                epochs=ui.trainEpochsSpinBox.value,
                device=self.device(),
            )
        except Problem as problem:
            self.status.complain(str(problem))
            return
        ui.trainPlanLabel.setText("")
        ui.trainCurveLabel.clear()
        self.status.start()
        self.status.say(_("Starting ..."))
        self.show()
        slicer.app.processEvents()
