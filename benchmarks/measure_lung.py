"""Measure the shipped lung weights, once, on data they were not trained on.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.measure_lung

Runs `monai-r2unet segment` and `evaluate` as a user would and writes `benchmarks/results/lung_test.json`:

- the test patients 007 (512x512 DICOM series) and 008 of LCTSC, against the manual masks at their own resolution: Dice,
  normalised surface Dice at 2 mm (Nikolov et al. 2021), 95 % Hausdorff distance in mm, the Dice of the worst slice with
  more than 1 cm2 of lung, and the islands: pieces of each lung (26-connected) beside its largest. The Dice of the right
  and the left lung is that with the manual mask, whose sides are separated in the same way (`images.sides`);
- the 79 test slices of the paper's lung set, pooled and per slice;
- the two COVID patients of `covid20` that validated the weights, in the scale of `benchmarks.lung_data`: Dice of each
  and islands;
- an abdominal CT of another scanner that shows only the bases of the lungs: the fraction of the body outside the lungs
  that was segmented as lung. There is no reference mask: the lungs are the pieces of aerated tissue (below -400 HU)
  inside the body that reach the top of the volume and its posterior half; lung voxels more than 6 mm away are wrong.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from benchmarks.lung_data import covid20
from benchmarks.records import RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.bundle import find_bundle
from monai_r2unet.files import write_json
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.sides import split_sides
from monai_r2unet.metrics import confusion, evaluate_case, summarize
from monai_r2unet.provenance import versions

RESULT = RESULTS / "lung_test.json"


def command(*arguments: str) -> None:
    """Run `monai-r2unet` and stop at the first failure."""
    subprocess.run([sys.executable, "-m", "monai_r2unet", *arguments], check=True)


def volume(image: Path, reference: Path, work: Path) -> dict[str, Any]:
    """Segment and evaluate one volume on the command line."""
    mask, report, measures = work / "mask.nii.gz", work / "report.json", work / "measures.json"
    command("segment", str(image), str(mask), "--bundle", "lung", "--report", str(report), "--overwrite")
    command("evaluate", str(mask), str(reference), "--foreground", "--json", str(measures), "--overwrite")
    reported = json.loads(report.read_text())
    found, expected = sitk.ReadImage(str(mask)), sitk.ReadImage(str(reference))
    return {
        "image": image.name,
        "size": reported["size"],
        "spacing_mm": reported["spacing_mm"],
        "millilitres": reported["millilitres"],
        "seconds": reported["seconds"],
        **json.loads(measures.read_text())["pooled"],
        **surface(found, expected),
        "sides": sides(found, split_sides(read_image(image), expected)),
        "worst_slice": worst_slice(found, expected),
        "islands": islands(found),
    }


def surface(mask: sitk.Image, reference: sitk.Image) -> dict[str, float]:
    """Agreement of the surfaces, by MONAI."""
    one, other = (
        torch.from_numpy(sitk.GetArrayFromImage(image) > 0)[None, None].float() for image in (mask, reference)
    )
    spacing = mask.GetSpacing()[::-1]
    within = compute_surface_dice(one, other, [2.0], include_background=True, spacing=spacing)
    far = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing)
    return {"surface_dice_2_mm": float(within), "hausdorff_95_mm": float(far)}


def sides(mask: sitk.Image, reference: sitk.Image) -> dict[str, float]:
    """Dice of each lung."""
    found, expected = (sitk.GetArrayViewFromImage(image) for image in (mask, reference))
    return {name: confusion(found == value, expected == value).dice for name, value in (("right", 1), ("left", 2))}


def worst_slice(mask: sitk.Image, reference: sitk.Image) -> dict[str, float]:
    """Index and Dice of the worst axial slice with more than 1 cm2 of lung."""
    found, expected = (sitk.GetArrayFromImage(image) > 0 for image in (mask, reference))
    least = 100 / np.prod(mask.GetSpacing()[:2])
    dice = {k: confusion(found[k], expected[k]).dice for k in range(len(expected)) if expected[k].sum() > least}
    worst = min(dice, key=lambda k: dice[k])
    return {"slice": worst, "dice": dice[worst]}


def islands(mask: sitk.Image) -> int:
    """Pieces of each lung beside its largest."""
    pieces = sitk.ConnectedComponentImageFilter()
    pieces.FullyConnectedOn()
    count = 0
    for value in (1, 2):
        pieces.Execute(mask == value)
        count += max(0, pieces.GetObjectCount() - 1)
    return count


def slices(folder: Path) -> dict[str, Any]:
    """The test slices of the paper's lung set: 16-bit PNG with HU = value - 1024."""
    segment = Segmenter("lung")
    cases = []
    with (folder / "split_70_30.csv").open() as file:
        names = [row["id"] for row in csv.DictReader(file) if row["split"] == "test"]
    for name in names:
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "images" / f"{name}.png"))).astype(np.int16)
        reference = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "masks" / f"{name}.png"))) > 0
        # Of unknown size: assumed to fill the network's square, 400 mm, like a chest.
        mask = segment((stored - 1024).T[..., None], spacing=(400 / 256, 400 / 256, 1.0))
        cases.append(evaluate_case(name, mask[..., 0].T, reference))
    summary = summarize(cases)
    worst = sorted(summary.pop("cases"), key=lambda case: case["dice"])[:5]
    return {**summary, "worst": [{"name": case["name"], "dice": case["dice"]} for case in worst]}


