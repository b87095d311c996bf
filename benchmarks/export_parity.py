"""Count the voxels in which the masks of exported networks differ from torch's, on a complete chest CT.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.export_parity

Segments patient 007 of LCTSC, a DICOM series of 512x512 pixels, with the shipped lung weights and each engine, always
in float32 on the CPU, and writes `benchmarks/results/export_parity.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks import measure, volumes
from benchmarks.records import RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.bundle import find_bundle
from monai_r2unet.files import sha256, write_json
from monai_r2unet.images.reading import read_image

RESULT = RESULTS / "export_parity.json"
ENGINES = ("torch", "onnxruntime", "torchscript")


def count(image: sitk.Image) -> dict[str, Any]:
    """Differing voxels of each engine's mask, and its seconds, including its construction."""
    masks, seconds = {}, {}
    for engine in ENGINES:
        started = time.perf_counter()
        mask = Segmenter("lung", "cpu", float32=True, engine=engine).run(image).mask
        masks[engine] = sitk.GetArrayFromImage(mask)
        seconds[engine] = time.perf_counter() - started
    eager = masks.pop("torch")
    return {
        "voxels": eager.size,
        "lung_voxels": int(np.count_nonzero(eager)),
        "differing_voxels": {engine: int(np.count_nonzero(mask != eager)) for engine, mask in masks.items()},
        "seconds": seconds,
    }


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="two slices of the embedded sample, as a trial")
    parser.add_argument("--result", type=Path, default=RESULT, help="file to write")
    options = parser.parse_args()
    if options.tiny and options.result == RESULT:
        parser.error("figures of a trial are not kept: name another --result")
    with tempfile.TemporaryDirectory() as folder:
        path = volumes.series(Path(folder), tiny=options.tiny)[0]
        image = read_image(path)
    counted = count(image)
    result = {
        "command": "python -m benchmarks.export_parity",
        "image": path.name,
        "values_sha256": hashlib.sha256(sitk.GetArrayViewFromImage(image)).hexdigest(),
        "size": list(image.GetSize()),
        "bundle": "lung",
        "weights_sha256": sha256(find_bundle("lung").weights),
        "precision": "float32",
        **counted,
        **measure.machine(),
    }
    options.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(result, options.result)
    print(f"differing voxels of {counted['voxels']}: {counted['differing_voxels']}")


if __name__ == "__main__":
    main()
