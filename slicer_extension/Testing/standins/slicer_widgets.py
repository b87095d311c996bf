"""Plain imitations of the widgets of MRML and CTK that the module's panel uses."""

from __future__ import annotations

from typing import Any

import shiboken6
import slicer
from PySide6 import QtCore, QtWidgets

from .pythonqt import PythonQtObject, pythonqt_class

# Widgets that some of Slicer's Python files name, but that nothing here uses.
ONLY_NAMED = (
    "qMRMLCheckableNodeComboBox",
    "qMRMLRangeWidget",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qMRMLSegmentSelectorWidget",
    "qMRMLSubjectHierarchyTreeView",
    "ctkCheckablePushButton",
    "ctkCheckBox",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleSpinBox",
    "ctkRangeWidget",
    "ctkDoubleRangeSlider",
    "ctkSliderWidget",
)


class NodeComboBox(QtWidgets.QComboBox):
    """``qMRMLNodeComboBox``: lists nodes of the scene; configured by the same properties, from the ``.ui`` file."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: slicer.vtkMRMLScene | None = None
        self.currentIndexChanged.connect(lambda _index: self.currentNodeChanged.emit(self.currentNode()))

    def setMRMLScene(self, scene: slicer.vtkMRMLScene) -> None:
        """List the nodes of a scene, now and as they come and go."""
        self._scene = scene
        tags: list[int] = []

        def refresh(*_event: Any) -> None:
            if shiboken6.isValid(self):
                self._refresh()
            else:  # Qt has deleted the widget
                for tag in tags:
                    scene.RemoveObserver(tag)

        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
            tags.append(scene.AddObserver(event, refresh))
        refresh()

    @property
    def nodeTypes(self) -> list[str]:
        """Class names of the nodes to list."""
        return list(self.property("nodeTypes") or [])

    @nodeTypes.setter
    def nodeTypes(self, value: Any) -> None:
        self.setProperty("nodeTypes", list(value))
        if self._scene is not None:
            self._refresh()

    @property
    def noneDisplay(self) -> str:
        """The entry for no node."""
        return str(self.property("noneDisplay") or "None")

    @noneDisplay.setter
    def noneDisplay(self, text: str) -> None:
        self.setProperty("noneDisplay", text)
        self._refresh()

    def currentNode(self) -> slicer.vtkMRMLNode | None:
        """The selected node."""
        selected = QtWidgets.QComboBox.currentData(self)
        return self._scene.GetNodeByID(selected) if selected and self._scene else None

    def setCurrentNode(self, node: slicer.vtkMRMLNode | None) -> None:
        """Select a node."""
        self.setCurrentIndex(max(0, self.findData(node.GetID()) if node is not None else 0))

    def _refresh(self) -> None:
        selected = QtWidgets.QComboBox.currentData(self)
        self.blockSignals(True)
        self.clear()
        self.addItem(self.noneDisplay, "")
        for node in slicer.util.getNodesByClass("vtkMRMLNode", self._scene):
            if node.GetClassName() in self.nodeTypes and not node.GetHideFromEditors():
                self.addItem(node.GetName(), node.GetID())
        self.setCurrentIndex(max(0, self.findData(selected)))
        self.blockSignals(False)
        if QtWidgets.QComboBox.currentData(self) != (selected or ""):
            self.currentNodeChanged.emit(self.currentNode())


class CollapsibleButton(PythonQtObject, QtWidgets.QGroupBox):
    """``ctkCollapsibleButton``: a box with a title whose content can be folded away."""

    def event(self, event: QtCore.QEvent) -> bool:
        """Take over the properties that a ``.ui`` file sets."""
        if event.type() == QtCore.QEvent.Type.DynamicPropertyChange:
            name = bytes(event.propertyName().data())
            if name in (b"text", b"collapsed"):
                self._fold()
        if event.type() == QtCore.QEvent.Type.Polish:  # now it has its content
            self._fold()
        return bool(super().event(event))

    def _fold(self) -> None:
        self.setTitle(f"{chr(0x25B8 if self.collapsed else 0x25BE)} {self.text}")
        self.setFlat(self.collapsed)
        layout = self.layout()
        if layout is not None:
            margin = 0 if self.collapsed else 9
            layout.setContentsMargins(margin, margin, margin, margin)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not self.collapsed)

    @property
    def text(self) -> str:
        """The title."""
        return str(self.property("text"))

    @property
    def collapsed(self) -> bool:
        """Whether the content is folded away."""
        return bool(self.property("collapsed"))

    @collapsed.setter
    def collapsed(self, value: bool) -> None:
        self.setProperty("collapsed", value)


class PathLineEdit(PythonQtObject, QtWidgets.QLineEdit):
    """``ctkPathLineEdit``: a path to type or to choose."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.textChanged.connect(self.currentPathChanged)

    @property
    def currentPath(self) -> str:
        """The path."""
        return str(QtWidgets.QLineEdit.text(self))

    @currentPath.setter
    def currentPath(self, path: str) -> None:
        self.setText(path)


class Show3DButton(PythonQtObject, QtWidgets.QPushButton):
    """``qMRMLSegmentationShow3DButton``: remembers its segmentation, but shows nothing."""

    segmentation: slicer.vtkMRMLSegmentationNode | None = None

    def setSegmentationNode(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Set the segmentation to be shown."""
        self.segmentation = node


def classes() -> dict[str, type]:
    """The widgets by the names that they have in Slicer."""
    imitated = {
        "qMRMLNodeComboBox": pythonqt_class(NodeComboBox),
        "qMRMLSegmentationShow3DButton": Show3DButton,
        "ctkCollapsibleButton": CollapsibleButton,
        "ctkPathLineEdit": PathLineEdit,
    }
    only_named = dict.fromkeys(ONLY_NAMED, (PythonQtObject, QtWidgets.QFrame))
    bases = {**{name: (widget,) for name, widget in imitated.items()}, **only_named}
    return {name: type(name, widgets, {}) for name, widgets in bases.items()}
