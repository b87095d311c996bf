"""Write small bundles, images, and their masks from the command line. Run as a program: it imports torch.

``workbench.py FOLDER`` fills the folder with

- ``bundles``: ``lung`` and ``eyes`` (colour pictures) with random weights, ``empty`` without weights,
- ``own``: bundles of the user: ``safe``, the lung bundle again, and ``parts``, which has two labels and needs trust,
- ``worker``: starts the worker with these bundles, or the module that is named with ``-m``,
- ``images``: a chest CT stored in several ways, each with its ``.expected.nrrd`` and, for tests of single slices,
  ``.uncleaned.nrrd``, the mask before islands are removed; ``parts``, a CT of two parts, with its mask in
  ``.expected.nrrd``; and colour pictures, each with its ``.expected.nrrd``: ``picture`` (noise), ``fundus`` (twice as
  large as the network knows it) and ``cropped`` (the same without its dark surround, segmented with the scale that
  ``FUNDUS_SCALE`` gives by hand).
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image

from monai_r2unet import bundle
from monai_r2unet.apps.cli import main as cli
from monai_r2unet.networks import R2UNet
from tests.helpers.labelled_bundles import make_bundle, three_parts
from tests.helpers.lung_examples import copy_bundle, small_ct

REPOSITORY = Path(__file__).resolve().parents[2]
EYES_DIAMETER = 115  # pixels; width of the field of view that the bundle eyes knows: an eighth of CHASE_DB1's
FUNDUS_SCALE = "230px"  # the diameter of the field of view of both fundus photographs

WORKER = """#!/bin/sh
exec "{python}" -c '
import runpy, sys
from pathlib import Path
from monai_r2unet import bundle
sys.argv = sys.argv[sys.argv.index("-m") + 1 :] if "-m" in sys.argv else ["monai_r2unet.worker"]
if sys.argv[0] == "monai_r2unet.worker":
    bundle._bundles_folder = lambda: Path("{bundles}")
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)' "$@"
"""


def write_eyes(root: Path) -> None:
    """A bundle for colour pictures: a shipped one, with random weights."""
    shutil.copytree(REPOSITORY / "bundles" / "chase_db1" / "configs", root / "configs")
    (root / "models").mkdir()
    torch.manual_seed(1)
    torch.save(R2UNet(in_channels=3, channels=(16, 32, 64, 128)).state_dict(), root / "models" / "model.pt")
    path = root / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["weights"]["sha256"] = None
    metadata["network_data_format"]["inputs"]["image"]["scale"]["fov_diameter_px"] = EYES_DIAMETER
    path.write_text(json.dumps(metadata))
    path = root / "configs" / "inference.json"
    inference = json.loads(path.read_text())
    inference["threshold"] = 0.5  # that of the trained weights means nothing to these
    inference["fov_diameter"] = EYES_DIAMETER
    path.write_text(json.dumps(inference))


def write_safe(shipped: Path, root: Path) -> None:
    """A copy of the lung bundle that needs no trust, as its network has a fixed class."""
    shutil.copytree(shipped, root)
    path = root / "configs" / "inference.json"
    inference = json.loads(path.read_text())
    inference["network_def"]["_target_"] = f"monai_r2unet.networks.nets.{inference.pop('network_name')}"
    path.write_text(json.dumps(inference))


def chest() -> sitk.Image:
    """A small chest, 250 mm wide: its pixels are not larger than those that the lung bundle was tested on."""
    image = small_ct(slices=5)
    x, y, z = image.GetSpacing()
    image.SetSpacing((x / 2, y / 2, z))
    return image


def stored_otherwise(image: sitk.Image) -> dict[str, sitk.Image]:
    """The same chest, its voxels stored in other orders and directions."""
    mirror = np.diag([-1.0, 1.0, 1.0]) @ np.asarray(image.GetDirection()).reshape(3, 3)
    left_handed = sitk.Image(image)
    left_handed.SetDirection(mirror.ravel().tolist())
    turned = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.25, -0.15, 0.3).GetMatrix()
    oblique = sitk.Image(image)
    oblique.SetDirection((np.reshape(turned, (3, 3)) @ np.asarray(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    return {
        "axial": image,
        "sagittal": sitk.PermuteAxes(image, (1, 2, 0)),
        "coronal": sitk.PermuteAxes(image, (0, 2, 1)),
        "flipped": sitk.Flip(image, (True, False, True)),
        "left-handed": left_handed,
        "oblique": oblique,
    }


def pictures() -> dict[str, sitk.Image]:
    """Colour pictures as Slicer holds them: volumes of one slice."""
    noise = np.random.default_rng(3).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    fundus = np.asarray(Image.open(REPOSITORY / "bundles/chase_db1/sample/images/Image_11L.jpg").reduce(4))
    colours = {"picture": noise, "fundus": fundus, "cropped": fundus[40:200, 45:205]}
    return {name: sitk.GetImageFromArray(values[None], isVector=True) for name, values in colours.items()}


def main() -> None:
    """Write everything."""
    folder = Path(sys.argv[1])
    bundles, images = folder / "bundles", folder / "images"
    copy_bundle(bundles)
    write_eyes(bundles / "eyes")
    shutil.copytree(bundles / "lung" / "configs", bundles / "empty" / "configs")
    write_safe(bundles / "lung", folder / "own" / "safe")
    make_bundle(folder / "own" / "parts")
    worker = folder / "worker"
    worker.write_text(WORKER.format(python=sys.executable, bundles=bundles))
    worker.chmod(0o755)

    images.mkdir()
    bundle._bundles_folder = lambda: bundles
    for name, image in stored_otherwise(chest()).items():
        path = images / f"{name}.nrrd"
        sitk.WriteImage(image, str(path))
        segment(path, "expected", "--bundle", "lung")
        segment(path, "uncleaned", "--bundle", "lung", "--no-clean-up")
    image, truth = three_parts()
    sitk.WriteImage(image, str(images / "parts.nrrd"))
    mask = sitk.GetImageFromArray(truth)
    mask.CopyInformation(image)
    sitk.WriteImage(mask, str(images / "parts.expected.nrrd"))
    for name, image in pictures().items():
        path = images / f"{name}.nrrd"
        sitk.WriteImage(image, str(path))
        segment(path, "expected", "--bundle", "eyes", *(["--scale", FUNDUS_SCALE] if name == "cropped" else []))
        sitk.WriteImage(image[:, :, 0], str(images / f"{name}.png"))


def segment(path: Path, kind: str, *options: str) -> None:
    """Write an image's mask beside it."""
    code = cli.main(["segment", str(path), str(path.with_suffix(f".{kind}.nrrd")), *options])
    assert code == 0, path


if __name__ == "__main__":
    main()
