"""The verb ``dicom-node``: what a scanner sends is segmented, and the result goes to an archive."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from monai_r2unet.apps.cli.terminal import EXIT_DONE, check_installed, say
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "run"]

NEEDED = ("pynetdicom", "pydicom", "highdicom", "contourpy")

HELP = "receive DICOM series, segment them by rules and send the results to an archive"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("settings", metavar="SETTINGS.json", help="who may send, what is segmented, where results go")


def run(options: argparse.Namespace) -> int:
    """Serve until the process is told to end."""
    check_installed(NEEDED, "the node", "node")
    with leaving_on_interrupt():
        from monai_r2unet.apps.node.service import serve
        from monai_r2unet.apps.node.settings import read_settings

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    settings = read_settings(Path(options.settings))
    serve(settings, lambda address: say(address, result=True))
    return EXIT_DONE
