"""The engine: every kind of image gives the same mask, on its own grid, whatever way its voxels are stored."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.images.components import remove_islands
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.writing import write_image
from monai_r2unet.inference.devices import choose_device
from monai_r2unet.transforms.metatensor import to_metatensor
from tests.helpers.arrays import values
from tests.helpers.lung_examples import copy_bundle, small_ct


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The weights of a lung bundle that works on 64 x 64 pixels and stands in for the shipped one."""
    folder = copy_bundle(tmp_path_factory.mktemp("bundles"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
        yield folder / "lung" / "models" / "model.pt"


@pytest.fixture(scope="module")
def segmenter(weights: Path) -> Segmenter:
    return Segmenter("lung", "cpu", batch_size=4)


@pytest.fixture(scope="module")
def ct() -> sitk.Image:
    return small_ct()


# ---- what goes in and what comes out ---------------------------------------------------------------------------------


def test_every_kind_of_image_gives_the_same_mask_in_its_own_kind_on_its_own_grid(
    segmenter: Segmenter, ct: sitk.Image, tmp_path: Path
) -> None:
    write_image(ct, tmp_path / "ct.nrrd")
    mask = segmenter(ct)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert 0.1 < values(mask).mean() < 0.9  # else the comparisons below would say nothing
    assert same_grid(mask, ct)
    expected = values(mask).transpose(2, 1, 0)

    of_path = segmenter(tmp_path / "ct.nrrd")
    assert isinstance(of_path, sitk.Image)
    assert same_grid(of_path, ct)
    np.testing.assert_array_equal(values(of_path), values(mask))

    tensor = to_metatensor(ct)
    tensor.meta["filename_or_obj"] = "ct.nrrd"
    of_tensor = segmenter(tensor)
    assert isinstance(of_tensor, MetaTensor)
    assert of_tensor.dtype == torch.uint8
    assert of_tensor.meta["filename_or_obj"] == "ct.nrrd"
    torch.testing.assert_close(of_tensor.affine, tensor.affine, rtol=0, atol=0)
    np.testing.assert_array_equal(of_tensor.numpy(), expected)

    of_array = segmenter(values(ct).transpose(2, 1, 0), spacing=ct.GetSpacing())
    assert isinstance(of_array, np.ndarray)
    assert of_array.dtype == np.uint8
    np.testing.assert_array_equal(of_array, expected)


def test_a_metatensor_in_lps_is_not_mistaken_for_ras(segmenter: Segmenter, ct: sitk.Image) -> None:
    tensor = to_metatensor(ct)
    lps = tensor.clone()
    lps.affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)) @ tensor.affine
    lps.meta["space"] = "LPS"
    np.testing.assert_array_equal(segmenter(lps).numpy(), segmenter(tensor).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_metatensors_of_other_types_are_taken(segmenter: Segmenter, ct: sitk.Image, dtype: torch.dtype) -> None:
    tensor = (to_metatensor(ct) // 8 * 8).to(torch.float32)  # bfloat16 holds multiples of 8 up to 2048
    np.testing.assert_array_equal(segmenter(tensor.to(dtype)).numpy(), segmenter(tensor).numpy())


def test_probabilities_are_those_behind_the_mask(segmenter: Segmenter, ct: sitk.Image) -> None:
    mask, probabilities = segmenter(ct, probabilities=True, clean_up=False)
    assert probabilities.GetPixelID() == sitk.sitkFloat32
    assert same_grid(probabilities, ct)
    assert values(probabilities).min() >= 0
    assert values(probabilities).max() <= 1
    assert len(np.unique(values(probabilities))) > 1000
    np.testing.assert_array_equal(values(mask), values(probabilities) >= 0.5)
    np.testing.assert_array_equal(values(mask), values(segmenter(ct, clean_up=False)))
    of_tensor = segmenter(to_metatensor(ct), probabilities=True)[1]
    assert of_tensor.dtype == torch.float32
    np.testing.assert_array_equal(of_tensor.numpy(), values(probabilities).transpose(2, 1, 0))


def test_weights_are_read_once_for_many_images(weights: Path, segmenter: Segmenter, ct: sitk.Image) -> None:
    moved = weights.rename(weights.with_suffix(".moved"))
    try:
        first, second = segmenter(ct[:, :, :2]), segmenter(ct[:, :, 2:])
    finally:
        moved.rename(weights)
    np.testing.assert_array_equal(np.concatenate([values(first), values(second)]), values(segmenter(ct)))


def test_batch_size_and_repetition_change_nothing(segmenter: Segmenter, weights: Path, ct: sitk.Image) -> None:
    again = Segmenter("lung", "cpu", weights=weights, batch_size=1)
    assert (segmenter.inferer.batch_size, again.inferer.batch_size) == (4, 1)
    mask, probabilities = segmenter(ct, probabilities=True)
    np.testing.assert_array_equal(values(segmenter(ct, probabilities=True)[1]), values(probabilities))
    np.testing.assert_array_equal(values(again(ct)), values(mask))
    np.testing.assert_allclose(values(again(ct, probabilities=True)[1]), values(probabilities), atol=1e-6)


def test_one_axial_slice_is_enough(segmenter: Segmenter, ct: sitk.Image) -> None:
    np.testing.assert_array_equal(values(segmenter(ct[:, :, 1:2]))[0], values(segmenter(ct, clean_up=False))[1])


def test_two_threads_on_one_segmenter_get_the_masks_and_probabilities_of_a_single_one(
    segmenter: Segmenter, ct: sitk.Image
) -> None:
    images = [ct, ct[:, :, ::-1]]
    single = [tuple(map(values, segmenter(image, probabilities=True))) for image in images]

    def calls(thread: int) -> list[tuple[int, tuple[Any, ...]]]:
        """What one thread gets: the first only masks, the second probabilities too."""
        results = []
        for turn in range(10):
            result = segmenter(images[turn % 2], probabilities=bool(thread))
            results.append((turn % 2, tuple(map(values, result)) if thread else (values(result),)))
        return results

    with ThreadPoolExecutor(2) as threads:
        for results in threads.map(calls, range(2)):
            for image, arrays in results:
                for got, expected in zip(arrays, single[image], strict=False):
                    np.testing.assert_array_equal(got, expected)


def test_progress_counts_slices_and_seconds_are_told(segmenter: Segmenter, ct: sitk.Image) -> None:
    told: list[tuple[int, int]] = []
    result = segmenter.run(ct, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 4)]
    assert set(result.seconds) == {"prepare", "infer", "restore"}
    assert result.probabilities is None
    assert result.voxels == np.count_nonzero(values(result.mask))
    assert result.millilitres == pytest.approx(result.voxels * np.prod(ct.GetSpacing()) / 1000)


def test_nothing_is_said_where_nothing_is_wrong(
    weights: Path, ct: sitk.Image, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Segmenter("lung", "cpu")(ct)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


# ---- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", ["straight", "oblique"])
@pytest.mark.parametrize("axes", ["RPS", "LPI", "RAS", "RAI", "PLS", "SPL", "PIR", "IRA"])
def test_the_way_voxels_are_stored_does_not_change_the_mask(
    segmenter: Segmenter, ct: sitk.Image, axes: str, frame: str
) -> None:
    expected = segmenter(ct)
    ct = sitk.Image(ct)
    if frame == "oblique":
        ct.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.15, 0.3).GetMatrix())
        expected.CopyInformation(ct)
    stored = sitk.DICOMOrient(ct, axes)  # the same volume: permuted, flipped, of either handedness
    assert stored.GetDirection() != ct.GetDirection()
    mask = segmenter(stored)
    assert same_grid(mask, stored)
    np.testing.assert_array_equal(values(mask), values(sitk.DICOMOrient(expected, axes)))


