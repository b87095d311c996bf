"""Measure the retina bundles on photographs of other cameras and other sizes, with and without the bundle's scale.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.scale_retina

Writes `benchmarks/results/scale_retina.json`, with F1 pooled inside the field of view at each bundle's own threshold:

- `across`: every bundle on the test photographs of the other data sets (all of STARE, which has no test photographs);
- `zoomed`: the first test photographs of the bundle's own data set unchanged, enlarged two, three and four times and
  halved. Mask and reference are compared on the coarser of their two grids, to which the finer one is reduced by
  majority: a reference that is enlarged gets stairs, which no smooth mask can follow.

Existing results of the same weights are kept and not measured again, so a run that was interrupted can be resumed.

Each bundle on its own data set at its own size is not measured again: its photographs are within the tolerance of the
scale, so nothing is resized (`tests/inference/test_scale.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image

from monai_r2unet import Segmenter
from monai_r2unet.datasets import load_datalist
from monai_r2unet.files import write_json
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import ConfusionCounts, confusion
from monai_r2unet.provenance import versions

RESULT = Path(__file__).parent / "results" / "scale_retina.json"
BUNDLES = ("drive", "chase_db1", "stare")
PAIRS = [
    ("drive", "chase_db1"),
    ("chase_db1", "drive"),
    ("stare", "drive"),
    ("stare", "chase_db1"),
    ("drive", "stare"),
    ("chase_db1", "stare"),
]
ZOOMS = (1, 2, 3, 4, 0.5)
ZOOMED = {"drive": 5, "chase_db1": 2, "stare": 2}  # photographs; a mirrored pass takes half a minute

Pixels = npt.NDArray[Any]


def pixels(path: str) -> Pixels:
    """A photograph (rows, columns, 3) or a mask (rows, columns)."""
    return sitk.GetArrayFromImage(read_image(path))


def resized(image: Pixels, factor: float) -> Pixels:
    """Enlarge or reduce a photograph smoothly."""
    if factor == 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def reduced(mask: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Reduce a mask to ``shape`` by majority."""
    if mask.shape == shape:
        return mask > 0
    grey = Image.fromarray((255 * (mask > 0)).astype(np.uint8))
    return np.asarray(grey.resize(shape[::-1], Image.Resampling.BOX)) > 127


def measure(segment: Segmenter, entries: list[dict[str, str]], factor: float = 1) -> dict[str, Any]:
    """F1, pooled and for the worst photograph."""
    pooled, worst = ConfusionCounts(), (2.0, "")
    for entry in entries:
        image, reference, fov = (pixels(entry[key]) for key in ("image", "label", "fov"))
        mask = segment(resized(image, factor))
        grid = min(mask.shape, reference.shape)
        counted = confusion(reduced(mask, grid), reduced(reference, grid), reduced(fov, grid))
        pooled += counted
        worst = min(worst, (counted.dice, Path(entry["image"]).stem))
    return {"photographs": len(entries), "f1": round(pooled.dice, 4), "worst_f1": round(worst[0], 4), "worst": worst[1]}


def main() -> None:
    """Measure all pairs and sizes; the result file is rewritten after each."""
    data = Path(os.environ["MONAI_R2UNET_DATA"])
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result = {
        "command": "python -m benchmarks.scale_retina",
        "measure": "F1 pooled inside the field of view, at the bundle's threshold",
        "device": "cpu",
        "versions": versions(),
        "weights_sha256": result.get("weights_sha256", {}),
        "zoomed": result.get("zoomed", {}),
        "across": result.get("across", {}),
    }
    segmenters = {name: Segmenter(name, "cpu") for name in BUNDLES}
    for name, segment in segmenters.items():
        if result["weights_sha256"].get(name, segment.weights_sha256) != segment.weights_sha256:
            raise SystemExit(f"{RESULT} has results of other weights of {name}: remove it")
        result["weights_sha256"][name] = segment.weights_sha256
    with tempfile.TemporaryDirectory() as folder:
        entries: dict[str, list[dict[str, str]]] = {}
        for name in BUNDLES:
            prepare = ["-m", "monai_r2unet", "prepare", name, str(data / name), f"{folder}/{name}"]
            subprocess.run([sys.executable, *prepare], check=True, stdout=subprocess.DEVNULL)
            splits = ("training", "validation", "test") if name == "stare" else ("test",)
            entries[name] = [entry for split in splits for entry in load_datalist(f"{folder}/{name}", split)]
        for name, count in ZOOMED.items():
            zoomed = result["zoomed"].setdefault(name, {})
            for factor in ZOOMS:
                if f"{factor:g}" not in zoomed:
                    zoomed[f"{factor:g}"] = measure(segmenters[name], entries[name][:count], factor)
                    write_json(result, RESULT)
            print(name, json.dumps(zoomed), flush=True)
        for name, other in PAIRS:
            inferer, found = segmenters[name].inferer, result["across"].setdefault(f"{name} on {other}", {})
            diameter = inferer.fov_diameter
            for measured, wanted in (("at_their_own_pixels", None), ("at_the_bundle_s_scale", diameter)):
                if measured not in found:
                    inferer.fov_diameter = wanted
                    found[measured] = measure(segmenters[name], entries[other])
                    write_json(result, RESULT)
            inferer.fov_diameter = diameter
            print(f"{name} on {other}", json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
