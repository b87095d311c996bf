"""Peak resident memory of `monai-r2unet segment` as a process, file to file, for increasingly large volumes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import measure, volumes
from monai_r2unet.images.reading import read_image


def measure_speed(*, tiny: bool) -> dict[str, Any]:
    """One process for each number of slices, NIfTI to NIfTI."""
    counts = (1, 2) if tiny else (100, 300, 600)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = read_image(volumes.series(folder, tiny=tiny)[0])
        runs = []
        for count in counts:
            path = volumes.stack(image, count, folder / "volume.nii.gz")
            runs.append({"slices": count, **measure.segment(path, folder / "mask.nii.gz", folder / "report.json")})
    return {"in_plane": list(image.GetSize()[:2]), "pixel_type": image.GetPixelIDTypeAsString(), "runs": runs}