def test_a_bundle_that_does_not_undo_its_reorientation_is_caught(weights: Path, ct: sitk.Image) -> None:
    broken = Segmenter("lung", "cpu")
    broken.postprocessing = lambda data: data
    with pytest.raises(RuntimeError, match="does not undo"):
        broken(sitk.DICOMOrient(ct, "RAS"))


# ---- what is refused -------------------------------------------------------------------------------------------------


def volume(array: np.ndarray, **kwargs: Any) -> sitk.Image:
    return sitk.GetImageFromArray(array, **kwargs)


NOISE = np.random.default_rng(0).integers(-1000, 400, (3, 32, 32)).astype(np.int16)
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a list": ([[1, 2]], {}, "cannot segment a list"),
    "a plain tensor": (torch.zeros(32, 32, 3), {}, "cannot segment a Tensor"),
    "no spacing": (NOISE, {}, "needs spacing"),
    "a spacing of two": (NOISE, {"spacing": (1, 1)}, "three positive numbers"),
    "a spacing of zero": (NOISE, {"spacing": (1, 0, 1)}, "three positive numbers"),
    "a spacing of NaN": (NOISE, {"spacing": (1, 1, float("nan"))}, "three positive numbers"),
    "a spacing of text": (NOISE, {"spacing": ("1", "1", "x")}, "three positive numbers"),
    "a single spacing": (NOISE, {"spacing": 1.0}, "three positive numbers"),
    "a spacing of an image": (volume(NOISE), {"spacing": (1, 1, 1)}, "a spacing is for arrays"),
    "a spacing of a file": ("chest.nii.gz", {"spacing": (1, 1, 1)}, "a spacing is for arrays"),
    "no slice": (NOISE[:0], {"spacing": (1, 1, 1)}, "0 x 32 x 32 voxels; it must have some"),
    "an array with channels": (NOISE[None], {"spacing": (1, 1, 1)}, r"shape \(1, 3, 32, 32\)"),
    "a metatensor with channels": (MetaTensor(torch.zeros(1, 32, 32, 3)), {}, r"shape \(1, 32, 32, 3\)"),
    "a singular affine": (MetaTensor(torch.zeros(32, 32, 3), affine=torch.zeros(4, 4)), {}, "affine"),
    "colour": (volume(np.zeros((3, 32, 32, 3), np.uint8), isVector=True), {}, "3 values per voxel"),
    "a picture": (volume(np.zeros((32, 32), np.uint8)), {}, "2D picture"),
    "volumes over time": (sitk.JoinSeries([volume(NOISE)] * 2), {}, "4 dimensions, expected one volume"),
    "NaN": (volume(np.where(NOISE > 300, np.nan, NOISE)), {}, f"{np.count_nonzero(NOISE > 300)} voxels that are NaN"),
    "one sagittal slice": (volume(NOISE[:, :, :1]), {}, "1 x 32 voxels are too thin"),
    "one coronal slice": (volume(NOISE[:, :1]), {}, "32 x 1 voxels are too thin"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_images_that_cannot_be_segmented_are_refused_in_one_sentence(segmenter: Segmenter, case: str) -> None:
    image, arguments, words = BAD[case]
    with pytest.raises(InputError, match=words) as caught:
        segmenter(image, **arguments)
    assert "\n" not in str(caught.value)


def test_a_thick_slab_stored_sagittally_is_not_thin(segmenter: Segmenter) -> None:
    stored = sitk.DICOMOrient(volume(NOISE), "PIR")
    assert stored.GetSize() == (32, 3, 32)
    assert segmenter(stored).GetSize() == (32, 3, 32)


def test_non_finite_voxels_may_be_allowed_and_are_told(segmenter: Segmenter) -> None:
    filled, holed = NOISE.astype(np.float32), NOISE.astype(np.float32)
    filled[0, 3:5, 7] = -1000
    holed[0, 3:5, 7] = np.nan, -np.inf
    result = segmenter.run(volume(holed), allow_nonfinite=2)
    np.testing.assert_array_equal(values(result.mask), values(segmenter(volume(filled))))
    assert [note[:8] for note in result.warnings] == ["2 voxels"]
    with pytest.raises(InputError, match="2 voxels"):
        segmenter.run(volume(holed), allow_nonfinite=1)


@pytest.mark.parametrize(
    ("low", "high", "plausible"),
    [(-1024, 3071, True), (-3024, 1500, True), (0, 255, False), (0, 1, False), (0, 2000, False), (-1000, -400, False)],
)
def test_values_that_cannot_be_hounsfield_units_are_told_but_segmented(
    segmenter: Segmenter, low: int, high: int, plausible: bool
) -> None:
    image = volume(np.linspace(low, high, 32 * 32 * 2).reshape(2, 32, 32).astype(np.float32))
    image.SetOrigin((1, 0, 0))  # with a geometry of its own
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        assert segmenter(image).GetSize() == (32, 32, 2)
    told = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    assert [f"{low:g} to {high:g}, cannot be Hounsfield units" in sentence for sentence in told] == [True] * (
        not plausible
    )


def test_unknown_bundles_and_devices_are_refused(weights: Path) -> None:
    with pytest.raises(InputError, match="unknown bundle 'liver'; available: lung"):
        Segmenter("liver")
    for device in ("banana", "", "cuda:99", "meta"):
        with pytest.raises(InputError, match=f"device '{device}' cannot be used here"):
            choose_device(device)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")


# ---- clean-up --------------------------------------------------------------------------------------------------------


def test_islands_go_unless_they_are_wanted(segmenter: Segmenter, ct: sitk.Image) -> None:
    raw = segmenter.run(ct, clean_up=False).mask
    cleaned = segmenter.run(ct)
    expected = remove_islands(values(raw), least_share=0.02)
    assert not np.array_equal(expected, values(raw))  # the network of this test leaves some
    assert np.array_equal(values(cleaned.mask), expected)
    assert cleaned.voxels == np.count_nonzero(expected)
    with_probabilities = segmenter.run(ct, probabilities=True)
    assert np.array_equal(values(with_probabilities.mask), expected)
    assert np.array_equal(values(with_probabilities.probabilities) >= 0.5, values(raw) > 0)  # these stay as they are


def test_a_single_slice_keeps_its_islands(segmenter: Segmenter, ct: sitk.Image) -> None:
    for z in range(0, ct.GetSize()[2], 5):
        one = ct[:, :, z : z + 1]
        assert np.array_equal(values(segmenter.run(one).mask), values(segmenter.run(one, clean_up=False).mask))
