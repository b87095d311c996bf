"""Small things to segment: slices of the lung sample, and copies of the lung bundle with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import SimpleITK as sitk
import torch

from monai_r2unet.networks import R2UNet

LUNG = Path(__file__).resolve().parents[2] / "bundles" / "lung"
METADATA = "metadata.json"
ONE_LABEL = {
    "value": 1,
    "name": "lung",
    "colour": [197, 165, 145],
    "terminology": {
        "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"},
        "type": {"scheme": "SCT", "value": "39607008", "meaning": "Lung"},
    },
}
SIZE = 64  # pixels a side: a sixteenth of the work of the bundle's 256


def small_ct(case: str = "LCTSC_008", slices: int = 4, kind: str = "images") -> sitk.Image:
    """Evenly spaced slices of a sample volume, 250 mm around its middle: a real chest, int16 HU, 64 x 64 pixels."""
    image = sitk.ReadImage(str(LUNG / "sample" / kind / f"{case}.nii.gz"))
    return image[64:192:2, 52:180:2, 2 : 2 + 4 * slices : 4]


def write_troubled(folder: Path) -> dict[str, str]:
    """Write images that must be refused, through whichever way they come in.

    Returns:
        Path of each, relative to ``folder``, and words of its sentence.
    """
    series = folder / "series"
    series.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    ct = sitk.Cast(small_ct(slices=3), sitk.sitkInt16)
    for z in range(3):
        one = ct[:, :, z]
        place = {"0020|0032": f"0\\0\\{5 * z}", "0020|0037": "1\\0\\0\\0\\1\\0"}
        names = {"0008|0060": "CT", "0020|000d": "1.2.2", "0020|000e": "1.2.3", "0008|0018": f"1.2.3.{z + 1}"}
        for tag, value in (names | place).items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"IM{z}.dcm"))
        writer.Execute(one)
    (series / "IM3.dcm").write_bytes(b"")
    header = "NRRD0005\ntype: int16\ndimension: 3\nsizes: 32 32 2\nendian: little\nencoding: {}\n{}\n"
    voxels = bytes(2 * 32 * 32 * 2)
    (folder / "unmeasured.nrrd").write_bytes(header.format("raw", "").encode() + voxels)
    (folder / "packed.nrrd").write_bytes(header.format("bzip2", "spacings: 8 8 5\n").encode() + voxels)
    sitk.WriteImage(ct, str(folder / "half%.mhd"))  # whose voxels ITK does not write as half%.raw
    return {
        "series": "IM3.dcm",  # a part of a series may not be lost
        "unmeasured.nrrd": "does not say how large its voxels are",  # no one measured 1 mm
        "packed.nrrd": "expected raw, gzip, ascii or hex",  # not damaged, but packed otherwise
        "half%.mhd": "ITK treats the % in the name",  # nor is this one damaged
    }


def write_dataset(folder: Path) -> Path:
    """A data folder as `prepare` writes it: two cases for training, one for validation, one for test."""
    cases = {"training": ["LCTSC_000", "LCTSC_001"], "validation": ["LCTSC_006"], "test": ["LCTSC_008"]}
    datalist: dict[str, list[dict[str, str]]] = {}
    for split, names in cases.items():
        datalist[split] = [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]
        for name in names:
            for kind in ("images", "labels"):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                sitk.WriteImage(small_ct(name, kind=kind), str(folder / kind / f"{name}.nii.gz"))
    (folder / "datalist.json").write_text(json.dumps(datalist), encoding="utf-8")
    return folder


def write_random_weights(path: Path, seed: int = 0) -> Path:
    """Weights that call about half of the voxels of `small_ct` lung, without any sense."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = R2UNet(channels=(16, 32, 64, 128)).eval()
    image = torch.from_numpy(sitk.GetArrayFromImage(small_ct()))[:, None].float()
    with torch.no_grad():
        logits = network((image + 1000).clamp(0, 1400) / 1400)
        assert network.head.bias is not None
        network.head.weight /= logits.std()
        network.head.bias += (network.head.bias - logits.median()) / logits.std() - network.head.bias
    torch.save(network.state_dict(), path)
    return path


def copy_bundle(folder: Path) -> Path:
    """A folder with the bundle `lung` as it is shipped, but with random weights, and working on 64 x 64 pixels.

    It has one label: sides of what random weights find mean nothing. And it says nothing of the extents that it was
    tested on: the images of these tests are smaller than any patient.
    """
    root = folder / "lung"
    shutil.copytree(LUNG / "configs", root / "configs")
    inference, metadata = (json.loads((root / "configs" / name).read_text()) for name in ("inference.json", METADATA))
    inference["slice_size"] = SIZE
    steps = inference["postprocessing"]["transforms"]
    steps[:] = [step for step in steps if "SplitSides" not in step["_target_"]]
    metadata["labels"] = [ONE_LABEL]
    metadata["weights"] = {"file": "models/model.pt", "sha256": None, "licence": "none"}
    del metadata["network_data_format"]["inputs"]["image"]["scale"]["tested_extent_mm"]
    for name, content in (("inference.json", inference), (METADATA, metadata)):
        (root / "configs" / name).write_text(json.dumps(content), encoding="utf-8")
    (root / "models").mkdir()
    write_random_weights(root / "models" / "model.pt")
    return folder
