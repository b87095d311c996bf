"""Photographs as files: read upright and in RGB or refused, and their masks written."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_r2unet.bundle import Bundle
from monai_r2unet.errors import InputError
from monai_r2unet.images.masks import check_mask_output, write_mask
from monai_r2unet.images.photographs import ENDINGS
from monai_r2unet.images.reading import read_image
from monai_r2unet.images.writing import write_image, write_png
from monai_r2unet.transforms.metatensor import from_metatensor, to_metatensor
from tests.helpers.arrays import values

LOSSLESS = (".png", ".tif", ".tiff", ".bmp", ".ppm")
ORIENTATION = 274  # the EXIF tag
JPEG_LOSS = 16


def noise(shape: tuple[int, ...] = (30, 20, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def smooth() -> np.ndarray:
    """Colours that JPEG hardly changes; no two corners alike."""
    y, x = np.mgrid[:40, :24]
    return np.stack([5 * y, 9 * x, 255 - 3 * (x + y)], axis=-1).astype(np.uint8)


def save(array: np.ndarray, path: Path, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", LOSSLESS)
def test_colours_are_read_exactly(tmp_path: Path, ending: str) -> None:
    image = read_image(save(noise(), tmp_path / f"a{ending.upper()}"))
    assert image.GetSize() == (20, 30)
    assert image.GetPixelID() == sitk.sitkVectorUInt8
    assert image.GetSpacing() == (1.0, 1.0)
    np.testing.assert_array_equal(values(image), noise())


@pytest.mark.parametrize("ending", [*LOSSLESS, ".pgm", ".gif"])
def test_grey_is_read_exactly(tmp_path: Path, ending: str) -> None:
    image = read_image(save(noise((30, 20)), tmp_path / f"a{ending}"))
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(values(image), noise((30, 20)))


def test_jpeg_is_read(tmp_path: Path) -> None:
    image = read_image(save(smooth(), tmp_path / "a.jpg", quality=95))
    assert np.abs(values(image).astype(int) - smooth()).max() <= JPEG_LOSS


def test_compressed_ppm_is_read(tmp_path: Path) -> None:
    plain = save(noise(), tmp_path / "im0001.ppm")
    packed = tmp_path / "im0001.ppm.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(values(read_image(packed)), noise())
    packed.write_bytes(packed.read_bytes()[:-8] + bytes(8))  # its checksum
    with pytest.raises(InputError, match="could not be read"):
        read_image(packed)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bits(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    deep = (noise().astype(np.uint16) << 8) + noise(seed=1)
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(path))
    image = read_image(path)
    assert image.GetPixelID() == sitk.sitkVectorUInt8
    np.testing.assert_array_equal(values(image), noise())
    sitk.WriteImage(sitk.GetImageFromArray(deep[..., 0]), str(path))
    image = read_image(path)
    assert image.GetPixelID() == sitk.sitkUInt16
    np.testing.assert_array_equal(values(image), deep[..., 0])


@pytest.mark.parametrize("kind", ["int16", "int32", "float32"])
def test_measured_values_in_tiff_keep_their_type(tmp_path: Path, kind: str) -> None:
    stored = (noise((30, 20)).astype(kind) - 100) * 3
    image = sitk.GetImageFromArray(stored)
    image.SetSpacing((0.2, 0.2))  # the resolution of a print
    sitk.WriteImage(image, str(tmp_path / "a.tif"))
    read = read_image(tmp_path / "a.tif")
    assert values(read).dtype == kind
    assert read.GetSpacing() == (1.0, 1.0)
    np.testing.assert_array_equal(values(read), stored)


def test_palettes_are_resolved(tmp_path: Path) -> None:
    """An index has no fixed meaning: in some masks index 0 is white."""
    inverted = Image.fromarray(noise((30, 20)) % 2).convert("P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    for ending in (".gif", ".png"):
        inverted.save(tmp_path / f"a{ending}")
        image = read_image(tmp_path / f"a{ending}")
        assert image.GetNumberOfComponentsPerPixel() == 1
        np.testing.assert_array_equal(values(image), np.where(noise((30, 20)) % 2, 0, 255))
    coloured = Image.fromarray(noise((30, 20)) % 3).convert("P")
    coloured.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    coloured.save(tmp_path / "b.png")
    table = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]])
    np.testing.assert_array_equal(values(read_image(tmp_path / "b.png")), table[noise((30, 20)) % 3])


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    on = noise((30, 20)) > 128
    for ending in (".png", ".tif", ".bmp", ".gif"):
        Image.fromarray(on).save(tmp_path / f"a{ending}")
        np.testing.assert_array_equal(values(read_image(tmp_path / f"a{ending}")), np.where(on, 255, 0))


def test_alpha_is_left_out_where_it_is_opaque(tmp_path: Path) -> None:
    for shape in ((30, 20, 3), (30, 20)):
        colour = Image.fromarray(noise(shape))
        colour.putalpha(255)
        for ending in (".png", ".tif"):
            colour.save(tmp_path / f"a{ending}")
            np.testing.assert_array_equal(values(read_image(tmp_path / f"a{ending}")), noise(shape))
        colour.putpixel((3, 4), (*np.atleast_1d(noise(shape)[4, 3]).tolist(), 254))
        colour.save(tmp_path / "b.png")
        with pytest.raises(InputError, match=r"b\.png has transparent pixels"):
            read_image(tmp_path / "b.png")
    save(noise((30, 20)), tmp_path / "c.gif", transparency=int(noise((30, 20))[0, 0]))
    with pytest.raises(InputError, match="transparent"):
        read_image(tmp_path / "c.gif")


@pytest.mark.parametrize("ending", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_rotation_is_applied(tmp_path: Path, orientation: int, ending: str) -> None:
    """Written as a camera does: the pixels as the sensor has them, and how to turn them upright."""
    sensor = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[::-1],  # to be turned clockwise: its rows go from the top left downwards
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[:, ::-1],
    }[orientation](smooth())
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": {ORIENTATION: orientation}} if ending == ".tif" else {"exif": exif, "quality": 95}
    image = read_image(save(np.ascontiguousarray(sensor), tmp_path / f"a{ending}", **options))
    assert image.GetSize() == (24, 40)
    assert np.abs(values(image).astype(int) - smooth()).max() <= JPEG_LOSS


def test_a_phones_picture_with_a_preview_is_one_picture(tmp_path: Path) -> None:
    preview = Image.fromarray(smooth()[::4, ::4])
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).save(path, "MPO", save_all=True, append_images=[preview], quality=95)
    assert Image.open(path).n_frames == 2
    assert np.abs(values(read_image(path)).astype(int) - smooth()).max() <= JPEG_LOSS


def test_what_follows_the_end_of_a_jpeg_does_not_matter(tmp_path: Path) -> None:
    path = save(smooth(), tmp_path / "a.jpg")
    expected = values(read_image(path))
    path.write_bytes(path.read_bytes() + bytes(5000))  # some phones add their own data
    np.testing.assert_array_equal(values(read_image(path)), expected)


def test_the_content_counts_not_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise()).save(path, "PNG")
    np.testing.assert_array_equal(values(read_image(path)), noise())
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # Pillow would start Ghostscript
    with pytest.raises(InputError, match="is not what its name says"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("a.jpg", "CMYK", "has CMYK colours, expected RGB or grey: save it as RGB"),
        ("a.tif", "CMYK", "has CMYK colours"),
        ("a.tif", "LAB", "has LAB colours"),
    ],
)
def test_other_colours_are_refused(tmp_path: Path, name: str, mode: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_image(save(noise(), tmp_path / name, mode))


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise((30, 20), seed)) for seed in range(3)]
    for ending in (".gif", ".tif", ".png"):
        pages[0].save(tmp_path / f"a{ending}", save_all=True, append_images=pages[1:])
        with pytest.raises(InputError, match="holds 3 pages, expected one picture"):
            read_image(tmp_path / f"a{ending}")


@pytest.mark.filterwarnings("error")
def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    """Cut short, a picture is refused or complete; with changed bytes, never a traceback, and PNG has checksums."""
    rng = np.random.default_rng(3)
    for ending in (*LOSSLESS, ".jpg", ".gif", ".pgm"):
        path = save(noise((40, 30)) if ending in (".gif", ".pgm") else noise((40, 30, 3)), tmp_path / f"a{ending}")
        content, expected = path.read_bytes(), values(read_image(path))
        for turn in range(30):
            damaged = bytearray(content)
            if cut := turn < 12:
                damaged = damaged[: len(content) - 1 - turn if turn < 6 else rng.integers(len(content))]
            else:
                for position in rng.integers(len(content) if turn < 22 else 64, size=3):
                    damaged[position] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            image, message = attempt(path)
            if image is None:
                assert str(path) in message
                assert "\n" not in message
            elif cut or ending == ".png":
                np.testing.assert_array_equal(values(image), expected)


def test_a_file_that_is_no_picture_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"a.png is not what its name says, expected one of PNG.*: check the file"):
        read_image(tmp_path / "a.png")


def attempt(path: Path) -> tuple[sitk.Image | None, str]:
    try:
        return read_image(path), ""
    except InputError as error:
        return None, str(error)


# ---- into MONAI and back ---------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_mask_comes_back_on_the_grid_of_its_photograph(height: int, width: int, seed: int) -> None:
    image = sitk.GetImageFromArray(noise((height, width, 3), seed), isVector=True)
    tensor = to_metatensor(image)
    assert tensor.shape == (width, height, 3)
    mask = from_metatensor(tensor[..., 0] > 100, image)
    assert mask.GetSize() == (width, height)
    np.testing.assert_array_equal(values(mask), noise((height, width, 3), seed)[..., 0] > 100)


# ---- writing masks ---------------------------------------------------------------------------------------------------


def bundle(folder: Path, labels: int) -> Bundle:
    segments = [{"value": value, "name": f"label {value}", "colour": [255, 0, 0]} for value in range(1, labels + 1)]
    (folder / "made" / "configs").mkdir(parents=True)
    (folder / "made" / "configs" / "metadata.json").write_text(json.dumps({"labels": segments}))
    return Bundle(folder / "made")


@pytest.mark.parametrize("labels", [1, 2])
def test_masks_of_photographs_as_png(tmp_path: Path, labels: int) -> None:
    made, folder = bundle(tmp_path, labels), tmp_path / "out"
    folder.mkdir()
    stored = noise((30, 20)) % (labels + 1)
    path = folder / "mask.PNG"
    write_mask(sitk.GetImageFromArray(stored), path, bundle=made, source="a.jpg")
    read = np.asarray(Image.open(path))  # by another reader
    np.testing.assert_array_equal(read, stored * 255 if labels == 1 else stored)
    assert list(folder.iterdir()) == [path]
    with pytest.raises(InputError, match="exists already"):
        write_mask(sitk.GetImageFromArray(stored), path, bundle=made, source="a.jpg")
    write_mask(sitk.GetImageFromArray(0 * stored), path, bundle=made, source="a.jpg", overwrite=True)
    assert not np.asarray(Image.open(path)).any()


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_masks_of_photographs_in_formats_of_volumes(tmp_path: Path, ending: str) -> None:
    write_image(sitk.GetImageFromArray(noise((30, 20)) % 2), tmp_path / f"mask{ending}")
    np.testing.assert_array_equal(values(read_image(tmp_path / f"mask{ending}")), noise((1, 30, 20)) % 2)


def test_png_is_for_photographs(tmp_path: Path) -> None:
    for ending, upper in itertools.product(ENDINGS, (False, True)):
        source = f"a{ending.upper() if upper else ending}"
        check_mask_output(tmp_path / "mask.png", source, overwrite=False)
    with pytest.raises(InputError, match=r"ct\.nii\.gz is not a photograph, and PNG cannot hold .* \.nii\.gz, \.nii"):
        check_mask_output(tmp_path / "mask.png", tmp_path / "ct.nii.gz", overwrite=False)
    with pytest.raises(InputError, match="does not exist"):
        check_mask_output(tmp_path / "none" / "mask.png", "a.jpg", overwrite=False)
    with pytest.raises(InputError, match=r"mask\.png cannot hold a volume \(4 x 5 x 6\)"):
        write_png(sitk.Image([4, 5, 6], sitk.sitkUInt8), tmp_path / "mask.png")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"mask\.seg\.nrrd is a segmentation of a volume, but .*\.jpg is a photograph"):
        check_mask_output(tmp_path / "mask.seg.nrrd", "photograph.jpg", overwrite=False)


@pytest.mark.parametrize("missing", [1, 100, 4000])
def test_a_full_disk_leaves_the_old_mask(tmp_path: Path, missing: int) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "mask.png"
    write_png(sitk.GetImageFromArray(noise((90, 80))), path)
    before, signals = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size - missing, before[1]))
    try:
        with pytest.raises(OSError, match=r"mask\.png could not be written"):
            write_png(sitk.GetImageFromArray(noise((90, 80), 1)), path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signals)
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(values(read_image(path)), noise((90, 80)))
