"""Slicer without its application: importing this puts the stand-ins in place and loads the module R2UNet."""

from __future__ import annotations

import sys
from pathlib import Path

EXTENSION = Path(__file__).resolve().parents[2] / "slicer_extension"
sys.path.insert(0, str(EXTENSION / "Testing"))

import standins  # noqa: E402
from standins.application import load_module  # noqa: E402

app = standins.install()
R2UNet = load_module(EXTENSION / "R2UNet" / "R2UNet.py")
