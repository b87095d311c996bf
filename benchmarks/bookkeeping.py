"""Seconds of each case of a folder of thousands of cases, without the network: they must not grow with the folder.

    python -m benchmarks.bookkeeping [--cases 5000] [--results FILE]

All is real but the segmentation, which is the same for every case: small images are read, masks, records and tables are
written and synchronised to the disk, and the finished folder is gone through once more. Processor time is compared,
because the time of the disk and of other programs varies.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import SimpleITK as sitk
import torch

from benchmarks import measure
from benchmarks.records import RESULTS
from monai_r2unet.files import write_json
from monai_r2unet.inference.cohort import segment_cohort
from monai_r2unet.inference.segmenter import Segmenter

SIZE = (32, 32, 2)  # voxels of each image
WINDOWS = 10  # parts of the folder that are compared


def measure_speed(cases: int) -> dict[str, Any]:
    """Segment a folder of ``cases`` images, and once more when all masks are there."""
    segmenter = Segmenter("lung", "cpu")
    image = sitk.Image(SIZE, sitk.sitkInt16)
    image[8:24, 8:24, :] = -800
    image.SetSpacing((12.5, 12.5, 5.0))
    found = segmenter.run(image)
    # Segmented once: what a network takes for each case is not measured here.
    found.mask[8:24, 8:24, :] = 1
    measured: dict[str, Any] = {"cases": cases, "size": SIZE}
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "cases"
        source.mkdir()
        sitk.WriteImage(image, str(source / "0.nrrd"))
        for number in range(1, cases):
            os.link(source / "0.nrrd", source / f"{number}.nrrd")
        for what in ("segmented", "skipped"):
            ends = [(time.process_time(), time.perf_counter())]

            def note(*_: object, ends: list[tuple[float, float]] = ends) -> None:
                ends.append((time.process_time(), time.perf_counter()))

            with mock.patch.object(segmenter, "run", return_value=found):
                results = segment_cohort(lambda: segmenter, source, Path(name) / "masks", on_case=note)
            statuses = {result.status for result in results}
            if statuses != {{"segmented": "done", "skipped": "skipped"}[what]}:
                raise RuntimeError(f"expected cases that are {what}, got {statuses}")
            measured[what] = _seconds_per_case(ends)
    return measured


def _seconds_per_case(ends: list[tuple[float, float]]) -> dict[str, list[float]]:
    """Mean seconds of a case in each part of the folder, in its order."""
    size = (len(ends) - 1) // WINDOWS
    edges = [ends[part * size] for part in range(WINDOWS + 1)]
    means = [
        [round((later[clock] - earlier[clock]) / size, 5) for earlier, later in pairwise(edges)] for clock in (0, 1)
    ]
    return {"cpu_seconds": means[0], "seconds": means[1]}


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description="Measure what each case of a large folder costs beside the network.")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--results", type=Path, default=RESULTS / "bookkeeping.json", help="file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": f"python -m benchmarks.bookkeeping --cases {options.cases}",
        **measure.machine(),
        **measure_speed(options.cases),
    }
    write_json(result, options.results)


if __name__ == "__main__":
    main()
