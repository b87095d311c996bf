"""Damaged files: a clear sentence or a correct result, never a traceback, a hang or an empty mask without a word.

Real files (a chest CT of the sample in every format, weights, configurations) get bytes changed at random or lose their
end, and go through the command line. What it must never do would show here as an exception, as a line of something
else's on standard error, or, for a hang or a crash in a library, as the end of the test process.

MONAI_R2UNET_DAMAGES multiplies the number of damages, which are others each time it is larger.
"""

from __future__ import annotations

import faulthandler
import os
import random
import re
import resource
import shutil
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from monai_r2unet import Segmenter
from monai_r2unet.apps.cli.main import main
from monai_r2unet.datasets import load_datalist
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from tests.helpers.lung_examples import copy_bundle, small_ct, write_dataset
from tests.inference.cohort.cohort_examples import write_dicom
from tests.inference.test_segmenter_bundles import SLICE_BY_SLICE, make_bundle

MORE = int(os.environ.get("MONAI_R2UNET_DAMAGES", "1"))
HANG = 60 * MORE  # seconds after which a test ends the process
Damage = Iterator[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lung bundle that works on 64 x 64 pixels, and one for photographs, both with random weights."""
    folder = copy_bundle(tmp_path_factory.mktemp("bundles"))
    make_bundle(folder / "photo", SLICE_BY_SLICE, [])
    return folder


def damaged(good: bytes, seed: str, count: int) -> Damage:
    """``count`` files with some bytes changed, half of them in the header, or cut off."""
    rng = random.Random(seed)
    for _ in range(count * MORE):
        data = bytearray(good)
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
            what = f"cut to {len(data)}"
        else:
            end = min(len(data), 400) if rng.random() < 0.6 else len(data)
            flips = {rng.randrange(end): rng.randrange(1, 256) for _ in range(rng.choice([1, 1, 1, 2, 5]))}
            for position, flip in flips.items():
                data[position] ^= flip
            what = f"flipped {flips}"
        yield what, bytes(data)


# ---- images ----------------------------------------------------------------------------------------------------------


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """A small image in the format of that name: what to segment, and the file to damage."""
    ct = small_ct(slices=2)
    path = folder / name
    match name:
        case "series":
            write_dicom(path, ct)
            return path, path / "1.dcm"
        case "slice.dcm":
            write_dicom(folder / "s", ct)
            shutil.copy(folder / "s" / "1.dcm", path)
        case "ct.nhdr" | "ct.mhd":  # the file to damage is the header
            sitk.WriteImage(ct, str(path))
        case "ct.raw":
            sitk.WriteImage(ct, str(folder / "ct.mhd"))
            return folder / "ct.mhd", path
        case "photo.png" | "photo.jpg" | "photo.tif":
            grey = sitk.Cast(sitk.IntensityWindowing(ct[:, :, 0], -1000, 400, 0, 255), sitk.sitkUInt8)
            sitk.WriteImage(sitk.Compose([grey, grey, 255 - grey]), str(path))
        case _:
            sitk.WriteImage(ct, str(path), useCompression=name.startswith("gz"))
    return path, path


FORMATS = {
    "ct.nii": 40,
    "ct.nii.gz": 40,
    "ct.nrrd": 40,
    "gz.nrrd": 40,
    "ct.nhdr": 20,
    "ct.mha": 30,
    "gz.mha": 20,
    "ct.mhd": 20,
    "ct.raw": 10,
    "series": 40,
    "slice.dcm": 30,
    "photo.png": 40,
    "photo.jpg": 30,
    "photo.tif": 20,
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_images(
    bundles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces
    monkeypatch.chdir(tmp_path)
    source, file = write(name, tmp_path)
    bundle = "photo" if name.startswith("photo") else "lung"
    loaded = Segmenter(bundle, "cpu")  # once, as loading takes longer than all else
    monkeypatch.setattr("monai_r2unet.apps.cli.segment._segmenter", lambda options: loaded)
    original, good = read_image(source), file.read_bytes()
    expected = loaded.run(original).mask
    codes: dict[int, int] = {}
    for what, data in damaged(good, name, FORMATS[name]):
        file.write_bytes(data)
        code = main(["segment", str(source), "mask.nrrd", "--bundle", bundle])
        out, err = capfd.readouterr()
        codes[code] = codes.get(code, 0) + 1
        if not name.endswith((".mha", ".mhd")):  # of these, ITK prints what it found wrong whatever one asks it
            assert re.fullmatch(r"((error|warning): .+\n)*", err), (what, err)
        if code == 2:
            assert out == "", what
            assert len(re.findall("^error: ", err, re.MULTILINE)) == 1, (what, err)
            assert not Path("mask.nrrd").exists(), what
            continue
        mask, image = sitk.ReadImage("mask.nrrd"), read_image(source)
        Path("mask.nrrd").unlink()
        voxels = np.count_nonzero(sitk.GetArrayViewFromImage(mask))
        assert (code, "nothing was found" in err) == ((0, False) if voxels else (4, True)), (what, err)
        assert image.GetSize() == original.GetSize(), what
        assert same_grid(mask, image), what
        same = np.array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(original))
        if same and image.GetDirection() == original.GetDirection() and image.GetSpacing() == original.GetSpacing():
            np.testing.assert_array_equal(sitk.GetArrayViewFromImage(mask), sitk.GetArrayViewFromImage(expected))
        elif name.endswith((".gz", ".png")) or name == "gz.nrrd":
            assert same, f"a checksum was not compared: {what}"
    assert sum(codes.values()) == FORMATS[name] * MORE
    assert codes.get(2, 0) > FORMATS[name] * MORE // 10
    print(f"{name}: {codes}")
    assert not list(tmp_path.glob(".*"))


def nifti(shape: tuple[int, int, int]) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header) + bytes(1000)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def nrrd(encoding: str) -> bytes:
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 300\nendian: little\nencoding: {encoding}\n\n"
    return header.encode() + (zlib.compress(bytes(1000), wbits=31) if encoding == "gzip" else bytes(1000))


METAIMAGE = (
    b"ObjectType = Image\nNDims = 3\nDimSize = 30000 30000 300\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
HUGE: dict[str, Callable[[], bytes]] = {
    "a.nii": lambda: nifti((30000, 30000, 300)),
    "a.nii.gz": lambda: zlib.compress(nifti((30000, 30000, 300)), wbits=31),
    "raw.nrrd": lambda: nrrd("raw"),
    "gz.nrrd": lambda: nrrd("gzip"),
    "a.mha": lambda: METAIMAGE + bytes(1000),
    "a.png": lambda: png(60000, 60000),
}


@pytest.mark.parametrize("name", HUGE)
def test_headers_that_claim_far_more_than_the_file_holds(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HUGE[name]())
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    if name != "a.png":
        assert "truncated or its header is damaged" in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert time.process_time() - started < 5


# ---- weights and configurations --------------------------------------------------------------------------------------


def test_damaged_weights(
    bundles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file without checksum in the bundle: torch itself does not compare those inside it."""
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
    good = (bundles / "lung" / "models" / "model.pt").read_bytes()
    weights = tmp_path / "own.pt"
    ct = small_ct(slices=1)
    expected = sitk.GetArrayFromImage(Segmenter("lung", "cpu").run(ct).mask)
    refused = []
    for what, data in damaged(good, "weights", 30):
        weights.write_bytes(data)
        try:
            mask = Segmenter("lung", "cpu", weights).run(ct).mask
        except InputError as error:
            refused.append(str(error))
        else:
            np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), expected, err_msg=what)
    assert len(refused) > 20 * MORE
    assert all(str(weights) in message and "\n" not in message for message in refused)
    assert capfd.readouterr().err == ""


