"""A bundle with two labels whose network needs no training: it goes by the value of a pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

ANATOMY = {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"}
LABELS: list[dict[str, Any]] = [
    {
        "value": 1,
        "name": "left",
        "colour": [200, 0, 10],
        "terminology": {"category": ANATOMY, "type": {"scheme": "SCT", "value": "7771000", "meaning": "Left"}},
    },
    {
        "value": 2,
        "name": "right part",
        "colour": [0, 90, 255],
        "terminology": {"category": ANATOMY, "type": {"scheme": "SCT", "value": "24028007", "meaning": "Right"}},
    },
]
VALUES = (-1000, 100, 300)  # of background and the two labels


class ByValue(nn.Module):
    """Logits of background and labels by how near a pixel's value is to each of `VALUES`, in thousands."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(VALUES)[None, :, None, None] / 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, 1, H, W) to logits (N, 3, H, W)."""
        return -1000 * (images - self.values) ** 2


def three_parts() -> tuple[sitk.Image, np.ndarray]:
    """A CT of a left and a right part in air, 2 x 2 x 3 mm, and its mask (Z, Y, X)."""
    truth = np.zeros((4, 32, 40), np.uint8)
    truth[:3, 4:20, 2:16] = 1
    truth[1:, 10:30, 18:36] = 2
    image = sitk.GetImageFromArray(np.asarray(VALUES, np.int16)[truth])
    image.SetSpacing((2.0, 2.0, 3.0))
    return image, truth


def make_bundle(root: Path) -> Path:
    """Write the bundle; it needs to be trusted."""
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    torch.save(ByValue().state_dict(), root / "models" / "model.pt")
    image = {"num_channels": 1, "format": "hounsfield", "modality": "CT", "spatial_shape": ["16*n", "16*n"]}
    metadata = {
        "version": "0.0.1",
        "name": "Two parts",
        "labels": LABELS,
        "densitometry": True,
        "network_data_format": {"inputs": {"image": image}},
    }
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    config = {
        "network_def": {"_target_": f"{__name__}.ByValue"},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS", "labels": None},
            ],
        },
        "inferer": {
            "_target_": "monai_r2unet.inference.inferers.SliceBySliceInferer",
            "slice_size": None,
            "slice_transform": {"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": -0.999},
            "softmax": True,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": True,
                    "to_tensor": True,
                }
            ],
        },
    }
    (root / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    return root
