"""Seconds and memory of complete processes, from a CT on disk to a mask on disk: `monai-r2unet segment`, and lungmask.

lungmask has its own environment, with the same torch, because it need not meet our constraints:

    python -m venv lungmask_env
    lungmask_env/bin/pip install torch==<the version here> numpy scipy SimpleITK pydicom scikit-image fill_voids \\
        more-itertools tqdm
    lungmask_env/bin/pip install --no-deps lungmask
    export LUNGMASK_PYTHON=lungmask_env/bin/python

Without LUNGMASK_PYTHON only `monai-r2unet segment` is measured. `lungmask_process.py` explains what replaces lungmask's
trained weights, and why. It runs on the CPU with the same number of threads, on the same DICOM series.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measure, volumes
from monai_r2unet.images.reading import read_image

LUNGMASK_PROCESS = Path(__file__).with_name("lungmask_process.py")
# Run by lungmask's interpreter, whose packages differ from ours.
ASK_VERSIONS = """
import json
from importlib.metadata import version
names = ("lungmask", "torch", "numpy", "scipy", "scikit-image", "fill-voids", "SimpleITK")
print(json.dumps({name: version(name) for name in names}))
"""


def measure_speed(*, tiny: bool) -> dict[str, Any]:
    """Interleaved rounds of complete processes, after a discarded first one of ours."""
    rounds, stacked = (1, 3) if tiny else (3, 300)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ct, mask = volumes.series(folder, tiny=tiny)
        image = read_image(ct)
        longer = volumes.stack(image, stacked, folder / "stacked.nii.gz")

        def ours(source: Path, *options: str) -> Callable[[], dict[str, Any]]:
            return lambda: measure.segment(source, folder / "mask.nii.gz", folder / "report.json", *options)

        candidates = {"ours": ours(ct), "ours_stacked": ours(longer)}
        if importlib.util.find_spec("openvino") is not None:
            candidates["ours_openvino"] = ours(ct, "--engine", "openvino")
        result: dict[str, Any] = {
            "sizes": {"ours": list(image.GetSize()), "ours_stacked": [*image.GetSize()[:2], stacked]},
            "formats": {"ours": "NIfTI" if tiny else "DICOM series", "ours_stacked": "NIfTI, compressed"},
            "rounds": rounds,
        }
        if "LUNGMASK_PYTHON" in os.environ:
            python = os.environ["LUNGMASK_PYTHON"]
            told = subprocess.run([python, "-c", ASK_VERSIONS], capture_output=True, text=True, check=True)
            result["lungmask_versions"] = json.loads(told.stdout)
            # Also a warm-up: the libraries and the series are read from disk.
            subprocess.run([python, LUNGMASK_PROCESS, "prepare", ct, mask, folder], check=True)
            candidates["lungmask"] = lambda: lungmask(python, ct, folder)
        if not tiny:
            candidates["ours"]()
        result["runs"] = {name: [] for name in candidates}
        names = list(candidates)
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                result["runs"][name].append(candidates[name]())
    return result


def lungmask(python: str, ct: Path, folder: Path) -> dict[str, Any]:
    """Run lungmask as a process; like `measure.segment`."""
    measured: dict[str, Any] = measure.run_process(
        [python, LUNGMASK_PROCESS, "run", ct, folder / "lungmask.nii.gz", folder]
    )
    return {**measured, "stages": json.loads((folder / "stages.json").read_text())}
