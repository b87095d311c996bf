"""The verb ``view``: the viewer in the browser."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from monai_r2unet.apps.cli.arguments import positive
from monai_r2unet.apps.cli.terminal import EXIT_DONE, check_installed
from monai_r2unet.bundle import find_bundle
from monai_r2unet.inference.startup import leaving_on_interrupt

__all__ = ["HELP", "add_arguments", "announce", "run", "until_stopped"]

NEEDED = ("trame", "trame_rca", "trame_slicer", "slicer", "vtk")

HELP = "view and segment images in the browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("image", nargs="?", help="image file, or folder with one DICOM series, to open first")
    parser.add_argument(
        "--folder", help="restrict images to this folder (default: the image's folder, or the current one)"
    )
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="FOLDER",
        help="also offer the bundle in this folder (repeatable)",
    )
    parser.add_argument(
        "--trust-bundle", action="store_true", help="let the bundles named with --bundle execute any code"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: reachable from this machine only)"
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument(
        "--upload-limit", type=positive, default=2000, metavar="MB", help="largest upload (default: 2000)"
    )


def run(options: argparse.Namespace) -> int:
    """Serve the viewer until it is interrupted."""
    check_installed(NEEDED, "the viewer", "viewer")
    with leaving_on_interrupt():
        from monai_r2unet.apps.viewer.access import is_loopback
        from monai_r2unet.apps.viewer.folder import Folder
        from monai_r2unet.apps.viewer.server import Options, serve

    image = None if options.image is None else Path(options.image)
    folder = Folder(Path(options.folder) if options.folder else _home_of(image))
    bundles = [find_bundle(f"{name}{os.sep}", trusted=options.trust_bundle) for name in options.bundle]
    settings = Options(
        folder=folder,
        image=None if image is None else folder.find(str(image.absolute())),
        host=options.host,
        port=options.port,
        upload_limit=options.upload_limit * 10**6,
        bundles={bundle.root: options.trust_bundle for bundle in bundles},
    )
    if not is_loopback(options.host):
        print(
            f"warning: everyone on the network can reach the viewer on {options.host}; only the token in "
            "the address protects it, and nothing is encrypted",
            file=sys.stderr,
        )
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_stopped(serve(settings, announce)))
    return EXIT_DONE


def announce(address: str) -> None:
    """Print the address, which is the result of this verb."""
    print(address, flush=True)
    print("open this address in a browser; Ctrl+C ends the viewer", file=sys.stderr, flush=True)


async def until_stopped(work: object) -> None:
    """Await the work; a signal cancels it, so that its files are removed before the process exits."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows, where Ctrl+C works anyway
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def _home_of(image: Path | None) -> Path:
    """The default folder of images: the image's folder, or the current one."""
    return Path.cwd() if image is None else image.absolute().parent
