"""The verb ``export``: a bundle's network as TorchScript or ONNX."""

from __future__ import annotations

import argparse

from monai_r2unet.apps.cli.terminal import EXIT_DONE
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write a bundle's network as TorchScript or ONNX, for other programs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("bundle", help="name (see `monai-r2unet list`) or folder of the bundle")
    parser.add_argument("output", help="output file; its ending selects the format: .ts (TorchScript) or .onnx")
    parser.add_argument("--weights", help="weights of your own training instead of the bundle's")
    parser.add_argument("--trust-bundle", action="store_true", help="allow code in a bundle that is not shipped")
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")


def run(options: argparse.Namespace) -> int:
    """Write a bundle's network as TorchScript or ONNX."""
    with leaving_on_interrupt():
        from monai_r2unet.inference.export import export_network

    difference = export_network(
        options.bundle,
        options.output,
        options.weights,
        trust_bundle=options.trust_bundle,
        overwrite=options.overwrite,
    )
    print(f"{options.output}\tlogits differ from torch's by {difference:.1e} of the largest")
    return EXIT_DONE
