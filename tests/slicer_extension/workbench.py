"""Write small bundles, images and the masks that the command line makes of them. Run as a program: it imports torch.

``workbench.py FOLDER`` fills the folder with

- ``bundles``: ``lung`` and ``eyes`` (colour pictures) with random weights, ``empty`` without weights,
- ``worker``: starts the worker with these bundles, whatever its arguments,
- ``images``: a chest CT stored in several ways, and a colour picture, each with its ``.expected.nrrd``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from lung_examples import copy_bundle, small_ct

from monai_r2unet import bundle, cli
from monai_r2unet.networks import R2UNet

REPOSITORY = Path(__file__).resolve().parents[2]
WORKER = """#!/bin/sh
exec "{python}" -c '
import runpy
from pathlib import Path
from monai_r2unet import bundle
bundle._bundles_folder = lambda: Path("{bundles}")
runpy.run_module("monai_r2unet.worker", run_name="__main__")'
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
    path.write_text(json.dumps(metadata))
    path = root / "configs" / "inference.json"
    inference = json.loads(path.read_text())
    inference["threshold"] = 0.5  # that of the trained weights means nothing to these
    path.write_text(json.dumps(inference))


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


def picture() -> sitk.Image:
    """A colour picture as Slicer holds one: a volume of one slice."""
    colours = np.random.default_rng(3).integers(0, 255, (1, 48, 64, 3), dtype=np.uint8)
    return sitk.GetImageFromArray(colours, isVector=True)


def main() -> None:
    """Write everything."""
    folder = Path(sys.argv[1])
    bundles, images = folder / "bundles", folder / "images"
    copy_bundle(bundles)
    write_eyes(bundles / "eyes")
    shutil.copytree(bundles / "lung" / "configs", bundles / "empty" / "configs")
    worker = folder / "worker"
    worker.write_text(WORKER.format(python=sys.executable, bundles=bundles))
    worker.chmod(0o755)

    images.mkdir()
    bundle._bundles_folder = lambda: bundles
    for name, image in {**stored_otherwise(small_ct(slices=5)), "picture": picture()}.items():
        path = images / f"{name}.nrrd"
        sitk.WriteImage(image, str(path))
        which = "eyes" if name == "picture" else "lung"
        code = cli.main(["segment", str(path), str(images / f"{name}.expected.nrrd"), "--bundle", which])
        assert code == 0, name
    sitk.WriteImage(picture()[:, :, 0], str(images / "picture.png"))


if __name__ == "__main__":
    main()
