"""The modules ``qt`` and ``ctk`` as Slicer's Python sees them, on top of PySide6.

PythonQt differs from PySide6: Qt's properties are attributes (``label.text``), ``name`` is the object's name, and
signals can be connected by their signature. Each class that is used gets a subclass with these habits.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

# Functions that are properties as well: Qt calls the first two, and programs the last, which must stay functions.
FUNCTIONS = {"sizeHint", "minimumSizeHint", "singleShot"}
OTHERS = ("QTimer", "QProcess", "QAction")  # that are not widgets


class PythonQtObject:
    """Mixin with PythonQt's habits."""

    @property
    def name(self) -> str:
        """The object's name."""
        return str(QtCore.QObject.objectName(self))

    @name.setter
    def name(self, value: str) -> None:
        QtCore.QObject.setObjectName(self, value)

    def className(self) -> str:
        """Name of the C++ class."""
        return type(self).__name__

    def __getattribute__(self, name: str) -> Any:
        # PySide6 finds its own static connect() before any method of a subclass.
        if name in ("connect", "disconnect"):
            return lambda signature, slot: _connect(self, signature, slot, name)
        return super().__getattribute__(name)


class Window(PythonQtObject, QtWidgets.QWidget):
    """``qMRMLWidget``: passes the scene to its children."""

    def setMRMLScene(self, scene: slicer.vtkMRMLScene) -> None:
        """Pass the scene to all children that use it."""
        for child in self.findChildren(QtWidgets.QWidget):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)


class UiLoader(QtUiTools.QUiLoader):
    """Loads ``.ui`` files, with the classes of this module and the stand-ins for Slicer's widgets."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """Make a widget. It must not raise: an exception here would end the process silently."""
        widget_class = WIDGETS.get(class_name) or WIDGETS["QFrame"]
        widget = widget_class(parent)
        widget.setObjectName(name)
        KEPT.append(widget)  # its Python half would be forgotten, and with it all that the subclass adds
        return widget


WIDGETS: dict[str, type] = {}  # class name -> class, for .ui files
KEPT: list[Any] = []


def _connect(sender: Any, signature: str, slot: Any, connect_or_disconnect: str) -> bool:
    """Connect or disconnect a signal, such as "clicked(bool)"; one that the sender does not have is refused."""
    meta = sender.metaObject()
    known = [bytes(meta.method(index).methodSignature().data()).decode() for index in range(meta.methodCount())]
    wanted = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    python_signals = [text.replace("PyObject", "vtkMRMLNode*") for text in known]
    if wanted not in known and wanted not in python_signals:
        raise ValueError(f"{type(sender).__name__} has no signal {signature}")
    getattr(getattr(sender, signature.split("(")[0]), connect_or_disconnect)(slot)
    return True


def pythonqt_class(base: type) -> type:
    """A subclass of a PySide6 class with PythonQt's habits, of the same name."""
    meta = base.staticMetaObject
    members: dict[str, Any] = {"__doc__": base.__doc__}
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        if name not in FUNCTIONS:
            members[name] = _qt_property(name)
    return type(base.__name__, (PythonQtObject, base), members)


def _qt_property(name: str) -> property:
    def get(self: QtCore.QObject) -> Any:
        return QtCore.QObject.property(self, name)

    def put(self: QtCore.QObject, value: Any) -> None:
        if not QtCore.QObject.setProperty(self, name, value):
            raise TypeError(f"{name} of {type(self).__name__} cannot be {value!r}")

    return property(get, put)


def install() -> None:
    """Make ``qt`` and ``ctk`` importable, and put the widgets of MRML into ``slicer``."""
    from . import slicer_widgets

    qt, ctk = ModuleType("qt"), ModuleType("ctk")
    for library in (QtCore, QtGui, QtNetwork, QtWidgets):
        for name in dir(library):
            if name.startswith("Q"):
                value = getattr(library, name)
                if isinstance(value, type) and (name in OTHERS or issubclass(value, QtWidgets.QWidget)):
                    value = pythonqt_class(value)
                if isinstance(value, type) and issubclass(value, QtWidgets.QWidget):
                    WIDGETS[name] = value
                setattr(qt, name, value)
    qt.Qt = QtCore.Qt
    qt.QUiLoader = UiLoader
    qt.QFile.ReadOnly = QtCore.QIODevice.OpenModeFlag.ReadOnly
    slicer.qMRMLWidget = WIDGETS["qMRMLWidget"] = type("qMRMLWidget", (Window,), {})
    for name, widget in slicer_widgets.classes().items():
        WIDGETS[name] = widget
        setattr(ctk if name.startswith("ctk") else slicer, name, widget)
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
