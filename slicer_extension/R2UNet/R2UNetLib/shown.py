"""The display below the panel's buttons: progress, messages and the result."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from .segments import measure

ERROR_STYLE = "color: #b00020; font-weight: bold"


class Status:
    """The progress bar and the message below it.

    Args:
        ui: The panel's widgets.
        section: Prefix of the widgets' names in a section of the panel.
    """

    def __init__(self, ui: Any, section: str = "") -> None:
        self.bar = getattr(ui, f"{section}ProgressBar" if section else "progressBar")
        self.label = getattr(ui, f"{section}StatusLabel" if section else "statusLabel")

    def say(self, sentence: str) -> None:
        """Show a message."""
        self.label.setStyleSheet("")
        self.label.setText(sentence)

    def complain(self, sentence: str) -> None:
        """Show an error message."""
        self.end(False)
        self.label.setStyleSheet(ERROR_STYLE)
        self.label.setText(sentence)

    def start(self) -> None:
        """Show that work has started, with unknown progress."""
        self.bar.setMaximum(0)

    def progress(self, done: int, total: int) -> None:
        """Show the number of finished slices."""
        self.bar.setMaximum(total)
        self.bar.setValue(done)

    def end(self, done: bool) -> None:
        """Show that work has ended."""
        self.bar.setMaximum(1)
        self.bar.setValue(int(done))


def show_result(ui: Any, node: slicer.vtkMRMLSegmentationNode | None) -> None:
    """Fill the table with the sizes of a segmentation's segments, and offer its surface."""
    sizes = [] if node is None else measure(node)
    ui.resultTable.setRowCount(len(sizes))
    for row, size in enumerate(sizes):
        volume = "-" if size.millilitres is None else f"{size.millilitres:.1f}"
        for column, text in enumerate((size.name, f"{size.voxels}", volume)):
            ui.resultTable.setItem(row, column, qt.QTableWidgetItem(text))
    ui.show3DButton.setSegmentationNode(node)
    ui.show3DButton.setEnabled(node is not None)
