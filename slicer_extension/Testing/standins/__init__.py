"""Stand-ins for the parts of the Slicer application that the wheel ``slicer-core`` lacks, so modules run without it.

The scene, its nodes, their files and the logics of the core modules are Slicer's own (C++, from the wheel), and so is
``slicer.util``. Qt is real too (PySide6). Stand-ins are: the application object, the widgets of MRML and CTK, Slicer's
way of using Qt from Python (PythonQt), and Slicer's Python files for scripted modules. Instead of the last, Slicer's
own are used when the environment variable ``SLICER_PYTHON_DIR`` names their folder (``Base/Python/slicer`` of Slicer's
sources).

What only the real application can show: PythonQt itself, the widgets that are imitated here, and rendering.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import application, pythonqt, scripted_modules


def install() -> application.Application:
    """Make ``slicer``, ``qt`` and ``ctk`` importable as a module of Slicer expects them; once a process.

    Returns:
        The application object, which is ``slicer.app`` too.
    """
    app = application.install()
    pythonqt.install()
    sources = os.environ.get("SLICER_PYTHON_DIR")
    if sources:
        scripted_modules.load_slicers_own(Path(sources))
    else:
        scripted_modules.install()
    return app
