"""A segmentation that is running in the worker, as the viewer follows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk

__all__ = ["ActiveSegmentation"]


@dataclass
class ActiveSegmentation:
    """A running segmentation.

    Args:
        job: Number of the job.
        bundle: The worker's description of the bundle.
        image: The image being segmented.
        output: The file that the worker writes.
    """

    job: int
    bundle: dict[str, Any]
    image: sitk.Image
    output: Path
    started: float = field(default_factory=time.monotonic)
    first: tuple[float, int] | None = None  # time when the first slices were done, and their number
    warnings: list[str] = field(default_factory=list)
