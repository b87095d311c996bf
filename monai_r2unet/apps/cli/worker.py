"""The verb ``worker``: the process that 3D Slicer and the viewer talk to."""

from __future__ import annotations

import argparse
from typing import NoReturn

__all__ = ["HELP", "add_arguments", "run"]

HELP = "the process that 3D Slicer and the viewer talk to"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb: it has none."""


def run(options: argparse.Namespace) -> NoReturn:
    """Serve 3D Slicer or the viewer until they leave."""
    from monai_r2unet.apps.worker.server import main

    main()
