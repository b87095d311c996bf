"""Files that come from the browser and go to it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from monai_r2unet.apps.viewer.folder import check_one_file
from monai_r2unet.errors import InputError
from monai_r2unet.images.formats import READERS

__all__ = ["Transfers"]

BATCH = re.compile(r"[0-9a-z]{8,32}")  # the page makes one up for the files of a drop
FILES = 20000  # of a batch


class Transfers:
    """Takes uploads, a batch a folder, and hands out what may be downloaded.

    Args:
        folder: the home of the batches.
        limit: bytes that a batch may have.
        download: the file of a download's name, made when it is asked for.
    """

    def __init__(self, folder: Path, limit: int, download: Callable[[str], Path]) -> None:
        self.folder = folder
        self.limit = limit
        self.download = download
        self.received: dict[str, int] = {}
        self.routes = [
            web.put("/upload/{batch}/{name}", self._take),
            web.get("/download/{name}", self._give),
        ]

    def image(self, batch: str) -> Path:
        """What a batch holds: its one image, or the folder with the slices of a DICOM series.

        Raises:
            InputError: if nothing of the kind came.
        """
        if batch not in self.received:
            raise InputError("the upload did not arrive: try again")
        files = sorted((self.folder / batch).iterdir())
        images = [file for file in files if file.name.lower().endswith(tuple(READERS))]
        if len(images) > 1:
            raise InputError(f"{len(images)} images were given, expected one: open them one by one")
        if images:
            check_one_file(images[0])
            return images[0]
        return files[0] if len(files) == 1 else self.folder / batch

    def forget(self, keep: Path | None = None) -> None:
        """Remove all batches but that of the image that is still open."""
        for batch in list(self.received):
            if keep is None or not keep.is_relative_to(self.folder / batch):
                del self.received[batch]
                shutil.rmtree(self.folder / batch, ignore_errors=True)

    async def _take(self, request: web.Request) -> web.Response:
        batch, name = request.match_info["batch"], Path(request.match_info["name"]).name
        if not BATCH.fullmatch(batch) or not name or name.startswith("."):
            return web.Response(status=400, text="this is no name for a file")
        folder = self.folder / batch
        folder.mkdir(mode=0o700, exist_ok=True)
        self.received.setdefault(batch, 0)
        path = folder / name
        try:
            if sum(1 for _ in folder.iterdir()) >= FILES:
                raise InputError(f"more than {FILES} files were given: open a folder with one DICOM series")
            with path.open("xb") as file:  # never over what is there
                async for chunk in request.content.iter_chunked(1 << 20):
                    self.received[batch] += len(chunk)
                    if self.received[batch] > self.limit:
                        raise InputError(
                            f"the upload is larger than {self.limit / 1e6:.0f} MB: start the viewer with a larger "
                            "--upload-limit, or open the file by its path"
                        )
                    file.write(chunk)
        except (InputError, OSError, ConnectionError) as error:
            self.forget_batch(batch)
            told = str(error) if isinstance(error, InputError) else f"{name} could not be stored ({error})"
            return web.Response(status=413, text=told)
        return web.Response(status=201)

    def forget_batch(self, batch: str) -> None:
        """Remove what came of one batch."""
        self.received.pop(batch, None)
        shutil.rmtree(self.folder / batch, ignore_errors=True)

    async def _give(self, request: web.Request) -> web.StreamResponse:
        try:
            path = await asyncio.to_thread(self.download, request.match_info["name"])
        except InputError as error:
            return web.Response(status=404, text=str(error))
        headers = {"Content-Disposition": f'attachment; filename="{path.name}"'}
        return web.FileResponse(path, headers=headers)
