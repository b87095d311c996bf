"""Compare lung weights on the validation images in the forms that scans come in; the worst form decides.

    python -m benchmarks.lung_forms lung_data bundles/lung/models/model.pt run/model.pt
    python -m benchmarks.lung_forms lung_data --every 6 --out quick.json run/model.pt

`lung_data` is the folder that `lung_data.py` writes. Each validation image is segmented as it is and

- blurred in plane by a Gaussian of 2, 4 and 6 mm standard deviation (smooth kernels, resampled volumes),
- denoised by a bilateral filter of 4 mm and 150 HU (iterative and deep-learning reconstruction),
- coarsened to pixels of 4 mm, the mask as well,
- with the aerated lung (below -500 HU) 80 HU darker (emphysema, deep inspiration),
- cropped to either side, at the image's middle, each side a scan of its own,
- cropped to 250 mm around the body's middle,

by `Segmenter`, and Dice pooled over each case's slices, averaged over the cases of each source, then over the three
sources. Beside it stands what is called lung in the slices of LCTSC that hold none, in neck and abdomen, in percent of
the body. Adds to `benchmarks/results/lung_forms.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

import numpy as np
import SimpleITK as sitk

from benchmarks.records import RESULTS
from monai_r2unet import Segmenter
from monai_r2unet.datasets import load_datalist
from monai_r2unet.files import sha256, write_json
from monai_r2unet.images.reading import read_image
from monai_r2unet.metrics import ConfusionCounts, confusion
from monai_r2unet.provenance import versions

RESULT = RESULTS / "lung_forms.json"
AERATED = -500  # HU
AIR = -1000  # HU

Pair = tuple[sitk.Image, sitk.Image]  # image in HU, float32, and mask


def blurred(millimetres: float) -> Callable[[Pair], list[Pair]]:
    """A form: blurred in plane by a Gaussian of this standard deviation."""

    def form(pair: Pair) -> list[Pair]:
        image, mask = pair
        smooth = [sitk.SmoothingRecursiveGaussian(image[:, :, k], millimetres) for k in range(image.GetDepth())]
        return [(stacked(smooth, image), mask)]

    return form


def denoised(pair: Pair) -> list[Pair]:
    """A form: even areas without noise, edges as they are."""
    image, mask = pair
    slices = [sitk.Bilateral(image[:, :, k], domainSigma=4.0, rangeSigma=150.0) for k in range(image.GetDepth())]
    return [(stacked(slices, image), mask)]


def coarse(pair: Pair) -> list[Pair]:
    """A form: pixels of 4 mm, each the mean of what it covers."""
    image, share = in_pixels_of(pair[0], 4.0, AIR), in_pixels_of(pair[1], 4.0, 0)
    return [(image, sitk.Cast(share >= 0.5, sitk.sitkUInt8))]


def in_pixels_of(image: sitk.Image, millimetres: float, outside: float) -> sitk.Image:
    """``image`` in larger pixels, each the mean over about its area; ``outside`` beyond the image's edge."""
    old = np.array(image.GetSpacing())
    new = np.array([millimetres, millimetres, old[2]])
    size = [int(np.ceil(n * s / t - 1e-6)) for n, s, t in zip(image.GetSize(), old, new, strict=True)]
    # From the mean of fine samples, four along each side of a pixel.
    fine = new / np.array([4, 4, 1])
    image = sitk.Cast(image, sitk.sitkFloat32)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(image.GetOrigin()) + direction @ ((fine - old) / 2)
    samples = sitk.Resample(
        image,
        [size[0] * 4, size[1] * 4, size[2]],
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        origin.tolist(),
        fine.tolist(),
        image.GetDirection(),
        outside,
    )
    return sitk.BinShrink(samples, [4, 4, 1])


def darker(pair: Pair) -> list[Pair]:
    """A form: the aerated lung 80 HU darker."""
    image, mask = pair
    values, lung = sitk.GetArrayFromImage(image), sitk.GetArrayViewFromImage(mask) > 0
    values[lung & (values < AERATED)] -= 80
    return [(like(values, image), mask)]


def sides(pair: Pair) -> list[Pair]:
    """A form: the left and the right half of the image, each on its own."""
    middle = pair[0].GetWidth() // 2
    return [(pair[0][:middle], pair[1][:middle]), (pair[0][middle:], pair[1][middle:])]


