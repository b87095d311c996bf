"""The display below the panel's buttons: progress, messages and the result."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .numbers import Measurement, cells, columns, measure, table_node

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


class ResultSection:
    """The numbers of the result, with the buttons that copy and export them, and its surface.

    Args:
        ui: The panel's widgets.
        status: Where messages are shown.
    """

    def __init__(self, ui: Any, status: Status) -> None:
        self.ui = ui
        self.status = status
        self.node: slicer.vtkMRMLSegmentationNode | None = None
        ui.resultTable.horizontalHeader().setStretchLastSection(True)
        ui.resultTable.verticalHeader().setVisible(False)
        ui.copyTableButton.connect("clicked(bool)", self.copy)
        ui.exportTableButton.connect("clicked(bool)", self.export)

    def show(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Fill the table with the numbers of a segmentation's segments, and offer its surface."""
        self.node = node
        rows = self._rows()
        table = self.ui.resultTable
        table.setRowCount(len(rows))
        table.setColumnCount(len(columns(rows)))
        for column, (title, explanation, _name) in enumerate(columns(rows)):
            header = qt.QTableWidgetItem(title)
            header.setToolTip(explanation)
            table.setHorizontalHeaderItem(column, header)
        for row, texts in enumerate(cells(rows)):
            for column, text in enumerate(texts):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        table.resizeColumnsToContents()
        table.resizeRowsToContents()
        self.ui.show3DButton.setSegmentationNode(node)
        self.ui.show3DButton.setEnabled(node is not None)
        for button in (self.ui.copyTableButton, self.ui.exportTableButton):
            button.setEnabled(bool(rows))

    def copy(self, checked: bool = False) -> None:
        """Copy the table, for a spreadsheet."""
        rows = self._rows()
        lines = [[title for title, *_rest in columns(rows)], *cells(rows)]
        slicer.app.clipboard().setText("\n".join("\t".join(line) for line in lines))
        self.status.say(_("The numbers are on the clipboard."))

    def export(self, checked: bool = False) -> None:
        """Add the table to the scene."""
        if self.node is not None:
            node = table_node(self._rows(), _("{name} numbers").format(name=self.node.GetName()))
            self.status.say(_("The numbers are in the table '{name}'.").format(name=node.GetName()))

    def _rows(self) -> list[Measurement]:
        return [] if self.node is None or self.node.GetScene() is None else measure(self.node)
