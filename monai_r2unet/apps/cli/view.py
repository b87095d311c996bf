"""The verb ``view`` of the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import signal
import sys
from pathlib import Path

from monai_r2unet.apps.cli.terminal import EXIT_DONE
from monai_r2unet.errors import InputError

__all__ = ["view"]

NEEDED = ("trame", "trame_rca", "trame_slicer", "slicer", "vtk")


def view(options: argparse.Namespace) -> int:
    """Serve the viewer until it is interrupted."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f'the viewer needs {", ".join(missing)}, which is not installed: pip install "monai-r2unet[viewer]"'
        )
    from monai_r2unet.apps.viewer.access import is_loopback
    from monai_r2unet.apps.viewer.folder import Folder
    from monai_r2unet.apps.viewer.server import Options, serve

    image = None if options.image is None else Path(options.image)
    folder = Folder(Path(options.folder) if options.folder else _home_of(image))
    settings = Options(
        folder=folder,
        image=None if image is None else folder.find(str(image.absolute())),
        host=options.host,
        port=options.port,
        upload_limit=options.upload_limit * 10**6,
    )
    if not is_loopback(options.host):
        print(
            f"warning: on {options.host} everyone in the network can reach the viewer; only the token in the address "
            "keeps them out, and nothing is encrypted",
            file=sys.stderr,
        )
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_stopped(serve(settings, announce)))
    return EXIT_DONE


def announce(address: str) -> None:
    """Tell the address: the result of this verb."""
    print(address, flush=True)
    print("open this address in a browser; Ctrl+C ends the viewer", file=sys.stderr, flush=True)


async def until_stopped(work: object) -> None:
    """Do the work until it ends or the process is told to, whose files are then removed first."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows, where Ctrl+C works by itself
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def _home_of(image: Path | None) -> Path:
    """The folder to open images from where none is named: that of the image, or the current one."""
    return Path.cwd() if image is None else image.absolute().parent
