"""Seconds and memory of a large photograph, from a JPEG on disk to a mask: in process and as `monai-r2unet segment`.

The photograph has the 12 megapixels of a current fundus camera. It is one of the CHASE_DB1 sample, enlarged and on a
black surround, because no photograph of that size may be redistributed; what it shows does not change the speed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import measure
from monai_r2unet import Segmenter
from monai_r2unet.bundle import find_bundle

BUNDLE = "drive"
SIZE = (4000, 3000)  # pixels
DISC = 2880  # pixels; width of the field of view
SOURCE = find_bundle("chase_db1").root / "sample" / "images" / "Image_11L.jpg"
SOURCE_DISC = 920  # pixels


def measure_speed(*, tiny: bool) -> dict[str, Any]:
    """Rounds of both ways in turn; in process, after a first photograph, as in a folder of them."""
    shrink, rounds = (5, 1) if tiny else (1, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = write_photograph(folder / "photograph.jpg", shrink)
        segment = Segmenter(BUNDLE, "cpu")
        result: dict[str, Any] = {
            "weights_sha256": segment.weights_sha256,
            "bundle": BUNDLE,
            "size": [n // shrink for n in SIZE],
            "rounds": rounds,
            "in_process_seconds": [],
            "runs": [],
        }
        segment(picture)
        for _ in range(rounds):
            started = time.perf_counter()
            segment(picture)
            result["in_process_seconds"].append(time.perf_counter() - started)
            report = folder / "report.json"
            result["runs"].append(measure.segment(picture, folder / "mask.png", report, bundle=BUNDLE))
    return result


def write_photograph(path: Path, shrink: int) -> Path:
    """A photograph of `SIZE`, divided by ``shrink``, whose field of view is `DISC` wide."""
    with Image.open(SOURCE) as source:
        size = [round(n * DISC / SOURCE_DISC / shrink) for n in source.size]
        disc = source.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS)
    photograph = Image.new("RGB", (SIZE[0] // shrink, SIZE[1] // shrink))
    photograph.paste(disc, tuple((n - d) // 2 for n, d in zip(photograph.size, disc.size, strict=True)))
    photograph.save(path, quality=95)
    return path
