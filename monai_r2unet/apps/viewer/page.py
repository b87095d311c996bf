"""The page: its content and the requests it may send. All its input is checked here or at its destination."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trame_rca.module
from trame_client.ui.html import DivLayout

from monai_r2unet.apps.viewer.folder import Folder
from monai_r2unet.apps.viewer.texts import readable
from monai_r2unet.apps.viewer.transfers import Transfers
from monai_r2unet.apps.viewer.windows import WINDOWS
from monai_r2unet.errors import InputError
from monai_r2unet.images.reading import read_image_with_notes

if TYPE_CHECKING:
    from monai_r2unet.apps.viewer.session import Session

__all__ = ["Page"]

WEB = Path(__file__).with_name("web")

# Names of the views, their colours in Slicer, and the directions left, right, above and below in each.
VIEWS = [
    {"id": "Red", "name": "Axial", "sides": ["R", "L", "A", "P"]},
    {"id": "ThreeD", "name": "3D", "sides": []},
    {"id": "Green", "name": "Coronal", "sides": ["R", "L", "S", "I"]},
    {"id": "Yellow", "name": "Sagittal", "sides": ["A", "P", "S", "I"]},
]
# The initial state, shared with the page. Values written by the page are checked where they are used.
STATE: dict[str, Any] = {
    "ready": False,
    "suggestions": [],
    "image": None,  # name, size, picture, grey
    "opening": "",
    "message": None,  # kind (error, warning, info), text
    "bundles": [],
    "bundle": "",
    "card": [],
    "problem": "",
    "devices": [{"id": "auto", "name": "Automatic"}],
    "device": "auto",
    "scaled": False,  # whether the bundle scales by the field of view
    "scale": "",  # the photograph's scale: a factor or the diameter of its field of view; empty for automatic
    "running": False,
    "done": 0,
    "total": 0,
    "progress": "",
    "result": None,  # segments, densities, downloads, seconds
    "opacity": 60,
    "mask_shown": True,
    "surface_shown": True,
    "reference": None,  # name, measures, colours
    "comparing": False,
    "errors_shown": True,
    "window": 0.0,
    "level": 0.0,
}

PLACES = {"image", "reference"}  # roles in which a file may be opened


class Page:
    """The page's side of the session.

    Args:
        server: The trame server.
        folder: Folder from which files may be opened by path.
        home: Folder for uploads and results.
        upload_limit: Largest upload in bytes.
        command: Command that starts the worker.
        bundles: Folders of bundles that are not shipped, and whether the user trusts the author of each.
    """

    def __init__(
        self,
        server: Any,
        folder: Folder,
        home: Path,
        upload_limit: int,
        command: Sequence[str],
        bundles: Mapping[Path, bool],
    ) -> None:
        self.server = server
        self.state = server.state
        self.folder = folder
        self.home = home
        self.command = command
        self.bundles = bundles
        self.session: Session | None = None
        uploads = home / "uploads"
        uploads.mkdir(mode=0o700)
        self.transfers = Transfers(uploads, upload_limit, self._download)
        server.enable_module(trame_rca.module)
        files = {"styles": ["viewer/page.css"], "scripts": ["viewer/page.js"]}
        server.enable_module({"serve": {"viewer": str(WEB)}, **files})
        with DivLayout(server, classes="whole") as layout:
            layout.root.children.append((WEB / "page.html").read_text(encoding="utf-8"))
        self.state.update(STATE)
        self.state.update(
            {
                "trame__title": "R2U-Net viewer",
                "views": VIEWS,
                "windows": [{"name": name, "width": w, "centre": c} for name, (w, c) in WINDOWS.items()],
                "folder": readable(str(folder.root)),
                "upload_limit": upload_limit,
                "slices": {view["id"]: {"index": 1, "count": 1} for view in VIEWS},
            }
        )
        self._offer()

    async def begin(self, image: Path | None) -> None:
        """Create the views, open an image and start the worker, the slow steps concurrently."""
        reading = None if image is None else asyncio.ensure_future(asyncio.to_thread(read_image_with_notes, image))
        if image is not None:
            self.state.update({"opening": self._name(image)})
            self.state.flush()
        await asyncio.to_thread(importlib.import_module, "monai_r2unet.apps.viewer.session")
        from monai_r2unet.apps.viewer.scene import Scene
        from monai_r2unet.apps.viewer.session import Session

        scene = Scene(self.server, self._tell_slices)
        self.session = Session(self.state, scene, self.home, self.command, self.bundles)
        scene.register(self.server)
        self.state.ready = True
        self.state.flush()
        if image is not None:
            await self.session.open(image, self._name(image), reading)
            await asyncio.sleep(0.5)  # let the views be drawn before the worker's imports occupy a core
        await self.session.start_worker()

    async def end(self) -> None:
        """Stop the worker."""
        if self.session is not None:
            await self.session.close()

    def _name(self, path: Path) -> str:
        return readable(str(path.relative_to(self.folder.root)) if path != self.folder.root else path.name)

    def _tell_slices(self, view: str, index: int, count: int) -> None:
        self.state.slices = {**self.state.slices, view: {"index": index, "count": count}}
        self.state.flush()

    def _download(self, name: str) -> Path:
        if self.session is None:
            raise InputError("the viewer is still starting")
        return self.session.download(name)

    # ---- requests of the page ----

    def _offer(self) -> None:
        offered: dict[str, Callable[[Session], Callable[..., Any]]] = {
            "segment": lambda session: session.segment,
            "cancel": lambda session: session.cancel,
            "bundle": lambda session: session.choose_bundle,
            "add_bundle": lambda session: functools.partial(self._add_bundle, session),
            "device": lambda session: session.choose_device,
            "scale": lambda session: session.choose_scale,
            "window": lambda session: session.set_window,
            "automatic_window": lambda session: session.automatic_window,
            "slice": lambda session: session.scene.go_to,
            "fit": lambda session: session.scene.fit,
            "open": lambda session: functools.partial(self._open, session),
            "uploaded": lambda session: functools.partial(self._uploaded, session),
            "complain": lambda session: session.complain,
            "dismiss": lambda session: functools.partial(session.tell, message=None),
            "suggest": lambda _: self._suggest,
        }
        for name, find in offered.items():
            self.server.controller.trigger(name)(functools.partial(self._answer, find))
        # The page writes these itself; sending them also as a request would overtake them.
        self.state.change("opacity", "mask_shown", "surface_shown", "errors_shown")(self._show_overlays)

    async def _answer(self, find: Callable[[Session], Callable[..., Any]], *arguments: Any) -> None:
        """Carry out a request of the page; if that fails, show the reason in the page."""
        if self.session is None:
            return
        try:
            result = find(self.session)(*arguments)
            if isinstance(result, Awaitable):
                await result
        except (InputError, OSError, ValueError, TypeError, KeyError) as error:
            self.session.complain(error)

    def _show_overlays(self, **_: Any) -> None:
        if self.session is not None:
            self.session.show_overlays()

    async def _open(self, session: Session, path: str, place: str) -> None:
        if not path.strip():
            raise InputError("type the path of an image, or of a folder with the slices of a DICOM series")
        found = self.folder.find(path)
        await self._show(session, found, self._name(found), place)
        self.transfers.forget(keep=session.source)

    async def _add_bundle(self, session: Session, path: str) -> None:
        if not path.strip():
            raise InputError("type the path of a bundle's folder, such as one written by training")
        await session.add_bundle(self.folder.find_folder(path))

    async def _uploaded(self, session: Session, batch: str, name: str, place: str) -> None:
        try:
            await self._show(session, self.transfers.image(batch), name, place)
        finally:
            self.transfers.forget(keep=session.source)  # if opening failed, the previous image is still there

    async def _show(self, session: Session, path: Path, name: str, place: str) -> None:
        if place not in PLACES:
            raise InputError(f"cannot open a file as {place!r}")
        await (session.open(path, name) if place == "image" else session.compare(path, name))

    def _suggest(self, start: str) -> None:
        self.state.suggestions = self.folder.suggest(start)
