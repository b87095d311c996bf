"""A training on masks that are all empty is refused: it would learn to find nothing, and call that perfect."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_r2unet.datasets import PatchDataset, SliceDataset


def prepared(value: float) -> dict[str, torch.Tensor]:
    label = torch.zeros(1, 8, 8)
    label[0, 3, 3] = value
    return {"image": torch.rand(3, 8, 8), "label": label}


@pytest.mark.parametrize(("values", "expected"), [((0, 0), False), ((0, 1), True)])
def test_datasets_know_whether_any_mask_holds_a_label(values: tuple[float, ...], expected: bool) -> None:
    data: list[dict[str, Any]] = [{"image": f"{n}.png", "label": f"{n}.png", "n": n} for n in range(2)]
    pictures = PatchDataset(data, lambda entry: prepared(values[entry["n"]]), 8, None, 1, progress=False)
    assert pictures.has_foreground == expected
    volumes = SliceDataset(
        data, lambda entry: {k: v[..., None] for k, v in prepared(values[entry["n"]]).items()}, progress=False
    )
    assert volumes.has_foreground == expected


def test_patches_of_several_labels_keep_their_values_where_they_are_interpolated() -> None:
    label = torch.zeros(1, 8, 8)
    label[0, :4], label[0, 4:, 4:] = 1, 3
    data = [{"image": "a.png", "label": "a.png"}]
    patches = PatchDataset(
        data, lambda entry: {"image": torch.rand(3, 8, 8), "label": label}, 8, 1, 1, progress=False, labels=3
    )
    (batch,) = patches
    assert torch.equal(batch["label"][0], label)
    turned = PatchDataset(
        data,
        lambda entry: {"image": torch.rand(3, 8, 8), "label": label},
        8,
        1,
        1,
        geometry=lambda grid, generator: grid + 0.4,  # type: ignore[arg-type]
        progress=False,
        labels=3,
    )
    (batch,) = turned
    assert set(batch["label"].unique().tolist()) <= {0.0, 1.0, 3.0}
