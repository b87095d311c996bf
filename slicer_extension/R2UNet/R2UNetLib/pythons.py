"""Which Python the worker runs in: Slicer's own, or another one that the user points at."""

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

SETTING = "R2UNet/Python"  # of the application, not of the scene: path of another Python, or empty for Slicer's own
PACKAGE = "monai-r2unet"


@dataclass(frozen=True)
class Python:
    """A Python interpreter to start.

    Args:
        program: path of the executable.
        environment: a ``qt.QProcessEnvironment``, or None for Slicer's.
        own: whether it is Slicer's.
    """

    program: str
    environment: Any
    own: bool


def other_python() -> str:
    """Path of the user's Python; empty when Slicer's own is to be used."""
    return str(qt.QSettings().value(SETTING, "") or "")


def set_other_python(path: str) -> None:
    """Remember which Python to use, over sessions."""
    qt.QSettings().setValue(SETTING, path)


def chosen_python() -> Python:
    """The Python that the worker is to run in.

    Raises:
        Problem: if it is not there, or lacks the package as far as can be told without starting it.
    """
    other = other_python()
    if other:
        if not Path(other).is_file():
            problem = _("There is no Python at {path}: choose another one under 'Set up', or Slicer's own.")
            raise Problem(problem.format(path=other))
        # As before Slicer started, because Slicer's libraries would disturb a Python that is not its own.
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
