"""`.seg.nrrd`: read back by two readers that are not ours, exact to the voxel and the last bit of the geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.seg_nrrd import write_seg_nrrd
from tests.helpers.arrays import values

SCT = "SCT"
LABELS: list[dict[str, Any]] = [
    {
        "value": value,
        "name": f"{side} lung",
        "colour": colour,
        "terminology": {
            "category": {"scheme": SCT, "value": "123037004", "meaning": "Anatomical Structure"},
            "type": {"scheme": SCT, "value": "39607008", "meaning": "Lung"},
            "modifier": {"scheme": SCT, "value": code, "meaning": side.capitalize()},
        },
    }
    for value, side, code, colour in ((1, "right", "24028007", [224, 186, 162]), (2, "left", "7771000", [51, 0, 255]))
]


@pytest.fixture(scope="module")
def mask() -> sitk.Image:
    """Two labels in an oblique frame whose numbers no short decimal holds."""
    array = np.zeros((5, 6, 7), np.uint8)
    array[1:4, 2:5, 0:3] = 1
    array[2:, 1:4, 4:] = 2
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 1 / 3, 2.5))
    image.SetOrigin((-100 / 3, 1 / 7, 12.25))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.15, 0.3).GetMatrix())
    image.SetMetaData("NRRD_space", "right-anterior-superior")  # of the file it was read from; wrong by now
    return image


def test_slicerio_reads_back_names_colours_terminology_and_voxels(mask: sitk.Image, tmp_path: Path) -> None:
    slicerio = pytest.importorskip("slicerio")
    write_seg_nrrd(mask, LABELS, tmp_path / "a.seg.nrrd")
    got = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_array_equal(got["voxels"], values(mask).transpose(2, 1, 0))
    np.testing.assert_allclose(got["ijkToLPS"][:3, 3], mask.GetOrigin(), rtol=0, atol=1e-15)
    axes = np.reshape(mask.GetDirection(), (3, 3)) * mask.GetSpacing()
    np.testing.assert_allclose(got["ijkToLPS"][:3, :3], axes, rtol=0, atol=1e-15)
    assert got["masterRepresentation"] == "Binary labelmap"
    assert got["containedRepresentationNames"] == ["Binary labelmap"]
    assert got["referenceImageExtentOffset"] == [0, 0, 0]
    right, left = got["segments"]
    assert [(s["id"], s["name"], s["labelValue"], s["layer"]) for s in (right, left)] == [
        ("right_lung_1", "right lung", 1, 0),
        ("left_lung_2", "left lung", 2, 0),
    ]
    np.testing.assert_allclose(right["color"], np.array([224, 186, 162]) / 255, atol=1e-6)
    np.testing.assert_allclose(left["color"], [0.2, 0, 1], atol=1e-6)
    assert right["extent"] == [0, 6, 0, 5, 0, 4]
    assert left["terminology"] == {
        "contextName": "Segmentation category and type - 3D Slicer General Anatomy list",
        "category": [SCT, "123037004", "Anatomical Structure"],
        "type": [SCT, "39607008", "Lung"],
        "typeModifier": [SCT, "7771000", "Left"],
        "anatomicContextName": "Anatomic codes - DICOM master list",
    }


def test_pynrrd_finds_a_compressed_volume_of_bytes_in_lps(mask: sitk.Image, tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    write_seg_nrrd(sitk.Cast(mask, sitk.sitkInt16), LABELS, tmp_path / "a.seg.nrrd")
    array, header = nrrd.read(str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_array_equal(array, values(mask).transpose(2, 1, 0))
    assert (header["type"], header["encoding"]) == ("unsigned char", "gzip")
    assert header["space"] == "left-posterior-superior"
    assert header["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert not [key for key in header if key.startswith(("NRRD_", "ITK_"))]


def test_what_is_read_back_here_is_the_mask(mask: sitk.Image, tmp_path: Path) -> None:
    write_seg_nrrd(mask, find_bundle("lung").labels, tmp_path / "a.seg.nrrd")
    image = read_image(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(values(image), values(mask))
    assert same_grid(image, mask)
    assert image.GetOrigin() == mask.GetOrigin()
    np.testing.assert_allclose(image.GetSpacing(), mask.GetSpacing(), rtol=0, atol=1e-15)
    np.testing.assert_allclose(image.GetDirection(), mask.GetDirection(), rtol=0, atol=1e-15)
    assert [path.name for path in tmp_path.iterdir()] == ["a.seg.nrrd"]


def test_names_cannot_break_the_file_and_ids_differ(mask: sitk.Image, tmp_path: Path) -> None:
    slicerio = pytest.importorskip("slicerio")
    code = {"scheme": SCT, "value": "1", "meaning": "a|b~c^d:e\nf"}
    labels = [{"value": v, "name": "lesion\n^x", "colour": [0, 0, 0]} for v in (1, 2)]
    labels[0]["terminology"] = {"category": code, "type": code}
    write_seg_nrrd(mask, labels, tmp_path / "a.seg.nrrd")
    first, second = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))["segments"]
    assert [s["name"] for s in (first, second)] == ["lesion ^x"] * 2
    assert [s["id"] for s in (first, second)] == ["lesion_x_1", "lesion_x_2"]
    assert first["terminology"]["type"] == [SCT, "1", "a b c d e f"]
    assert "typeModifier" not in first["terminology"]
    assert "terminology" not in second
    # Slicer reads and writes UTF-8 here, slicerio ASCII.
    write_seg_nrrd(mask, [{"value": 1, "name": "Läsion", "colour": [0, 0, 0]}], tmp_path / "b.seg.nrrd")
    assert sitk.ReadImage(str(tmp_path / "b.seg.nrrd")).GetMetaData("Segment0_Name") == "Läsion"


def test_bad_output_is_refused_and_the_old_file_kept(mask: sitk.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.seg.nrrd"
    path.write_text("old")
    with pytest.raises(InputError, match="exists already"):
        write_seg_nrrd(mask, LABELS, path)
    with pytest.raises(InputError, match="2D mask"):
        write_seg_nrrd(mask[:, :, 0], LABELS, path, overwrite=True)
    assert path.read_text() == "old"
    write_seg_nrrd(mask, LABELS, path, overwrite=True)
    assert read_image(path).GetSize() == (7, 6, 5)
