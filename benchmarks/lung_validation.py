"""Compare candidate lung weights on the validation images, to choose among them.

    python -m benchmarks.lung_validation lung_data second/model.pt third/model.pt model.pt

Adds to `benchmarks/results/lung_validation.json` each file's Dice, pooled over the validation volumes of LCTSC
and over the single slices of the paper's lung set, on their own grids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import SimpleITK as sitk

from benchmarks.records import RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.datasets import load_datalist
from monai_r2unet.files import sha256, write_json
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import ConfusionCounts, confusion
from monai_r2unet.provenance import versions

RESULT = RESULTS / "lung_validation.json"


def main() -> None:
    """Measure each weights file and add it to the result file."""
    folder, *candidates = sys.argv[1:]
    known = {found["sha256"]: found for found in json.loads(RESULT.read_text())["candidates"]}
    for weights in candidates:
        segment = Segmenter("lung", device="cpu", weights=weights)
        counts = {"volumes": ConfusionCounts(), "slices": ConfusionCounts()}
        for entry in load_datalist(folder, "validation"):
            image, label = read_image(entry["image"]), read_image(entry["label"])
            kind = "slices" if image.GetDepth() == 1 else "volumes"
            counts[kind] += confusion(sitk.GetArrayFromImage(segment(image)), sitk.GetArrayFromImage(label))
        name = "/".join(Path(weights).parts[-2:])
        dice = {kind: counted.dice for kind, counted in counts.items()}
        found = {"weights": name, "sha256": sha256(weights), **dice, "versions": versions()}
        known[found["sha256"]] = found
        print(name, dice)
    write_json({"measure": "Dice, pooled", "candidates": list(known.values())}, RESULT)


if __name__ == "__main__":
    main()
