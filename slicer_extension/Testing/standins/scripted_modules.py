"""Slicer's Python files for scripted modules: stand-ins of our own, or Slicer's, given their folder."""

from __future__ import annotations

import importlib.util
import sys
import typing
import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
import vtk

NAMES = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper")


class ScriptedLoadableModule:
    """Base class of modules."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name: str) -> str:
        """Path of a file in the module's ``Resources``."""
        return str(Path(self.parent.path).parent / "Resources" / name)


class ScriptedLoadableModuleWidget:
    """Base class of panels.

    Args:
        parent: Widget with a layout.
    """

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent = parent
        self.layout = parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self) -> None:
        """Build the panel."""

    def cleanup(self) -> None:
        """Take it down."""

    def onReload(self) -> None:
        """Reload the module."""

    def resourcePath(self, name: str) -> str:
        """Path of a file in the module's ``Resources``."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)


class ScriptedLoadableModuleLogic:
    """Base class of logics."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode:
        """The one node of the scene that holds the module's parameters; made if it is not there."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base class of a module's self test."""


BASE_CLASSES = (
    ScriptedLoadableModule,
    ScriptedLoadableModuleWidget,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)


class Minimum:
    """Annotation of a parameter: its lowest value."""

    def __init__(self, minimum: float) -> None:
        self.minimum = minimum


class Parameter:
    """One parameter in a parameter node: a node, or a bool, int or str.

    Args:
        name: Name of the parameter.
        hint: Its type.
        default: Its value until one is set.
    """

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name = name
        annotated = typing.get_origin(hint) is typing.Annotated
        types = typing.get_args(hint) if annotated or typing.get_origin(hint) else (hint,)
        self.type: type = types[0]
        self.minimum = next((note.minimum for note in types[1:] if isinstance(note, Minimum)), None)
        self.is_node = issubclass(self.type, slicer.vtkMRMLNode)
        self.node_types = [kind.__name__ for kind in types if self.is_node and kind is not type(None)]
        self.default = default

    def read(self, node: slicer.vtkMRMLScriptedModuleNode) -> Any:
        """The value in a parameter node."""
        if self.is_node:
            return node.GetNodeReference(self.name)
        if not node.HasParameter(self.name):
            return self.type() if self.default is None else self.default
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)

    def write(self, node: slicer.vtkMRMLScriptedModuleNode, value: Any) -> None:
        """Set the value in a parameter node."""
        if self.is_node:
            node.SetNodeReferenceID(self.name, None if value is None else value.GetID())
            return
        if type(value) is not self.type or (self.minimum is not None and value < self.minimum):
            raise ValueError(f"{self.name} cannot be {value!r}")
        node.SetParameter(self.name, str(value))


class Connection:
    """Keeps the widgets of a panel and the parameters that they name equal."""

    def __init__(self, wrapper: Any, parameters: dict[str, Parameter], ui: Any) -> None:
        self.wrapper = wrapper
        self.connected: list[tuple[str, Callable[[Any], None], Any, Callable[..., None]]] = []
        for widget in list(vars(ui).values()):
            name = widget.property("SlicerParameterName")
            if name:
                if name not in parameters:
                    raise ValueError(f"Cannot find a param with the given name: {name}")
                self._connect(parameters[name], widget)
        self.observer = wrapper.AddObserver(vtk.vtkCommand.ModifiedEvent, self.to_widgets)

    def _connect(self, parameter: Parameter, widget: Any) -> None:
        kind = widget.className()
        if kind == "QCheckBox":
            signal, read, write = widget.toggled, lambda: widget.checked, widget.setChecked
        elif kind == "QSpinBox":
            widget.setRange(-(2**31) if parameter.minimum is None else parameter.minimum, 2**31 - 1)
            signal, read, write = widget.valueChanged, lambda: widget.value, widget.setValue
        elif kind == "QLineEdit":
            signal, read, write = widget.textChanged, lambda: widget.text, widget.setText
        elif kind == "qMRMLNodeComboBox":
            widget.nodeTypes = parameter.node_types
            signal, read, write = widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
        else:
            raise RuntimeError(f"no connection of a {kind} with {parameter.name}")

        def to_parameter(*_value: Any) -> None:
            setattr(self.wrapper, parameter.name, read())

        write(getattr(self.wrapper, parameter.name))
        signal.connect(to_parameter)
        self.connected.append((parameter.name, write, signal, to_parameter))

    def to_widgets(self, *_event: Any) -> None:
        """Show the present values."""
        for name, write, _signal, _slot in self.connected:
            write(getattr(self.wrapper, name))

    def end(self) -> None:
        """Leave both alone."""
        self.wrapper.RemoveObserver(self.observer)
        for _name, _write, signal, slot in self.connected:
            signal.disconnect(slot)


def parameterNodeWrapper(wrapped: type) -> type:
    """Class decorator: the annotated attributes become parameters of a parameter node."""
    hints = typing.get_type_hints(wrapped, include_extras=True)
    parameters = {name: Parameter(name, hint, getattr(wrapped, name, None)) for name, hint in hints.items()}

    def attribute(parameter: Parameter) -> property:
        return property(
            lambda self: parameter.read(self.parameterNode),
            lambda self, value: parameter.write(self.parameterNode, value),
        )

    members: dict[str, Any] = {name: attribute(parameter) for name, parameter in parameters.items()}

    def start(self: Any, node: slicer.vtkMRMLScriptedModuleNode) -> None:
        self.parameterNode = node
        self.connections = []

    def connect_gui(self: Any, ui: Any) -> int:
        self.connections.append(Connection(self, parameters, ui))
        return len(self.connections) - 1

    members["__init__"] = start
    members["connectGui"] = connect_gui
    members["disconnectGui"] = lambda self, tag: self.connections[tag].end()
    members["AddObserver"] = lambda self, event, call, priority=0.0: self.parameterNode.AddObserver(event, call)
    members["RemoveObserver"] = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    for name, member in members.items():
        setattr(wrapped, name, member)
    return wrapped


def install() -> None:
    """Make the stand-ins importable under Slicer's names."""
    contents = {
        "i18n": {"tr": lambda text: slicer.app.translate("", text)},
        "ScriptedLoadableModule": {kind.__name__: kind for kind in BASE_CLASSES},
        "parameterNodeWrapper": {"Minimum": Minimum, "parameterNodeWrapper": parameterNodeWrapper},
    }
    for name, content in contents.items():
        module = ModuleType(f"slicer.{name}")
        vars(module).update(content)
        _register(name, module)


def load_slicers_own(folder: Path) -> None:
    """Load Slicer's own files from ``Base/Python/slicer`` of its sources."""
    for name in NAMES:
        path = folder / f"{name}.py"
        package = None
        if not path.is_file():
            path, package = folder / name / "__init__.py", [str(folder / name)]
        spec = importlib.util.spec_from_file_location(f"slicer.{name}", path, submodule_search_locations=package)
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} has no {name}")
        module = importlib.util.module_from_spec(spec)
        _register(name, module)
        spec.loader.exec_module(module)


def _register(name: str, module: ModuleType) -> None:
    sys.modules[f"slicer.{name}"] = module
    setattr(slicer, name, module)
