"""The real images on which speed is measured."""

from __future__ import annotations

import os
from pathlib import Path

import SimpleITK as sitk
import torch

from monai_r2unet.bundle import find_bundle
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import write_image

SAMPLE = "LCTSC_008.nii.gz"


def sample_slices(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Axial slices from the middle of a volume of the lung bundle's sample, as input for the network.

    Args:
        count: Number of slices.
        side: Side of the images in pixels; divides 256.

    Returns:
        Images from 0 to 1 and masks 0 or 1, both float32, (count, 1, side, side).
    """
    found = []
    for kind in ("images", "labels"):
        volume = sitk.GetArrayFromImage(read_image(find_bundle("lung").root / "sample" / kind / SAMPLE))
        start = (len(volume) - count) // 2
        step = volume.shape[-1] // side
        found.append(torch.from_numpy(volume[start : start + count, None, ::step, ::step]).float())
    images, masks = found
    return ((images + 1000) / 1400).clamp(0, 1), masks


def series(folder: Path, *, tiny: bool) -> tuple[Path, Path]:
    """Paths of a chest CT and of its manual lung mask: a DICOM series, 512x512x131, and NIfTI.

    Args:
        folder: Folder for files that have to be created.
        tiny: Use two slices of the bundle's sample instead, as NIfTI.

    Raises:
        SystemExit: if MONAI_R2UNET_DATA does not name the folder with the public data.
    """
    if not tiny:
        data = os.environ.get("MONAI_R2UNET_DATA")
        if not data:
            raise SystemExit("set MONAI_R2UNET_DATA to the folder with the public data (benchmarks/README.md)")
        return Path(data) / "volumes" / "LCTSC_007_dicom", Path(data) / "volumes" / "LCTSC_007_lung.nii.gz"
    sample = find_bundle("lung").root / "sample"
    for kind in ("images", "labels"):
        write_image(read_image(sample / kind / SAMPLE)[:, :, 8:10], folder / f"{kind}.nii.gz", overwrite=True)
    return folder / "images.nii.gz", folder / "labels.nii.gz"


def stack(volume: sitk.Image, count: int, path: Path) -> Path:
    """Write a volume of ``count`` slices as NIfTI: those of ``volume``, repeated from the first as often as needed."""
    slices = [volume[:, :, k % volume.GetDepth()] for k in range(count)]
    stacked = sitk.JoinSeries(slices)
    stacked.SetSpacing(volume.GetSpacing())
    stacked.SetDirection(volume.GetDirection())
    stacked.SetOrigin(volume.GetOrigin())
    write_image(stacked, path, overwrite=True)
    return path
