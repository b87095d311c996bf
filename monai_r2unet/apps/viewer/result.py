"""A segmentation while it runs, and its result: voxels, their meaning and size, and the files it can be saved as."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from monai_r2unet.apps.viewer.segments import Segment, label_array
from monai_r2unet.apps.viewer.texts import describe_size
from monai_r2unet.errors import InputError
from monai_r2unet.images.itk_paths import itk_path
from monai_r2unet.images.writing import write_image

__all__ = ["ActiveSegmentation", "Result"]

LONGEST_STEM = 50  # characters of the image's name in those of downloads, which have room for 255 bytes


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


@dataclass(frozen=True)
class Result:
    """The worker's result for an image.

    Args:
        output: File written by the worker.
        image: The segmented image.
        labels: Voxels of the mask, (K, J, I).
        segments: Meaning of their values.
        stem: Stem of the file names.
    """

    output: Path
    image: sitk.Image
    labels: npt.NDArray[np.uint8]
    segments: list[Segment]
    stem: str

    @classmethod
    def read(cls, output: Path, image: sitk.Image, bundle: dict[str, Any], name: str) -> Result:
        """Read the worker's result.

        Args:
            output: File written by the worker.
            image: The segmented image.
            bundle: The worker's description of the bundle.
            name: Displayed name of the image.
        """
        segments = [Segment(one["value"], one["name"], tuple(one["colour"])) for one in bundle["labels"]]
        stem = Path(name.rstrip("/")).name.split(".")[0]
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem[:LONGEST_STEM]) or "image"
        with itk_path(output) as written:
            labels = label_array(sitk.ReadImage(written))
        return cls(output, image, labels, segments, f"{stem}_{Path(bundle['name']).name}")

    @property
    def downloads(self) -> list[str]:
        """Names of the files that can be downloaded."""
        endings = [".png", ".nii.gz"] if self.image.GetDimension() == 2 else [".seg.nrrd", ".nii.gz"]
        return [f"{self.stem}{ending}" for ending in endings]

    def sizes(self, millilitres: float | None, voxels: int) -> list[dict[str, str]]:
        """Displayed name, colour and size of each segment.

        Args:
            millilitres: Total volume as reported by the worker; None for a picture.
            voxels: Total number of voxels.
        """
        found = []
        for one in self.segments:
            count = int((self.labels == one.value).sum())
            size = describe_size(count, None if millilitres is None else millilitres * count / max(voxels, 1))
            found.append({"name": one.name, "colour": f"rgb{one.colour}", "size": size})
        return found

    def file(self, name: str, home: Path) -> Path:
        """The mask as one of the files in `downloads`.

        Args:
            name: File name; its ending selects the format.
            home: Folder in which the file is kept.

        Raises:
            InputError: if the mask cannot be saved as this file.
        """
        if name not in self.downloads:
            raise InputError("there is no such result: segment an image first")
        folder = home / f"{self.output.name.split('.')[0]}-downloads"
        folder.mkdir(exist_ok=True)
        path = folder / name
        if path.is_file():
            return path
        if self.output.name.endswith(path.suffix):
            path.symlink_to(self.output)
        else:
            mask = sitk.GetImageFromArray(self.labels if self.image.GetDimension() == 3 else self.labels[0])
            mask.CopyInformation(self.image)
            write_image(mask, path)
        return path
