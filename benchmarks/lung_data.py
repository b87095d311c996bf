"""Bring the data that the lung weights are trained on into one folder, each source with its share of the training.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.lung_data lung_data [--sides]

Writes volumes, masks and `datalist.json`: LCTSC and the paper's (Kaggle) slices by their split tables, the COVID
patients of `covid20` by patient. With `--sides` the right lung is 1 and the left 2. Each entry's `weight` says how
often one of its slices is drawn in training relative to others; together the slices of each source are drawn as
`SHARES` says.

The pixel size of the Kaggle slices and of `covid20` is not known: they get one by which they are 400 mm wide, the
extent that the network's square has at least.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monai_r2unet.datasets.datalist import write_datalist
from monai_r2unet.images.sides import split_sides

SHARES = {"lctsc": 0.45, "bases": 0.2, "kaggle": 0.2, "covid20": 0.15}
BASE = 24.0  # mm of the lungs that belong to their bases
EXTENT = 400.0  # mm, of images whose pixel size is not known
# Its mask lacks a lung.
LEFT_OUT = ("ID_0079",)
# The two files of the radiopaedia_29 scans are one patient.
COVID_VALIDATION = ("coronacases_009", "radiopaedia_36_86526_0")
SPLITS = {"train": "training", "val": "validation"}

Scan = tuple[str, str, sitk.Image, sitk.Image]  # name, split, image in HU, mask


def lctsc(folder: Path) -> list[Scan]:
    """The volumes of LCTSC for training and validation."""
    return [
        (
            row["case"],
            SPLITS[row["split"]],
            sitk.ReadImage(str(folder / f"{row['case']}_ct.nii.gz")),
            sitk.ReadImage(str(folder / f"{row['case']}_lung.nii.gz")),
        )
        for row in rows(folder / "split.csv")
        if row["split"] in SPLITS
    ]


def bases(scans: list[Scan]) -> list[Scan]:
    """The abdomen below the lungs, and the lungs' lowest slices, of the training volumes."""
    found = []
    for name, split, image, mask in scans:
        if split != "training":
            continue
        image, mask = (sitk.DICOMOrient(one, "LPS") for one in (image, mask))
        lowest = int(np.flatnonzero(sitk.GetArrayViewFromImage(mask).any(axis=(1, 2)))[0])
        end = lowest + round(BASE / image.GetSpacing()[2])
        found.append((f"{name}_base", split, image[:, :, :end], mask[:, :, :end]))
    return found


def kaggle(folder: Path) -> list[Scan]:
    """The paper's slices for training and validation: 16-bit PNG with HU = value - 1024."""
    scans = []
    for row in rows(folder / "split_70_30.csv"):
        if row["split"] not in SPLITS or row["id"].startswith(LEFT_OUT):
            continue
        stored, mask = (
            sitk.JoinSeries(sitk.ReadImage(str(folder / kind / f"{row['id']}.png"))) for kind in ("images", "masks")
        )
        scans.append((row["id"], SPLITS[row["split"]], sitk.Cast(stored, sitk.sitkInt16) - 1024, mask))
    return [(name, split, as_wide(image), as_wide(mask)) for name, split, image, mask in scans]


def covid20(folder: Path) -> list[Scan]:
    """The COVID patients for training and validation; consolidation is a part of their lungs."""
    scans = []
    for path in sorted(folder.glob("*_img.nii.gz")):
        name = path.name.removesuffix("_img.nii.gz")
        split = "validation" if name in COVID_VALIDATION else "training"
        image, mask = (sitk.ReadImage(str(folder / f"{name}_{kind}.nii.gz")) for kind in ("img", "lung"))
        scans.append((name, split, as_wide(image), as_wide(mask)))
    return scans


def rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with table.open() as file:
        return list(csv.DictReader(file))


def as_wide(image: sitk.Image) -> sitk.Image:
    """``image`` with a spacing by which its longer side in plane is `EXTENT` mm."""
    pixel = EXTENT / max(image.GetSize()[:2])
    image.SetSpacing((pixel, pixel, image.GetSpacing()[2]))
    return image


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", action="store_true", help="masks with the right lung as 1 and the left as 2")
    options = parser.parse_args()
    data, out = Path(os.environ["MONAI_R2UNET_DATA"]) / "lung", options.folder
    volumes = lctsc(data / "lctsc")
    sources = {
        "lctsc": volumes,
        "bases": bases(volumes),
        "kaggle": kaggle(data / "kmader"),
        "covid20": covid20(data / "covid20"),
    }
    datalist: dict[str, list[dict[str, object]]] = {"training": [], "validation": []}
    for kind in ("images", "labels"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for source, scans in sources.items():
        slices = sum(image.GetDepth() for _, split, image, _ in scans if split == "training")
        for name, split, image, mask in scans:
            entry: dict[str, object] = {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
            entry["source"] = source
            if split == "training":
                entry["weight"] = round(SHARES[source] / slices, 8)
            sitk.WriteImage(sitk.Cast(image, sitk.sitkInt16), str(out / str(entry["image"])), useCompression=True)
            mask.CopyInformation(image)
            label = split_sides(image, mask) if options.sides else sitk.Cast(mask != 0, sitk.sitkUInt8)
            sitk.WriteImage(label, str(out / str(entry["label"])), useCompression=True)
            datalist[split].append(entry)
        print(f"{source}: {slices} slices for training")
    write_datalist(out, datalist)


if __name__ == "__main__":
    main()
