"""Two tasks with several labels, from the public data to measured masks: `new`, a training, `segment`, `evaluate`.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.several_labels sides work
    MONAI_R2UNET_DATA=<data> python -m benchmarks.several_labels calibres work

- `sides`: the right and the left lung in CT, of LCTSC. Its masks do not tell the lungs apart; `prepare lung --sides`
  parts them.
- `calibres`: narrow and wide retinal vessels in photographs, of DRIVE. The labels are made from its masks, by no
  reader: wide is what is within 2 pixels of the vessels in which a disc of 5 pixels fits.

The folder `work` gets the data, the bundle (`work/sides/eval`) and the masks; an interrupted training resumes.
The test cases are measured once; of LCTSC 008 also how many voxels of one lung are called the other, with the volume
stored in each of the 48 orders and directions of its axes. Adds to `benchmarks/results/several_labels.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from benchmarks.measure import machine
from benchmarks.records import RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.datasets import drive, lung
from monai_r2unet.datasets.datalist import read_datalist, write_datalist
from monai_r2unet.files import write_json
from monai_r2unet.images.reading import read_image

RESULT = RESULTS / "several_labels.json"
DISC = 2  # pixels, the radius of the disc that fits into a wide vessel
CALIBRES = ["narrow vessel", "wide vessel"]


def sides(work: Path) -> None:
    """CT with the right and the left lung."""
    lung.prepare(data() / "lung" / "lctsc", work / "data", sides=True)


def calibres(work: Path) -> None:
    """Photographs with narrow and wide vessels."""
    drive.prepare(data() / "drive", work / "drive")
    datalist = read_datalist(work / "drive")
    shutil.copytree(work / "drive" / "images", work / "data" / "images", dirs_exist_ok=True)
    (work / "data" / "labels").mkdir(exist_ok=True)
    for entry in itertools.chain(*(datalist[split] for split in ("training", "validation", "test"))):
        del entry["fov"]
        vessels = sitk.Cast(sitk.ReadImage(str(work / "drive" / entry["label"])) > 0, sitk.sitkUInt8)
        core = sitk.BinaryMorphologicalOpening(vessels, [DISC] * 2, sitk.sitkBall)
        wide = sitk.BinaryDilate(core, [DISC] * 2, sitk.sitkBall) & vessels
        sitk.WriteImage(vessels + wide, str(work / "data" / entry["label"]))
    write_datalist(work / "data", {**datalist, "labels": CALIBRES})


TASKS = {"sides": sides, "calibres": calibres}


def data() -> Path:
    """The folder of the public data."""
    return Path(os.environ["MONAI_R2UNET_DATA"])


def command(*arguments: object) -> None:
    """Run a module and stop at the first failure."""
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


def measure(name: str, work: Path) -> dict[str, Any]:
    """Segment and evaluate the test cases as a user would."""
    entries = read_datalist(work / "data")["test"]
    for kind in ("image", "label"):
        folder = work / "test" / f"{kind}s"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for entry in entries:
            shutil.copy(work / "data" / entry[kind], folder)
    bundle, masks, measures = work / name / "eval", work / "test" / "masks", work / "test" / "measures.json"
    command(
        "monai_r2unet", "segment", work / "test/images", masks, "--bundle", bundle, "--device", "cpu", "--overwrite"
    )
    options = ("--bundle", bundle, "--json", measures, "--overwrite")
    command("monai_r2unet", "evaluate", masks, work / "test/labels", *options)
    measured = json.loads(measures.read_text())
    return {"images": len(entries), "labels": {label: one["pooled"] for label, one in measured["labels"].items()}}


def exchanged(work: Path) -> float:
    """The largest share in percent of the lungs' voxels that are called the other lung, of all orders of the axes."""
    (entry,) = read_datalist(work / "data")["test"]
    image, truth = (sitk.DICOMOrient(read_image(work / "data" / entry[kind]), "LPS") for kind in ("image", "label"))
    segment, expected, shares = Segmenter(work / "sides" / "eval", "cpu"), sitk.GetArrayFromImage(truth), []
    for letters in itertools.permutations(("LR", "PA", "SI")):
        for order in map("".join, itertools.product(*letters)):
            mask = segment(sitk.DICOMOrient(image, order))
            found = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS"))
            wrong = (found > 0) & (expected > 0) & (found != expected)
            shares.append(100 * float(wrong.sum() / (expected > 0).sum()))
            print(f"{order}: {shares[-1]:.4f} % of the voxels are called the other lung", flush=True)
    return max(shares)


def main() -> None:
    """Make the data, plan, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    name, work = options.task, options.work
    if not (work / name).exists():
        TASKS[name](work)
        command("monai_r2unet", "new", work / name, work / "data")
    started = time.monotonic()
    if not (work / name / "eval" / "metadata.json").is_file():
        command(
            "monai.bundle", "run", "training", "--config_file", work / name / "configs/train.json", "--resume", "auto"
        )
    results = json.loads((work / name / "eval" / "results.json").read_text())
    record = {
        "command": f"python -m benchmarks.several_labels {name} work",
        "training_seconds": round(time.monotonic() - started),
        "training": results,
        "test": measure(name, work),
        **({"most_exchanged_percent": exchanged(work)} if name == "sides" else {}),
        **machine(),
    }
    write_json({**(json.loads(RESULT.read_text()) if RESULT.is_file() else {}), name: record}, RESULT)


if __name__ == "__main__":
    main()