def covid(folder: Path) -> list[dict[str, Any]]:
    """The COVID patients that no weights were trained on, but which helped to choose them."""
    segment, cases = Segmenter("lung"), []
    for name, split, image, reference in covid20(folder):
        if split == "validation":
            mask = segment(image)
            found, expected = (sitk.GetArrayViewFromImage(one) > 0 for one in (mask, reference))
            cases.append({"name": name, "dice": confusion(found, expected).dice, "islands": islands(mask)})
    return cases


def abdomen(image: Path, work: Path) -> dict[str, Any]:
    """The fraction of the body outside the lungs that was segmented as lung."""
    mask_file = work / "abdomen.nii.gz"
    command("segment", str(image), str(mask_file), "--bundle", "lung", "--overwrite")
    ct = sitk.DICOMOrient(sitk.Cast(sitk.ReadImage(str(image)), sitk.sitkFloat32), "LPS")
    called = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(mask_file)), "LPS")) > 0

    tissue = sitk.BinaryMorphologicalOpening(sitk.BinaryThreshold(ct, -300, 1e9), [2, 2, 2])
    tissue = sitk.RelabelComponent(sitk.ConnectedComponent(tissue)) == 1
    body = sitk.JoinSeries([sitk.BinaryFillhole(tissue[:, :, k]) for k in range(tissue.GetDepth())])
    body.CopyInformation(ct)
    pieces = sitk.ConnectedComponent(sitk.And(body, sitk.BinaryThreshold(ct, -5000, -400)))
    labels = sitk.GetArrayFromImage(pieces)
    half = labels.shape[1] // 2
    lungs = sorted(set(np.unique(labels[-1])) & set(np.unique(labels[:, half:])) - {0})
    reference = sitk.GetImageFromArray(np.isin(labels, lungs).astype(np.uint8))
    reference.CopyInformation(ct)
    distance = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(reference, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    )
    inside = sitk.GetArrayFromImage(body) > 0
    wrong = called & (distance > 6.0)
    return {
        "image": image.name,
        "body_voxels": int(inside.sum()),
        "lung_voxels_by_threshold": int(np.isin(labels, lungs).sum()),
        "called_lung_voxels": int(called.sum()),
        "wrongly_called_lung_voxels": int(wrong.sum()),
        "share_of_body": float(wrong.sum() / inside.sum()),
    }


def main() -> None:
    """Measure and write the result file."""
    data = Path(os.environ["MONAI_R2UNET_DATA"])
    volumes, lctsc = data / "volumes", data / "lung" / "lctsc"
    bundle = find_bundle("lung")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        result = {
            "command": "python -m benchmarks.measure_lung",
            "weights_sha256": bundle.weights_sha256,
            "device": "cpu",
            "versions": versions(),
            "LCTSC_007": volume(volumes / "LCTSC_007_dicom", volumes / "LCTSC_007_lung.nii.gz", work),
            "LCTSC_008": volume(lctsc / "LCTSC_008_ct.nii.gz", lctsc / "LCTSC_008_lung.nii.gz", work),
            "paper_slices": slices(data / "lung" / "kmader"),
            "covid": covid(data / "lung" / "covid20"),
            "abdomen": abdomen(volumes / "example_ct.nii.gz", work),
        }
    RESULT.parent.mkdir(exist_ok=True)
    write_json(result, RESULT)
    print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
