"""The user's actions in the viewer: open an image, segment it, view, compare and save the result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from monai_r2unet.apps.viewer import texts
from monai_r2unet.apps.viewer.catalogue import Catalogue
from monai_r2unet.apps.viewer.comparison import compare
from monai_r2unet.apps.viewer.result import ActiveSegmentation, Result
from monai_r2unet.apps.viewer.scene import Scene
from monai_r2unet.apps.viewer.segments import add_segmentation, add_surface
from monai_r2unet.apps.viewer.windows import automatic_window
from monai_r2unet.apps.viewer.worker_client import WorkerClient
from monai_r2unet.errors import InputError, sentence_of
from monai_r2unet.images.reading import read_image_with_notes

__all__ = ["Session"]


class Session:
    """Connects scene, worker and page, all in one event loop.

    Args:
        state: The trame state, shared with the page.
        scene: The scene that shows images and masks.
        home: Folder for results.
        command: Command that starts the worker.
        added: Folders of bundles that are not shipped, and whether the user trusts the author of each.
    """

    def __init__(
        self, state: Any, scene: Scene, home: Path, command: Sequence[str], added: Mapping[Path, bool] | None = None
    ) -> None:
        self.state = state
        self.scene = scene
        self.home = home
        self.worker = WorkerClient(command, self._take_event, self._worker_gone)
        self.source: Path | None = None
        self.image: sitk.Image | None = None
        self.catalogue = Catalogue(self.worker.send, added or {})
        self.active: ActiveSegmentation | None = None
        self.result: Result | None = None
        self.jobs = 0
        self.busy = asyncio.Lock()  # one thing is opened at a time
        self.tasks: set[asyncio.Task[None]] = set()

    def tell(self, **values: Any) -> None:
        """Change the page's state and send it at once."""
        self.state.update(values)
        self.state.flush()

    def complain(self, error: Exception | str, kind: str = "error") -> None:
        """Show a message in the page."""
        text = error if isinstance(error, str) else sentence_of(error)
        self.tell(message={"kind": kind, "text": texts.readable(text)})

    # ---- images ----

    async def open(self, path: Path, name: str, reading: Awaitable[Any] | None = None) -> None:
        """Read an image and show it.

        Args:
            path: File or folder that may be read.
            name: Displayed name.
            reading: Pending result of a read already begun: the image and its reader's notes.
        """
        if self.active is not None:
            self.complain("The segmentation is still running: cancel it before you open another image.")
            return
        async with self.busy:
            self.tell(opening=name, message=None)
            try:
                image, notes = await (reading or asyncio.to_thread(read_image_with_notes, path))
                self.source, self.image, self.result = path, image, None
                window = self.scene.show_image(image, name)
            except Exception as error:
                self.complain(error)
                return
            finally:
                self.tell(opening="")
            described = {"name": name, "size": texts.describe_image(image), "picture": image.GetDimension() == 2}
            self.tell(
                image={**described, "grey": not self.scene.colour, "flat": "Red" in self.scene.single},
                scale="",
                result=None,
                reference=None,
                message={"kind": "warning", "text": texts.readable(" ".join(notes))} if notes else None,
            )
            if window is not None:
                self._tell_window(*window)
            self._choose_bundle()

    def set_window(self, width: float, centre: float) -> None:
        """Set the window of grey values."""
        self.scene.set_window(float(width), float(centre))
        self._tell_window(width, centre)

    def _tell_window(self, width: float, centre: float) -> None:
        self.tell(window=float(f"{float(width):.4g}"), level=float(f"{float(centre):.4g}"))

    def automatic_window(self) -> None:
        """Set the window to the values of most voxels."""
        if self.image is not None and not self.scene.colour:
            self.set_window(*automatic_window(self.image))

    # ---- the worker ----

    async def start_worker(self) -> None:
        """Start the worker, whose imports take seconds, before it is needed."""
        await self.worker.start()

    async def close(self) -> None:
        """Stop the worker."""
        await self.worker.stop()

    def choose_bundle(self, name: str) -> None:
        """Select the bundle."""
        bundle = self.catalogue.bundles.get(name)
        if bundle is not None:
            self.tell(bundle=name, card=texts.bundle_card(bundle), problem=texts.bundle_problem(bundle))
            self.tell(scaled=_goes_by_field_of_view(bundle))

    async def add_bundle(self, folder: Path) -> None:
        """Add the bundle in a folder, unless it must be trusted, which only the command line can allow."""
        await self.worker.start()
        self.catalogue.ask(str(folder), chosen=True)

    def _tell_bundles(self) -> None:
        bundles = self.catalogue.bundles.items()
        self.tell(bundles=[{"name": name, "title": texts.bundle_title(bundle)} for name, bundle in bundles])

    def choose_device(self, name: str) -> None:
        """Select the device."""
        if name in [device["id"] for device in self.state.devices]:
            self.tell(device=name)

    def choose_scale(self, scale: str) -> None:
        """Select the photograph's scale: a factor, the diameter of its field of view ("1400px"), or automatic."""
        self.tell(scale=str(scale).strip())

    def _choose_bundle(self) -> None:
        """Select a usable bundle for the kind of image that is open."""
        if not self.catalogue.bundles:
            return
        colours = self.image is not None and self.image.GetNumberOfComponentsPerPixel()
        fitting = [b for b in self.catalogue.bundles.values() if not colours or b["channels"] == colours]
        usable = [b for b in fitting if b["weights"] == "present"]
        if self.state.bundle not in [b["name"] for b in usable or fitting]:
            self.choose_bundle((usable or fitting or list(self.catalogue.bundles.values()))[0]["name"])

    async def segment(self) -> None:
        """Have the worker segment the image."""
        bundle = self.catalogue.bundles.get(self.state.bundle)
        if self.active is not None or self.source is None or self.image is None or bundle is None:
            return
        self.jobs += 1
        ending = ".png" if self.image.GetDimension() == 2 else ".seg.nrrd"
        self.active = ActiveSegmentation(self.jobs, bundle, self.image, self.home / f"mask-{self.jobs}{ending}")
        self.tell(running=True, done=0, total=0, progress="Starting", message=None)
        await self.worker.start()
        self.worker.send(
            "run",
            job=self.active.job,
            bundle=bundle["name"],
            input=str(self.source),
            output=str(self.active.output),
            device=self.state.device,
            **({"trust_bundle": True} if self.catalogue.is_trusted(bundle["name"]) else {}),
            **({"scale": self.state.scale} if self.state.scale and _goes_by_field_of_view(bundle) else {}),
        )

    def cancel(self) -> None:
        """Cancel the running segmentation."""
        if self.active is not None:
            self.worker.send("cancel")

    def _take_event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready":
            self.catalogue.begin(event["bundles"])
            self._tell_bundles()
            self._choose_bundle()
        elif kind == "devices":
            found = [{"id": device["id"], "name": texts.describe_device(device)} for device in event["devices"]]
            self.tell(devices=[{"id": "auto", "name": "Automatic"}, *found])
        elif self.catalogue.answers(event):
            self._take_bundle(event)
        elif self.active is None or event["job"] != self.active.job:
            if kind == "log" and event["level"] == "warning":
                self.complain(event["message"], "warning")
        elif kind == "progress":
            self._tell_progress(self.active, event["done"], event["total"])
        elif kind == "log" and event["level"] == "warning":
            self.active.warnings.append(event["message"])
        elif kind in ("done", "cancelled", "error"):
            self._end(self.active, event)

    def _take_bundle(self, event: dict[str, Any]) -> None:
        try:
            chosen = self.catalogue.take(event)
        except InputError as error:
            self.complain(error)
            return
        self._tell_bundles()
        if chosen is None:
            self._choose_bundle()
        else:
            self.choose_bundle(chosen)

    def _tell_progress(self, active: ActiveSegmentation, done: int, total: int) -> None:
        now, remaining = time.monotonic(), None
        if active.first is None:
            active.first = (now, done)
        elif done > active.first[1]:
            remaining = (now - active.first[0]) / (done - active.first[1]) * (total - done)
        self.tell(
            done=done, total=total, progress=texts.describe_progress(done, total, now - active.started, remaining)
        )

    def _end(self, active: ActiveSegmentation, event: dict[str, Any]) -> None:
        self.active = None
        self.tell(running=False, progress="", done=0, total=0)
        if event["event"] == "cancelled":
            self.complain("Cancelled.", "info")
        elif event["event"] == "error":
            self.complain(event["message"])
        else:
            self._start(self._show_result(active, event))

    def _worker_gone(self, last: str) -> None:
        self.active = None
        told = f" Its last output: {last[-500:]}" if last else ""
        self.tell(running=False, progress="")
        self.complain(f"The process that segments has ended: press Segment to start it again.{told}")

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # ---- results ----

    async def _show_result(self, active: ActiveSegmentation, event: dict[str, Any]) -> None:
        async with self.busy:
            if self.image is not active.image:  # another image has been opened meanwhile
                return
            name = str(self.state.image["name"])
            result = await asyncio.to_thread(Result.read, active.output, active.image, active.bundle, name)
            self._show(active, result, event)
            self.show_overlays()
            await asyncio.sleep(0.1)  # let the slices be drawn: the surface takes longer
            if event["voxels"] and not self.state.image["flat"]:
                shown = (result.labels, result.image, result.segments)
                self.scene.replace("surface", add_surface(self.scene.app.scene, *shown, "surface"))
                self.show_overlays()
                self.scene.look_at_surface()

    def _show(self, active: ActiveSegmentation, result: Result, event: dict[str, Any]) -> None:
        self.result = result
        self.scene.replace("errors", None)
        self.scene.replace("surface", None)
        self.scene.replace(
            "mask", add_segmentation(self.scene.app.scene, result.labels, result.image, result.segments, "mask")
        )
        empty = [] if event["voxels"] else ["Nothing was found. Is this the kind of image that the bundle is made for?"]
        told = [*active.warnings, *empty]
        self.tell(
            result={
                "segments": result.sizes(event["millilitres"], event["voxels"]),
                "densities": texts.describe_densities(event.get("densitometry", {})),
                "downloads": result.downloads,
                "seconds": f"{time.monotonic() - active.started:.0f}",
            },
            reference=None,
            message={"kind": "warning", "text": texts.readable(" ".join(told))} if told else None,
        )

    def show_overlays(self) -> None:
        """Show or hide the overlays, according to the page's switches."""
        state, opacity = self.state, min(max(float(self.state.opacity), 0), 100) / 100
        errors = bool(state.reference and state.errors_shown)
        self.scene.show("mask", flat=bool(state.mask_shown and not errors), solid=False, opacity=opacity)
        self.scene.show("errors", flat=bool(state.mask_shown and errors), solid=False, opacity=opacity)
        self.scene.show("surface", flat=False, solid=bool(state.surface_shown))

    def download(self, name: str) -> Path:
        """The result as a file with this name.

        Raises:
            InputError: if there is no such result.
        """
        if self.result is None:
            raise InputError("there is no result yet: segment an image first")
        return self.result.file(name, self.home)

    async def compare(self, path: Path, name: str) -> None:
        """Compare the result with a reference mask."""
        if self.result is None or self.image is None:
            self.complain("Segment the image first, then compare the result with a reference.")
            return
        async with self.busy:
            self.tell(comparing=True, message=None)
            try:
                node, measures, colours = await compare(
                    self.scene.app.scene, self.result.output, self.result.labels, self.image, path, self.home
                )
                self.scene.replace("errors", node)
                self.tell(reference={"name": name, "measures": measures, "colours": colours}, errors_shown=True)
                self.show_overlays()
            except Exception as error:
                self.complain(error)
            finally:
                self.tell(comparing=False)


def _goes_by_field_of_view(bundle: dict[str, Any]) -> bool:
    return "fov_diameter_px" in bundle["scale"]