def test_weights_that_are_not_finite(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: bundles)
    weights = torch.load(bundles / "lung" / "models" / "model.pt", weights_only=True)
    weights["head.weight"][0] = float("nan")
    torch.save(weights, tmp_path / "nan.pt")
    with pytest.raises(InputError, match=r"nan\.pt holds numbers that are NaN or infinite \(in head\.weight\)"):
        Segmenter("lung", "cpu", tmp_path / "nan.pt")


@pytest.mark.parametrize("file", ["inference.json", "metadata.json"])
def test_damaged_configurations(
    bundles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = shutil.copytree(bundles, tmp_path / "bundles")
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
    path = folder / "lung" / "configs" / file
    good = path.read_bytes()
    ct = small_ct(slices=1)
    refused = []
    for what, data in damaged(good, file, 40):
        path.write_bytes(data)
        try:
            result = Segmenter("lung", "cpu").run(ct)
        except InputError as error:
            refused.append(str(error))
        else:
            assert same_grid(result.mask, ct), what
    assert len(refused) > 10 * MORE
    assert all("lung" in message and "\n" not in message for message in refused)


def test_damaged_data_lists(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    path = folder / "datalist.json"
    good = path.read_bytes()
    refused = []
    for what, data in damaged(good, "datalist", 60):
        path.write_bytes(data)
        for split in ("training", "validation", "test"):
            try:
                entries = load_datalist(folder, split)
            except InputError as error:
                refused.append(str(error))
            else:
                assert entries, what
                assert all(Path(entry["image"]).is_file() for entry in entries), what
    assert len(refused) > 60 * MORE
    assert all(str(folder) in message and "\n" not in message for message in refused)


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a": ' * 100_000])
@pytest.mark.parametrize("file", ["configs/inference.json", "configs/metadata.json", "datalist.json"])
def test_json_that_is_nested_without_end_is_one_sentence(bundles: Path, tmp_path: Path, file: str, deep: str) -> None:
    folder = shutil.copytree(bundles / "lung", tmp_path / "deep")
    (folder / file).write_text(deep)
    with pytest.raises(InputError) as caught:
        if file == "datalist.json":
            load_datalist(folder, "training")
        else:
            Segmenter(folder, "cpu", trust_bundle=True)
    assert "\n" not in str(caught.value)
    assert str(folder / file) in str(caught.value)


def test_a_flipped_letter_in_a_configuration_is_pointed_at(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(bundles, tmp_path / "bundles")
    monkeypatch.setattr("monai_r2unet.bundle._bundles_folder", lambda: folder)
    config = folder / "lung" / "configs" / "inference.json"
    metadata = folder / "lung" / "configs" / "metadata.json"
    cases = [
        (config, '"inferer": {', '"infere": {', r"inference\.json lacks inferer"),
        (config, '"recurrences": 2', '"recurrences": "two"', r"does not describe a working network_def"),
        (config, '"Orientationd"', '"Orientatiomd"', r"does not describe a working preprocessing"),
        (config, '"keys": "image"', '"keys": "imaje"', r"the preprocessing of the bundle 'lung' fails"),
        (config, '"@slice_size"', '"@slice"', r"does not describe a working inferer"),
        (config, '"slice_transform"', '"slice_transfoam"', r"does not describe a working inferer"),
        (config, '"slice_size": 64', '"slice_size": 64,,', r"inference\.json cannot be read"),
        (metadata, '"num_channels": 1', '"num_chanels": 1', r"metadata\.json lacks a usable entry network_data_format"),
        (metadata, '"name": "Lungs', '"name: "Lungs', r"metadata\.json is not JSON"),
    ]
    for path, good, bad, words in cases:
        content = path.read_text()
        assert good in content
        path.write_text(content.replace(good, bad))
        with pytest.raises(InputError, match=words):
            Segmenter("lung", "cpu").run(small_ct(slices=1))
        path.write_text(content)
