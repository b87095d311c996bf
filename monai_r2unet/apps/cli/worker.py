"""The verb ``worker``: the process behind 3D Slicer and the viewer."""

from __future__ import annotations

import argparse
from typing import NoReturn

__all__ = ["HELP", "add_arguments", "run"]

HELP = "run the process behind 3D Slicer and the viewer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb: it has none."""


def run(options: argparse.Namespace) -> NoReturn:
    """Serve 3D Slicer or the viewer until the input closes."""
    from monai_r2unet.apps.worker.server import main

    main()
