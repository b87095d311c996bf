"""The viewer's server: start, access control and complete clean-up."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from trame.app import get_server

from monai_r2unet.apps.viewer.access import Access
from monai_r2unet.apps.viewer.folder import Folder
from monai_r2unet.apps.viewer.page import Page
from monai_r2unet.apps.worker.protocol import WORKER

__all__ = ["Options", "serve"]

EVERYWHERE = ("0.0.0.0", "::")  # addresses to listen on, not to open
PREFIX = "monai-r2unet-view-"  # of the temporary folder


@dataclass(frozen=True)
class Options:
    """Options of the server.

    Args:
        folder: Folder from which images may be opened by path.
        image: Image to open at the start; None for an empty viewer.
        host: Address to listen on.
        port: Port number; 0 for any free one.
        upload_limit: Largest upload in bytes.
        worker: Command that starts the worker.
        bundles: Folders of bundles that are not shipped, and whether the user trusts the author of each.
    """

    folder: Folder
    image: Path | None
    host: str = "127.0.0.1"
    port: int = 0
    upload_limit: int = 2 << 30
    worker: Sequence[str] = WORKER
    bundles: Mapping[Path, bool] = field(default_factory=dict)


async def serve(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until the task is cancelled.

    Args:
        options: Options of the server.
        announce: Called with the address, including the token, once it can be opened.
    """
    asyncio.get_running_loop().set_exception_handler(_tell_fault)
    server = get_server("monai-r2unet", client_type="vue3")
    access = Access(options.host)
    with _workspace() as home:
        page = Page(server, options.folder, home, options.upload_limit, options.worker, options.bundles)

        def bind(web_server: Any) -> None:
            web_server.app.middlewares.append(access.guard)
            web_server.app.add_routes(page.transfers.routes)

        server.controller.add("on_server_bind")(bind)
        running = asyncio.ensure_future(
            server.start(
                host=options.host,
                port=options.port,
                exec_mode="coroutine",
                open_browser=False,
                show_connection_info=False,
                disable_logging=True,
                timeout=0,
                thread=True,  # the caller handles signals
            )
        )
        try:
            await asyncio.wait([running, server.ready], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                host = socket.gethostname() if options.host in EVERYWHERE else options.host
                host = f"[{host}]" if ":" in host else host
                announce(f"http://{host}:{server.port}/?token={access.token}")
                await page.begin(options.image)
            await running
        finally:
            running.cancel()
            await page.end()


def _tell_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report unhandled errors on standard error, except those caused by closing a page."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """The temporary folder of uploads and results, which only this user can read; removed at the end.

    If the process is killed, the next start removes it.
    """
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with FileLock(folder / "lock"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders of dead processes, whose locks are free."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Other users' folders cannot be opened; a missing lock is about to be created.
        with contextlib.suppress(OSError, Timeout):
            if (folder / "lock").is_file():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
