"""Slicer's scene and its four views, rendered here and sent to the page as pictures."""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Callable
from typing import Any

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and ctypes.util.find_library("EGL"):
    # VTK would try the missing X server first, and report it for each view.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from trame_rca.schedulers import RcaImageRenderScheduler
from trame_rca.utils import RcaViewAdapter
from trame_slicer.core import SlicerApp
from trame_slicer.rca_view.rca_view_factory import RcaRenderStrategy, RcaWindow
from trame_slicer.views import ScheduledRenderStrategy, SliceView, ThreeDView, ViewLayoutDefinition

from monai_r2unet.apps.viewer.segments import add_volume
from monai_r2unet.apps.viewer.windows import automatic_window

__all__ = ["SLICES", "Scene"]

# Slicer's names of the axial, coronal and sagittal view, and the RAS axis they are perpendicular to.
SLICES = {"Red": 2, "Green": 1, "Yellow": 0}
SOLID = "ThreeD"
PIXELS = 500_000  # of a view; larger ones render too slowly on a CPU, so the browser enlarges the picture
FRAMES = 30.0  # per second, at most
MOVING, STILL = 75, 92  # quality of the JPEG pictures
MARGIN = 1.15  # around the surface in the 3D view


class Scene:
    """One image, its masks, and the views of both.

    Create it and call all its methods within a running event loop.

    Args:
        server: The trame server.
        on_slices: Called when they change with a view's name, its slice index from 1, and the number of slices.
    """

    def __init__(self, server: Any, on_slices: Callable[[str, int, int], None]) -> None:
        vtk.vtkObject.GlobalWarningDisplayOff()  # warnings for VTK's developers
        self.app = SlicerApp()
        slicer.mrmlScene = self.app.scene
        self.volume: Any = None
        self.colour = False
        self.single: set[str] = set()  # views in which the image has a single slice
        self.nodes: dict[str, Any] = {}  # nodes shown over the image, by name
        self.on_slices = on_slices
        axial, coronal, sagittal = (
            ViewLayoutDefinition.axial_view(),
            ViewLayoutDefinition.coronal_view(),
            ViewLayoutDefinition.sagittal_view(),
        )
        self.views: dict[str, Any] = {}
        self.adapters: dict[str, Any] = {}
        for definition in (axial, coronal, sagittal, ViewLayoutDefinition.threed_view()):
            self._add_view(server, definition)
        # It searches the slices for models, of which there are none, and redraws all views whenever a slice rotates.
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.UnRegisterDisplayableManager("vtkMRMLModelSliceDisplayableManager")
        for name in SLICES:
            self.views[name].modified.connect(lambda *_, name=name: self._tell_slices(name))

    def _add_view(self, server: Any, definition: Any) -> None:
        name = definition.singleton_tag
        kind = ThreeDView if name == SOLID else SliceView
        view = kind(self.app.scene, self.app.app_logic, name, _NoRendering())
        view.set_view_properties(definition.properties)
        if name != SOLID:
            view.render_window().SetMultiSamples(0)  # takes most of a slice's time, and a picture has no edges
        window = _Window(view, server.state, f"{name}_cursor")
        scheduler = RcaImageRenderScheduler(
            window=window, target_fps=FRAMES, interactive_quality=MOVING, still_quality=STILL, rca_encoder="turbo-jpeg"
        )
        adapter = RcaViewAdapter(window, name, scheduler=scheduler, do_schedule_render_on_interaction=False)
        adapter.max_pixel_count = PIXELS
        view.set_scheduled_render(RcaRenderStrategy(scheduler))
        self.views[name], self.adapters[name] = view, adapter

    def register(self, server: Any) -> None:
        """Make the views available to the page, once the server is ready."""
        for adapter in self.adapters.values():
            server.controller.rc_area_register(adapter)

    # ---- the image ----

    def show_image(self, image: sitk.Image, name: str) -> tuple[float, float] | None:
        """Replace the displayed image; return the window of grey values used to display it."""
        self.clear()
        self.colour = image.GetNumberOfComponentsPerPixel() > 1
        self.volume = add_volume(self.app.scene, image, name)
        self.single = _views_of_one_slice(image)
        window = None if self.colour else automatic_window(image)
        if window is not None:
            self.set_window(*window)
        for view in self.views.values():
            view.set_render_blocked(True)
        for name in SLICES:
            self.views[name].set_background_volume_id(self.volume.GetID())
        for view in self.views.values():
            view.reset_view()
        for name in SLICES:
            first, last, step = self._range(name)
            self.views[name].set_slice_value(first + step * (round((last - first) / step) // 2))
            self._tell_slices(name)
        for view in self.views.values():
            view.set_render_blocked(False)
        return window

    def clear(self) -> None:
        """Remove the image and everything over it."""
        for name in list(self.nodes):
            self.replace(name, None)
        if self.volume is not None:
            for name in SLICES:
                self.views[name].set_background_volume_id(None)
            self.app.scene.RemoveNode(self.volume)
            self.volume = None

    def set_window(self, width: float, centre: float) -> None:
        """Set the window of grey values, in the image's own units (HU in CT)."""
        if self.volume is not None and not self.colour:
            display = self.volume.GetDisplayNode()
            display.SetAutoWindowLevel(0)
            display.SetWindowLevel(max(width, 1e-6), centre)
            for name in SLICES:  # they do not redraw by themselves
                self.views[name].schedule_render()

    # ---- slices ----

    def _range(self, name: str) -> tuple[float, float, float]:
        """Positions of the first and the last slice, and the step between them, in mm."""
        view = self.views[name]
        first, last = view.get_slice_range()
        if name in self.single:  # Slicer adds a slice on either side
            first = last = (first + last) / 2
        return first, last, view.get_slice_step()

    def go_to(self, name: str, index: int) -> None:
        """Show a slice, counted from 1; numbers beyond the ends show the last slice there."""
        first, last, step = self._range(name)
        count = round((last - first) / step) + 1
        self.views[name].set_slice_value(first + step * (min(max(index, 1), count) - 1))

    def _tell_slices(self, name: str) -> None:
        if self.volume is not None:
            first, last, step = self._range(name)
            index = round((self.views[name].get_slice_value() - first) / step) + 1
            self.on_slices(name, index, round((last - first) / step) + 1)

    # ---- nodes over the image ----

    def replace(self, name: str, node: Any) -> None:
        """Replace the node with this name; None removes it."""
        before = self.nodes.pop(name, None)
        if before is not None:
            self.app.scene.RemoveNode(before)
        if node is not None:
            self.nodes[name] = node

    def show(self, name: str, flat: bool, solid: bool, opacity: float = 1.0) -> None:
        """Set where a node is visible: in the slices, as a surface, and its opacity, 0 to 1."""
        node = self.nodes.get(name)
        if node is not None:
            display = node.GetDisplayNode()
            display.SetVisibility2D(flat)
            display.SetVisibility3D(solid)
            display.SetOpacity2DFill(opacity)
            display.SetOpacity2DOutline(min(1.0, 2 * opacity))

    def look_at_surface(self) -> None:
        """Point the 3D view at its content, and fill the view with it."""
        view = self.views[SOLID]
        view.reset_view()
        bounds = [0.0] * 6
        view.renderer().ComputeVisiblePropBounds(bounds)
        if bounds[0] <= bounds[1]:  # otherwise the view is empty
            wide, deep, high = (bounds[2 * axis + 1] - bounds[2 * axis] for axis in range(3))
            camera, (columns, rows) = view.get_camera_node(), view.render_window().GetSize()
            reach = (
                max(high, wide * rows / max(columns, 1)) / 2 * MARGIN / np.tan(np.radians(camera.GetViewAngle() / 2))
            )
            x, y, z = camera.GetFocalPoint()
            camera.SetPosition(x, y + deep / 2 + reach, z)  # from the front
            camera.ResetClippingRange()

    def fit(self) -> None:
        """Fit the image into all views again."""
        for name in SLICES:
            before = self.views[name].get_slice_value()
            self.views[name].reset_view()
            self.views[name].set_slice_value(before)
        self.look_at_surface()


def _views_of_one_slice(image: sitk.Image) -> set[str]:
    dimension = image.GetDimension()
    directions = np.eye(3)
    directions[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
    size = (*image.GetSize(), 1)  # a picture lacks the third one
    return {name for name, axis in SLICES.items() if size[int(np.abs(directions[axis]).argmax())] == 1}


class _NoRendering(ScheduledRenderStrategy):
    """For a view that is not visible yet; by default each step of its creation would be rendered."""

    def schedule_render(self) -> None:
        pass


class _Window(RcaWindow):
    """Fits the image into a slice view when its size changes."""

    def __init__(self, view: Any, state: Any, cursor: str) -> None:
        super().__init__(view.render_window(), state, cursor)
        self.view = view

    def process_resize_event(self, width: int, height: int) -> None:
        super().process_resize_event(width, height)
        if isinstance(self.view, SliceView):
            before = self.view.get_slice_value()
            self.view.fit_view_to_content()
            self.view.set_slice_value(before)
