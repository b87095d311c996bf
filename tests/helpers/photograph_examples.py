"""Small photographs to train on and to segment, and bundles of photographs with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from monai_r2unet.networks import R2UNet
from monai_r2unet.transforms.photographs import Standardize

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
PHOTOGRAPHS = {"training": ["Image_01L", "Image_01R"], "validation": ["Image_10L"], "test": ["Image_11L", "Image_11R"]}


def write_dataset(folder: Path, fov: bool = True) -> Path:
    """A data folder as `prepare` writes it: photographs of the sample of CHASE_DB1 at an eighth, 125 x 120 pixels."""
    sample = BUNDLES / "chase_db1" / "sample"
    kinds = {"image": ("images", ".jpg"), "label": ("labels", ".png"), "fov": ("fov", ".png")}
    datalist: dict[str, list[dict[str, str]]] = {}
    for split, names in PHOTOGRAPHS.items():
        datalist[split] = []
        for name in names:
            entry = {}
            for key, (kind, ending) in kinds.items():
                if key == "fov" and not fov:
                    continue
                picture = Image.open(sample / kind / f"{name}{ending}")
                small = (
                    picture.reduce(8)
                    if key == "image"
                    else picture.convert("L").reduce(8).point(lambda v: 255 * (v > 99))
                )
                (folder / kind).mkdir(parents=True, exist_ok=True)
                small.save(folder / kind / f"{name}.png")
                entry[key] = f"{kind}/{name}.png"
            datalist[split].append(entry)
    (folder / "datalist.json").write_text(json.dumps(datalist), encoding="utf-8")
    return folder


def write_random_weights(path: Path, seed: int = 0) -> Path:
    """Weights that call about half of the pixels of a photograph foreground, without any sense."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = R2UNet(in_channels=3).eval()
    picture = Image.open(BUNDLES / "chase_db1" / "sample" / "images" / "Image_11L.jpg").reduce(8)
    image = Standardize(lit_only=True)(torch.from_numpy(np.asarray(picture).copy()).movedim(-1, 0))[None]
    with torch.no_grad():
        logits = network(image)
        assert network.head.bias is not None
        network.head.weight /= logits.std()
        network.head.bias -= (logits.median() + (logits.std() - 1) * network.head.bias) / logits.std()
    torch.save(network.state_dict(), path)
    return path


def copy_bundle(name: str, folder: Path, **changes: object) -> Path:
    """A folder with one bundle as it is shipped, but with random weights and other values in its inference.json.

    It takes photographs at their own size, because those of these tests are reduced.
    """
    root = folder / name
    shutil.copytree(BUNDLES / name / "configs", root / "configs")
    for file, values in {
        "inference.json": {"fov_diameter": None, **changes},
        "metadata.json": {"weights": {"file": "models/model.pt", "sha256": None, "licence": "none"}},
    }.items():
        path = root / "configs" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")
    (root / "models").mkdir()
    write_random_weights(root / "models" / "model.pt")
    return folder
