"""Comparison of the result with a reference mask: the differences, and the measures from the verb ``evaluate``."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from monai_r2unet.apps.viewer.segments import Segment, add_segmentation
from monai_r2unet.errors import InputError
from monai_r2unet.images.agreement import AGREEMENT, agreement_areas
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image

__all__ = ["compare"]

MEASURES = {"dice": "Dice", "jaccard": "Jaccard", "sensitivity": "Sensitivity", "precision": "Precision"}


async def compare(
    scene: Any, mask: Path, labels: npt.NDArray[np.uint8], image: sitk.Image, reference: Path, home: Path
) -> tuple[Any, list[dict[str, str]], list[dict[str, str]]]:
    """Compare a mask with a reference.

    Args:
        scene: The MRML scene.
        mask: File with the result.
        labels: Voxels of the result, (K, J, I).
        image: The segmented image.
        reference: File with a mask on the same grid; several labels must have the same values as in the result. A
            single one, 1 or 255, is compared with all labels of the result together.
        home: Folder for temporary files.

    Returns:
        A segmentation node with true positives, false positives and false negatives; the measures, ``name`` and
        ``value``; the legend of the colours, ``name`` and ``colour``.

    Raises:
        InputError: if the reference cannot be read, or lies on another grid.
    """
    truth = await asyncio.to_thread(read_image, reference)
    if not same_grid(truth, image):
        raise InputError(f"the reference {reference.name} is not on the grid of the image: give a mask of this image")
    if truth.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"the reference {reference.name} is in colour, expected a mask with one value per pixel")
    positive: npt.NDArray[Any] = sitk.GetArrayFromImage(truth).reshape(labels.shape)
    found: npt.NDArray[Any] = labels
    # A single label may have another value in the reference, and a reference for both lungs knows no sides.
    values = set(np.unique(positive).tolist())
    as_one = values <= {0, 1} or values <= {0, 255}
    measured = await _measure(mask, reference, home, as_one)
    if as_one:
        positive, found = positive > 0, found > 0
    agreement = np.zeros(labels.shape, np.uint8)
    for value, area in enumerate(agreement_areas(found, positive), 1):
        agreement[area] = value
    segments = [Segment(value, name, colour) for value, (name, colour) in enumerate(AGREEMENT.items(), 1)]
    node = add_segmentation(scene, agreement, image, segments, "errors")
    colours = [{"name": one.name, "colour": f"rgb{one.colour}"} for one in segments]
    return node, measured, colours


async def _measure(mask: Path, reference: Path, home: Path, as_one: bool) -> list[dict[str, str]]:
    """Measure with ``monai-r2unet evaluate``, in a separate process because it imports torch."""
    report = home / "evaluation.json"
    command = ["-m", "monai_r2unet", "evaluate", str(mask), str(reference), "--json", str(report), "--overwrite"]
    command += ["--foreground"] if as_one else []
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    _, errors = await process.communicate()
    if process.returncode != 0:
        lines = errors.decode("utf-8", "replace").strip().splitlines() or ["the comparison failed"]
        raise InputError(lines[-1].removeprefix("error: "))
    content = json.loads(report.read_text(encoding="utf-8"))
    pooled = content.get("mean", content)["pooled"]  # of several labels, the mean
    return [
        {"name": title, "value": "undefined" if pooled[name] is None else f"{pooled[name]:.4f}"}
        for name, title in MEASURES.items()
    ]
