"""The transforms that remove islands and what lies beside the body."""

import torch
from monai.data import MetaTensor

from monai_r2unet.transforms.components import RemoveBesideBodyd, RemoveIslandsd
from tests.images.test_components import SPACING, lying_on_a_cushion


def volume() -> torch.Tensor:
    mask = torch.zeros(1, 8, 9, 10, dtype=torch.uint8)
    mask[0, 2:6, 2:6, 2:6] = 1
    mask[0, 7, 8, 9] = 1
    return mask


def test_type_metadata_and_the_other_keys_stay():
    mask = MetaTensor(volume().float(), affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))
    data = RemoveIslandsd("pred", 0.05)({"pred": mask, "image": "as it was"})
    assert data["pred"].dtype == torch.float32
    assert data["pred"].affine[1, 1] == 2
    assert data["pred"].sum() == 64
    assert mask.sum() == 65
    assert data["image"] == "as it was"


def test_a_single_slice_is_left_as_it_is():
    mask = volume()[..., 9:]
    assert torch.equal(RemoveIslandsd("pred", 0.9)({"pred": mask})["pred"], mask)


def test_what_lies_beside_the_body_goes():
    hu, mask, lungs = lying_on_a_cushion()
    affine = torch.diag(torch.tensor([-SPACING[2], -SPACING[1], SPACING[0], 1.0]))
    image, pred = (MetaTensor(torch.from_numpy(array.T.copy())[None], affine=affine) for array in (hu, mask))
    cleaned = RemoveBesideBodyd("pred", "image")({"image": image, "pred": pred})["pred"]
    assert cleaned.dtype == torch.uint8
    assert torch.equal(cleaned.affine, affine)
    assert torch.equal(cleaned[0].as_tensor(), torch.from_numpy(lungs.T.copy()))
