"""The Python that runs the worker: Slicer's own, or another one chosen by the user."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .problem import Problem

SETTING = "R2UNet/Python"  # application setting, not part of the scene: path of another Python, empty for Slicer's own
PACKAGE = "monai-r2unet"


@dataclass(frozen=True)
class Python:
    """A Python interpreter.

    Args:
        program: Path of the executable.
        environment: A ``qt.QProcessEnvironment``, or None for Slicer's.
        own: True for Slicer's own Python.
    """

    program: str
    environment: Any
    own: bool


def other_python() -> str:
    """Path of the user's Python; empty for Slicer's own."""
    return str(qt.QSettings().value(SETTING, "") or "")


def set_other_python(path: str) -> None:
    """Store which Python to use in the application's settings."""
    qt.QSettings().setValue(SETTING, path)


def chosen_python() -> Python:
    """The Python in which the worker runs.

    Raises:
        Problem: if it does not exist, or lacks the package as far as can be checked without starting it.
    """
    other = other_python()
    if other:
        if not Path(other).is_file():
            problem = _("There is no Python at {path}: choose another one under 'Set up', or Slicer's own.")
            raise Problem(problem.format(path=other))
        # The environment from before Slicer's start: Slicer's libraries would disturb another Python.
        return Python(other, slicer.app.startupEnvironment(), own=False)
    own = slicer_python()
    if installed_version(PACKAGE) is None:
        raise Problem(_("R2U-Net is not installed in Slicer yet: open 'Set up' below and press 'Install'."))
    return own


def slicer_python() -> Python:
    """Slicer's own Python.

    Raises:
        Problem: if this Slicer has none.
    """
    program = shutil.which("PythonSlicer")
    if program is None:
        raise Problem(_("This Slicer has no Python of its own: choose another Python under 'Set up'."))
    return Python(program, None, own=True)


def installed_version(distribution: str) -> str | None:
    """Version of a Python package in Slicer's Python, found without importing it; None if it is not installed."""
    importlib.invalidate_caches()
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
