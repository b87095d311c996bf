"""Several labels: decided in the inferer, measured one by one, and the same in every format of a mask."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from PIL import Image
from torch import nn

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.masks import write_mask, write_preview
from monai_r2unet.images.writing import write_image
from monai_r2unet.inference.inferers import SliceBySliceInferer
from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.networks import R2UNet
from tests.helpers.labelled_bundles import LABELS, make_bundle, three_parts


class Nearest(nn.Module):
    """The most probable class is that whose ``levels`` is nearest to the first channel."""

    def __init__(self, *levels: float) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(levels)[None, :, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -200 * (x[:, :1] - self.levels) ** 2


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))


# ---- the inferer -----------------------------------------------------------------------------------------------------


def test_of_several_channels_the_mask_holds_the_most_probable() -> None:
    image = volume(1, 32, 32, 5)
    levels = (0.1, 0.5, 0.9)
    mask = SliceBySliceInferer(32, batch_size=2, softmax=True)(image, Nearest(*levels))
    expected = torch.stack([(image - level).abs() for level in levels]).argmin(0)
    assert mask.dtype == torch.uint8
    assert mask.shape == image.shape
    assert torch.equal(mask.long(), expected)


@pytest.mark.parametrize("spacing", [1.0, 2.3])
def test_probabilities_of_all_channels_add_up_to_one_and_their_largest_is_the_mask(spacing: float) -> None:
    image = MetaTensor(volume(1, 45, 31, 4), affine=torch.diag(torch.tensor([-1.0, spacing, 5.0, 1.0])))
    inferer, network = SliceBySliceInferer(32, batch_size=3, softmax=True), Nearest(0.1, 0.5, 0.9)
    probabilities = inferer(image, network, probabilities=True)
    assert probabilities.shape == (1, 3, 45, 31, 4)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 45, 31, 4), rtol=0, atol=1e-5)
    assert torch.equal(inferer(image, network)[:, 0].long(), probabilities.argmax(1))


@pytest.mark.parametrize("probabilities", [True, False])
def test_slices_without_body_are_background(probabilities: bool) -> None:
    image = volume(1, 16, 16, 4)
    image[..., 2] = -1
    inferer = SliceBySliceInferer(16, softmax=True, body_above=0.0)
    result = inferer(image, Nearest(5.0, 0.5, 0.9), probabilities=probabilities)
    assert result.shape[1] == (3 if probabilities else 1)
    decided = result.argmax(1) if probabilities else result[:, 0]
    assert (decided[..., 2] == 0).all()
    assert (decided[..., [0, 1, 3]] > 0).all()


def test_another_number_of_channels_than_expected_is_refused() -> None:
    with pytest.raises(InputError, match=r"gives 3 channels, but 4 are expected .background and labels."):
        SliceBySliceInferer(16, softmax=True)(volume(1, 16, 16, 2), Nearest(0.1, 0.5, 0.9), channels=4)


# ---- a bundle --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(make_bundle(tmp_path_factory.mktemp("bundle") / "parts"), "cpu", trust_bundle=True)


def test_a_segmenter_finds_each_label_and_gives_its_probability(segmenter: Segmenter) -> None:
    image, truth = three_parts()
    mask, probabilities = segmenter(image, probabilities=True)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), truth)
    assert mask.GetSpacing() == probabilities.GetSpacing() == image.GetSpacing()
    of_each = sitk.GetArrayFromImage(probabilities)
    assert of_each.shape == (*truth.shape, len(LABELS))
    for label in LABELS:
        np.testing.assert_array_equal(of_each[..., label["value"] - 1] > 0.5, truth == label["value"])


def test_arrays_and_metatensors_get_probabilities_with_the_labels_first(segmenter: Segmenter) -> None:
    image, _ = three_parts()
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    mask, probabilities = segmenter(array, spacing=image.GetSpacing(), probabilities=True)
    assert probabilities.shape == (2, *array.shape)
    np.testing.assert_array_equal(probabilities[1] > 0.5, mask == 2)
    affine = torch.diag(torch.tensor([-2.0, -2.0, 3.0, 1.0], dtype=torch.float64))
    of_tensor, as_tensor = segmenter(MetaTensor(torch.from_numpy(array.copy()), affine=affine), probabilities=True)
    assert as_tensor.shape == probabilities.shape
    np.testing.assert_array_equal(as_tensor[0].numpy() > 0.5, of_tensor.numpy() == 1)


def test_the_extent_of_each_label_is_counted(segmenter: Segmenter) -> None:
    image, truth = three_parts()
    result = segmenter.run(image)
    voxel = 2 * 2 * 3 / 1000
    assert result.by_label == [
        {
            "value": label["value"],
            "name": label["name"],
            "voxels": int((truth == label["value"]).sum()),
            "millilitres": pytest.approx((truth == label["value"]).sum() * voxel),
        }
        for label in LABELS
    ]
    assert result.voxels == (truth > 0).sum()


def test_a_single_label_has_the_extent_of_the_foreground() -> None:
    result = Segmentation(sitk.GetImageFromArray(np.eye(4, dtype=np.uint8)), labels=("vessel",))
    assert result.by_label == [{"value": 1, "name": "vessel", "voxels": 4, "millilitres": None}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[:1]}, "name 1 label .left., so its inferer must have softmax false"),
        ({"labels": [*LABELS, {**LABELS[0], "value": 3}]}, "gives 3 channels, but 4 are expected"),
        ({"labels": [LABELS[0], {**LABELS[1], "value": 3}]}, r"the values 1, 2, ... .*got \[1, 3\]"),
    ],
)
def test_metadata_that_do_not_fit_the_network_are_refused(tmp_path: Path, changes: Any, message: str) -> None:
    bundle = make_bundle(tmp_path / "parts")
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        Segmenter(bundle, "cpu", trust_bundle=True)(three_parts()[0])


# ---- files -----------------------------------------------------------------------------------------------------------


def test_probabilities_of_several_labels_are_written_as_channels(segmenter: Segmenter, tmp_path: Path) -> None:
    image, truth = three_parts()
    _, probabilities = segmenter(image, probabilities=True)
    write_image(probabilities, tmp_path / "p.nii.gz")
    array = np.asarray(nib.load(tmp_path / "p.nii.gz").dataobj).squeeze()
    assert array.shape == (*truth.shape[::-1], 2)
    np.testing.assert_array_equal((array > 0.5).any(-1), truth.transpose(2, 1, 0) > 0)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd"])
def test_every_format_of_volumes_holds_the_values(segmenter: Segmenter, tmp_path: Path, ending: str) -> None:
    image, truth = three_parts()
    path = tmp_path / f"mask{ending}"
    write_mask(segmenter(image), path, bundle=segmenter.bundle, source=tmp_path / "ct.nii.gz")
    read = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), truth)
    if ending == ".seg.nrrd":
        for index, label in enumerate(LABELS):
            stated = {key: read.GetMetaData(f"Segment{index}_{key}") for key in ("Name", "LabelValue", "Color")}
            assert stated["Name"] == label["name"]
            assert stated["LabelValue"] == str(label["value"])
            assert [round(255 * float(part)) for part in stated["Color"].split()] == label["colour"]


def test_networks_with_several_channels_are_ours() -> None:
    assert R2UNet(out_channels=3)(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_the_command_reports_each_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "parts")
    image, truth = three_parts()
    cases = tmp_path / "cases"
    cases.mkdir()
    write_image(image, cases / "a.nii.gz")
    counts = [int((truth == label["value"]).sum()) for label in LABELS]
    options = ["--bundle", str(bundle), "--trust-bundle", "--device", "cpu"]
    report = tmp_path / "r.json"
    one = ["segment", str(cases / "a.nii.gz"), str(tmp_path / "a.seg.nrrd"), "--report", str(report)]
    assert main([*one, *options]) == 0
    assert [label["voxels"] for label in json.loads(report.read_text())["labels"]] == counts
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        [f"  {label['name']}", f"{count} voxels"] for label, count in zip(LABELS, counts, strict=True)
    ]
    assert main(["segment", str(cases), str(tmp_path / "masks"), *options]) == 0
    (row,) = csv.DictReader((tmp_path / "masks" / "summary.csv").open(encoding="utf-8"))
    assert [int(row[f"voxels of {label['name']}"]) for label in LABELS] == counts
    assert float(row["millilitres of left"]) == pytest.approx(counts[0] * 12 / 1000, abs=1e-3)
    assert main(["evaluate", str(tmp_path / "masks"), str(tmp_path / "masks"), "--bundle", str(bundle)]) == 0
    assert "right part" in capsys.readouterr().out


def test_masks_of_photographs_are_also_shown_in_colour(tmp_path: Path) -> None:
    bundle = Bundle(make_bundle(tmp_path / "parts"))
    mask = sitk.GetImageFromArray(three_parts()[1][1])
    write_preview(mask, tmp_path / "eye.png", bundle=bundle)
    shown = np.asarray(Image.open(tmp_path / "eye.preview.png"))
    for value, colour in [(0, [0, 0, 0]), *((label["value"], label["colour"]) for label in LABELS)]:
        assert (shown[sitk.GetArrayFromImage(mask) == value] == colour).all()
