"""One press of a button: the segmentation job and its progress."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .problem import Problem


@dataclass
class Job:
    """A segmentation job.

    Args:
        volume: The volume to segment.
        bundle: Name of the bundle.
        title: Title of the bundle, for the names of nodes.
        device: The worker's name for the device.
        cpu_fallback: Continue on the CPU when the memory of the graphics card is full.
        slices: First and last axial slice; None for all.
        target: Segmentation to write into; None for a new one.
        items: Volumes to segment one after the other: the volume itself, or the items of its sequence.
        preview: The job is a preview of one slice.
        scale: Factor, or diameter of the field of view, of a fundus photograph; None to find it in the photograph.
    """

    volume: slicer.vtkMRMLVolumeNode
    bundle: str
    title: str
    device: str
    cpu_fallback: bool
    slices: tuple[int, int] | None
    target: slicer.vtkMRMLSegmentationNode | None
    items: list[slicer.vtkMRMLVolumeNode]
    preview: bool = False
    scale: float | str | None = None

    folder: Path = field(init=False)
    item: int = 0  # the current one
    cancelling: bool = False
    warnings: list[str] = field(default_factory=list)  # from the worker, about possible errors in the result
    densities: list[dict[str, Any]] = field(default_factory=list)  # from the worker, of each finished item
    started: float = field(default_factory=time.monotonic)
    first_progress: tuple[float, float] | None = None  # time and finished share at the first progress

    def __post_init__(self) -> None:
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="R2UNet-", dir=slicer.app.temporaryPath))
        except OSError as error:
            raise Problem(
                _("Slicer's folder for temporary files, {folder}, cannot be written to: is the disk full?").format(
                    folder=slicer.app.temporaryPath
                )
            ) from error

    @property
    def input(self) -> Path:
        """File with the current item."""
        return self.folder / f"input-{self.item}.nrrd"

    def output(self, item: int) -> Path:
        """File with the result of an item."""
        return self.folder / f"output-{item}.seg.nrrd"

    def remaining(self, share: float) -> float | None:
        """Estimated seconds left, once a part of the job is done; None before.

        Args:
            share: Finished share of the job, 0 to 1.
        """
        now = time.monotonic()
        if self.first_progress is None:
            self.first_progress = (now, share)
            return None
        then, share_then = self.first_progress
        return None if share <= share_then else (now - then) / (share - share_then) * (1 - share)

    def clean_up(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Outcome:
    """The end of a job.

    Args:
        state: ``done``, ``cancelled`` or ``failed``.
        message: A sentence for the user.
        node: The segmentation, if the job is done.
        preview: The job was a preview of one slice.
    """

    state: str
    message: str
    node: slicer.vtkMRMLSegmentationNode | None = None
    preview: bool = False
