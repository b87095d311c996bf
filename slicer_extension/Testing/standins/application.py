"""The application object, the logics of the core modules, and loading and saving."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtWidgets

LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
}

# Slicer's own Python is started through a launcher, so that its process is a grandchild.
LAUNCHER = """#!/bin/sh
"{python}" "$@"
"""


class Application:
    """Stands for ``slicer.app``.

    Args:
        scene: The MRML scene.
        logic: Slicer's application logic.
    """

    applicationName = "Slicer"
    applicationVersion = "slicer-core"
    majorVersion, minorVersion = 5, 11
    documentationBaseUrl = "https://slicer.readthedocs.io/"

    def __init__(self, scene: slicer.vtkMRMLScene, logic: slicer.vtkSlicerApplicationLogic) -> None:
        self._scene, self._logic = scene, logic
        self.temporaryPath = tempfile.mkdtemp(prefix="slicer-")
        self.qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["slicer"])
        self.qt.setOrganizationName("NA-MIC")
        self.qt.setApplicationName("Slicer")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self.temporaryPath)
        self.remote: Any = None  # logic for files of other computers
        self.questions: list[str] = []  # that were asked
        self.answer = True  # to all of them
        self.translation: Callable[[str], str] = str  # of every text

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        """The scene."""
        return self._scene

    def applicationLogic(self) -> slicer.vtkSlicerApplicationLogic:
        """The application logic."""
        return self._logic

    def processEvents(self) -> None:
        """Process Qt's pending events."""
        self.qt.processEvents()

    def clipboard(self) -> Any:
        """Qt's clipboard."""
        return self.qt.clipboard()

    def translate(self, context: str, text: str) -> str:
        """The text in the user's language."""
        return self.translation(text)

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        """The environment from before Slicer's launcher changed it."""
        return QtCore.QProcessEnvironment.systemEnvironment()

    def moduleManager(self) -> Application:
        """The manager of modules, whose signals nobody emits here."""
        return self

    def connect(self, *_arguments: Any) -> bool:
        """Connect to a signal of the application."""
        return True

    disconnect = connect

    def layoutManager(self) -> None:
        """There are no views."""

    def testingEnabled(self) -> bool:
        """Whether dialogs are to be left out."""
        return True


def install() -> Application:
    """Fill the module ``slicer`` with a scene, the application and the core modules' logics."""
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    app = slicer.app = Application(scene, logic)
    logic.SetTemporaryPath(app.temporaryPath)
    logic.SetModuleLogic("Colors", logic.GetColorLogic())
    scene.SetRootDirectory(app.temporaryPath)
    app.remote = slicer.vtkMRMLRemoteIOLogic()  # scene bundles (.mrb) are unpacked in its cache
    app.remote.SetMRMLScene(scene)
    app.remote.AddDataIOToScene()
    app.remote.GetCacheManager().SetRemoteCacheDirectory(app.temporaryPath)
    _add_core_modules(scene, logic)
    _add_slicer_python(Path(app.temporaryPath))

    slicer.util.confirmYesNoDisplay = slicer.util.confirmOkCancelDisplay = _ask
    slicer.util.loadNodeFromFile = _load
    slicer.util.mainWindow = lambda: None
    slicer.util.modulePath = lambda name: getattr(slicer.modules, name.lower()).path
    return app


def _add_core_modules(scene: slicer.vtkMRMLScene, application_logic: slicer.vtkSlicerApplicationLogic) -> None:
    modules = ModuleType("slicer.modules")
    slicer.modules = sys.modules["slicer.modules"] = modules
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLScene(scene)
        if hasattr(logic, "SetMRMLApplicationLogic"):
            logic.SetMRMLApplicationLogic(application_logic)
        application_logic.SetModuleLogic(name, logic)
        setattr(modules, name.lower(), SimpleNamespace(name=name, path="", logic=lambda logic=logic: logic))


def _add_slicer_python(folder: Path) -> None:
    """Put a PythonSlicer on the path that starts the Python that runs now."""
    launcher = folder / "bin" / "PythonSlicer"
    launcher.parent.mkdir()
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"


def _ask(text: str, *_arguments: Any, **_options: Any) -> bool:
    slicer.app.questions.append(text)
    return bool(slicer.app.answer)


def _load(filename: str, filetype: str | None = None, properties: Any = None, returnNode: bool = False) -> Any:
    """Load a segmentation or a volume, as ``slicer.util.loadSegmentation`` and ``loadVolume`` ask for."""
    name = (properties or {}).get("name") or Path(filename).name.split(".")[0]
    if filetype == "SegmentationFile":
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        storage = slicer.vtkMRMLSegmentationStorageNode()
        slicer.mrmlScene.AddNode(storage)
        storage.SetFileName(str(filename))
        node.SetAndObserveStorageNodeID(storage.GetID())
        loaded = storage.ReadData(node)
    else:
        node = slicer.modules.volumes.logic().AddArchetypeVolume(str(filename), name, 0)
        loaded = node is not None
    if not loaded:
        raise RuntimeError(f"Failed to load node from file: {filename}")
    return node


def load_module(path: Path) -> ModuleType:
    """Load the Python file of a scripted module under its name, and register the module.

    Args:
        path: Path of ``<module name>.py``.
    """
    name = path.stem
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parent = SimpleNamespace(path=str(path))
    registered = SimpleNamespace(name=name, path=str(path), parent=parent, self=getattr(module, name)(parent))
    setattr(slicer.modules, name.lower(), registered)
    return module