def narrow(pair: Pair) -> list[Pair]:
    """A form: 250 x 250 mm around the middle of the body."""
    image, mask = pair
    body = (sitk.GetArrayViewFromImage(image) > AERATED).any(0)
    window = []
    for axis, (size, spacing) in enumerate(zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True)):
        places = np.flatnonzero(body.any(axis))
        width = min(size, round(250 / spacing))
        start = int(np.clip((places[0] + places[-1]) // 2 - width // 2, 0, size - width))
        window.append(slice(start, start + width))
    return [(image[window[0], window[1], :], mask[window[0], window[1], :])]


FORMS: dict[str, Callable[[Pair], list[Pair]]] = {
    "clean": lambda pair: [pair],
    "blur 2 mm": blurred(2.0),
    "blur 4 mm": blurred(4.0),
    "blur 6 mm": blurred(6.0),
    "denoised": denoised,
    "4 mm pixels": coarse,
    "80 HU darker": darker,
    "one side": sides,
    "250 mm": narrow,
}


def stacked(slices: list[sitk.Image], image: sitk.Image) -> sitk.Image:
    """Slices as a volume on the grid of ``image``."""
    return like(np.stack([sitk.GetArrayViewFromImage(one) for one in slices]), image)


def like(values: np.ndarray, image: sitk.Image) -> sitk.Image:  # type: ignore[type-arg]
    """``values`` on the grid of ``image``."""
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    return made


def validation(folder: str, every: int) -> Iterator[tuple[str, Pair]]:
    """Source, image and mask of each validation case; of volumes from 50 slices on every ``every``-th slice."""
    for entry in load_datalist(folder, "validation"):
        image, mask = sitk.Cast(read_image(entry["image"]), sitk.sitkFloat32), read_image(entry["label"])
        if image.GetDepth() >= 50:
            image, mask = image[:, :, ::every], mask[:, :, ::every]
        yield entry["source"], (image, mask)


def outside(segment: Segmenter, pair: Pair) -> float:
    """Percentage of the body that is called lung in the slices without lung."""
    image, mask = pair
    empty = [k for k in range(image.GetDepth()) if not sitk.GetArrayViewFromImage(mask)[k].any()]
    found = segment.run(sitk.JoinSeries([image[:, :, k] for k in empty]), clean_up=False).voxels
    body = sum(np.count_nonzero(sitk.GetArrayViewFromImage(image)[k] > AERATED) for k in empty)
    return 100 * found / body


def main() -> None:
    """Measure each weights file and add it to the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take every n-th slice of volumes, for a quick look")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    segmenters = {path: Segmenter("lung", device="cpu", weights=path, batch_size=4) for path in options.weights}
    dice: dict[str, dict[str, dict[str, list[float]]]] = {path: {form: {} for form in FORMS} for path in segmenters}
    wrong: dict[str, float] = {}
    for source, pair in validation(options.folder, options.every):
        if source == "lctsc":  # the one that has such slices
            wrong = {path: outside(segment, pair) for path, segment in segmenters.items()}
        for form, make in FORMS.items():
            made = [(sitk.Cast(sitk.Round(image), sitk.sitkInt16), mask) for image, mask in make(pair)]
            for path, segment in segmenters.items():
                counts = ConfusionCounts()
                for image, mask in made:
                    counts += confusion(sitk.GetArrayFromImage(segment(image)), sitk.GetArrayFromImage(mask))
                dice[path][form].setdefault(source, []).append(counts.dice)
    known = {}
    if options.out.exists():
        known = {found["sha256"]: found for found in json.loads(options.out.read_text())["weights"]}
    for path, forms in dice.items():
        table = {form: {source: mean(values) for source, values in sources.items()} for form, sources in forms.items()}
        means = {form: mean(sources.values()) for form, sources in table.items()}
        worst = min(means, key=lambda form: means[form])
        name = "/".join(Path(path).parts[-2:])
        found = {"file": name, "sha256": sha256(path), "worst_form": worst, "worst": means[worst], "mean": means}
        found["outside_percent"] = wrong[path]
        known[found["sha256"]] = {**found, "sources": table, "versions": versions()}
        print(f"{name}: worst {worst} {means[worst]:.4f}, outside lungs {wrong[path]:.2f} % of the body")
        for form, sources in table.items():
            print(f"  {form:14}{means[form]:.4f}  " + "  ".join(f"{key} {value:.4f}" for key, value in sources.items()))
    write_json(
        {
            "measure": "Dice: pooled over a case, mean over the cases of a source, mean over the sources",
            "slices": "all" if options.every == 1 else f"every {options.every}th of LCTSC",
            "weights": list(known.values()),
        },
        options.out,
    )


if __name__ == "__main__":
    main()
