"""Measure how well the MONAI Label server's score for choosing images ranks them by their error, 1 - Dice.

    MONAI_R2UNET_DATA=<data> python -m benchmarks.uncertainty

For every bundle except `stare`, whose weights left out a single photograph, on test images one by one: the score of
`label_server.uncertainty`, and the error of the mask from `Segmenter`. Writes `benchmarks/results/uncertainty.json`
with both for every image, and for each set of images

- Spearman's rank correlation of the two, with the 95 % interval of the bootstrap over images;
- the mean error of the fifth of the images with the highest scores, beside that of all images and of the worst fifth:
  what labelling the images in the order of their scores finds, and the best possible.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.stats import rankdata

from benchmarks import measure
from benchmarks.measure_photographs import SOURCES, prepare
from benchmarks.records import RESULTS
from label_server.uncertainty import uncertainty
from monai_r2unet import Segmenter
from monai_r2unet.datasets import load_datalist
from monai_r2unet.files import write_json
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import confusion

RESULT = RESULTS / "uncertainty.json"
SEED = 0
RESAMPLES = 2000
EVERY = 4  # slice of a CT
AT_MOST = 100  # photographs

Pair = tuple[str, sitk.Image, sitk.Image]


def paper_slices(data: Path) -> Iterator[Pair]:
    """The test slices of the paper's lung set, from 79 patients."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--layout", "pairs", "--rescale-intercept", "-1024")
        yield from prepared("lung", data / "lung" / "kmader", Path(folder) / "data", *options)


def chest_slices(data: Path) -> Iterator[Pair]:
    """Every fourth slice with lung of the LCTSC test patients 007 and 008."""
    lctsc, volumes = data / "lung" / "lctsc", data / "volumes"
    for name, image, label in (
        ("LCTSC_007", volumes / "LCTSC_007_dicom", volumes / "LCTSC_007_lung.nii.gz"),
        ("LCTSC_008", lctsc / "LCTSC_008_ct.nii.gz", lctsc / "LCTSC_008_lung.nii.gz"),
    ):
        ct, lung = read_image(image), read_image(label)
        for k in range(0, ct.GetDepth(), EVERY):
            if sitk.GetArrayViewFromImage(lung)[k].any():
                yield f"{name} slice {k}", ct[:, :, k : k + 1], lung[:, :, k : k + 1]


def photographs(name: str, data: Path) -> Iterator[Pair]:
    """A bundle's test photographs, at most the first hundred."""
    with tempfile.TemporaryDirectory() as folder:
        yield from prepared(name, data / SOURCES[name], Path(folder) / "data")


def prepared(bundle: str, source: Path, dest: Path, *options: str) -> Iterator[Pair]:
    """The test images of a downloaded data set."""
    prepare(bundle, source, dest, *options)
    for entry in load_datalist(str(dest), "test")[:AT_MOST]:
        yield Path(entry["image"]).name.partition(".")[0], read_image(entry["image"]), read_image(entry["label"])


def measured(segmenter: Segmenter, pairs: Iterator[Pair]) -> dict[str, Any]:
    """Score and error of every image, and their correlation."""
    images = []
    for name, image, reference in pairs:
        mask, truth = (sitk.GetArrayFromImage(one) for one in (segmenter(image), reference))
        error = 1 - confusion(mask, truth).dice
        images.append({"name": name, "score": uncertainty(segmenter, image), "error": error})
        print(f"{len(images):4d} {images[-1]}", flush=True)
    scores, errors = (np.array([image[key] for image in images]) for key in ("score", "error"))
    return {
        "weights_sha256": segmenter.bundle.weights_sha256,
        "count": len(images),
        "spearman": float(correlations(scores, errors)),
        "spearman_95_percent": interval(scores, errors),
        "mean_error": {
            "all": float(errors.mean()),
            "fifth_with_highest_scores": float(errors[highest_fifth(scores)].mean()),
            "worst_fifth": float(errors[highest_fifth(errors)].mean()),
        },
        "images": images,
    }


def correlations(scores: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis."""
    ranks = [rankdata(values, axis=-1) for values in (scores, errors)]
    x, y = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    found: np.ndarray = (x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return found


def interval(scores: np.ndarray, errors: np.ndarray) -> list[float]:
    """Bounds of the middle 95 % of the correlations of bootstrap samples of the images."""
    draws = np.random.default_rng(SEED).integers(0, len(scores), (RESAMPLES, len(scores)))
    return [float(bound) for bound in np.percentile(correlations(scores[draws], errors[draws]), [2.5, 97.5])]


def highest_fifth(values: np.ndarray) -> Sequence[int]:
    """Indices of the highest fifth of the values."""
    return list(np.argsort(-values, kind="stable")[: max(1, round(len(values) / 5))])


def main() -> None:
    """Measure and write the result file."""
    data = Path(os.environ["MONAI_R2UNET_DATA"])
    sets = {"paper_slices": ("lung", paper_slices(data)), "chest_slices": ("lung", chest_slices(data))}
    sets |= {name: (name, photographs(name, data)) for name in SOURCES}
    result = {
        "command": "python -m benchmarks.uncertainty",
        "device": "cpu",
        "seed": SEED,
        **measure.machine(),
        "sets": {key: measured(Segmenter(bundle, "cpu"), pairs) for key, (bundle, pairs) in sets.items()},
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_json(result, RESULT)
    print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
