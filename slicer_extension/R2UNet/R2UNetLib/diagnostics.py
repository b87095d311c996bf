"""Diagnostics for support."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import slicer

from .problem import Problem
from .pythons import PACKAGE, chosen_python, installed_version
from .texts import describe_device

if TYPE_CHECKING:
    from .logic import R2UNetLogic

LIBRARIES = (PACKAGE, "torch", "monai", "numpy", "SimpleITK")


def diagnostics(logic: R2UNetLogic, log: str) -> str:
    """Versions, devices, bundles and the log. In English, because support reads them, not the user of the panel."""
    lines = [f"Slicer {slicer.app.applicationVersion} on {platform.platform()}"]
    try:
        python = chosen_python()
        lines.append(f"Python: {python.program} ({'of Slicer' if python.own else 'chosen by the user'})")
    except Problem as problem:
        lines.append(f"Python: {problem}")
    lines += [f"In Slicer's Python: {name} {installed_version(name) or 'is not installed'}" for name in LIBRARIES]
    ready = logic.runner.client.ready
    lines.append("Worker: not running" if ready is None else f"Worker: version {ready['version']}")
    lines += [f"Device: {device['id']}, {describe_device(device)}" for device in logic.devices]
    lines += [f"Bundle: {bundle['name']} {bundle['version']}, weights {bundle['weights']}" for bundle in logic.bundles]
    return "\n".join([*lines, "Log:", log])
