"""One press of a button: what is being segmented, and how far it is."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .problem import Problem


@dataclass
class Job:
    """What was asked for.

    Args:
        volume: to segment.
        bundle: name of the bundle.
        title: of the bundle, for the names of nodes.
        device: as the worker names it.
        cpu_fallback: go on with the CPU when the memory of the graphics card is full.
        slices: first and last axial slice; None for all.
        target: segmentation to write into; None for a new one.
        items: volumes to segment one after the other: the volume itself, or the items of its sequence.
        preview: whether it is one slice for a look.
        scale: factor, or diameter of the field of view, of a fundus photograph; None to find it in the photograph.
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
    item: int = 0  # the one that is being segmented
    cancelling: bool = False
    warnings: list[str] = field(default_factory=list)  # of the worker, about what may make the result wrong
    started: float = field(default_factory=time.monotonic)
    first_progress: tuple[float, float] | None = None  # when, and the share that was done then

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
        """File with the item that is being segmented."""
        return self.folder / f"input-{self.item}.nrrd"

    def output(self, item: int) -> Path:
        """File with the result of an item."""
        return self.folder / f"output-{item}.seg.nrrd"

    def remaining(self, share: float) -> float | None:
        """Seconds that the job will still take, once some of it was done; None before.

        Args:
            share: of the job that is done, 0 to 1.
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
    """How a job ended.

    Args:
        state: ``done``, ``cancelled`` or ``failed``.
        message: a sentence.
        node: the segmentation, if it is done.
        preview: whether it was one slice for a look.
    """

    state: str
    message: str
    node: slicer.vtkMRMLSegmentationNode | None = None
    preview: bool = False
