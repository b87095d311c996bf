"""Small made-up files of the form in which DRIVE, STARE, CHASE_DB1 and ISIC 2017 are downloaded."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("training", "validation", "test")
SIZE = (40, 48)  # rows, columns
STARE_NAMES = [f"im{number:04d}" for number in (1, 2, 44, 77, 139)]


def disc(radius: float = 18) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return (y - SIZE[0] / 2) ** 2 + (x - SIZE[1] / 2) ** 2 < radius**2


def fundus(seed: int) -> np.ndarray:
    """A red disc with noise, before a nearly black background."""
    rng = np.random.default_rng(seed)
    red = np.where(disc(), rng.integers(90, 200, SIZE), rng.integers(0, 12, SIZE))
    return np.stack([red, red // 2, red // 4], axis=-1).astype(np.uint8)


def vessels(seed: int, high: int = 255) -> np.ndarray:
    return (high * (np.random.default_rng(1000 + seed).random(SIZE) > 0.8)).astype(np.uint8)


def encoded(array: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


Files = dict[str, bytes]


def drive_files() -> Files:
    files = {}
    for number in (*range(1, 4), *range(21, 26)):
        part = "test" if number < 20 else "training"
        files[f"{part}/images/{number:02d}_{part}.tif"] = encoded(fundus(number), "TIFF")
        files[f"{part}/mask/{number:02d}_{part}_mask.gif"] = encoded((255 * disc(19)).astype(np.uint8), "GIF")
        files[f"{part}/1st_manual/{number:02d}_manual1.gif"] = encoded(vessels(number), "GIF")
        if part == "test":
            files[f"{part}/2nd_manual/{number:02d}_manual2.gif"] = encoded(vessels(number + 50, 1), "GIF")
    return files


def stare_files() -> Files:
    files = {"stare-images/im0400.ppm.gz": gzip.compress(encoded(fundus(9), "PPM"))}  # one without masks
    for seed, name in enumerate(STARE_NAMES):
        files[f"stare-images/{name}.ppm.gz"] = gzip.compress(encoded(fundus(seed), "PPM"))
        files[f"labels-ah/{name}.ah.ppm.gz"] = gzip.compress(encoded(vessels(seed), "PPM"))
        files[f"labels-vk/{name}.vk.ppm.gz"] = gzip.compress(encoded(vessels(seed + 50), "PPM"))
    return files


def chase_files() -> Files:
    files = {}
    for seed, name in enumerate(f"Image_{number}{side}" for number in ("01", "09", "10", "11", "14") for side in "LR"):
        files[f"{name}.jpg"] = encoded(fundus(seed), "JPEG")
        files[f"{name}_1stHO.png"] = encoded(vessels(seed) > 0, "PNG")
        files[f"{name}_2ndHO.png"] = encoded(vessels(seed + 50) > 0, "PNG")
    return files


def skin_files(names: list[str], part: str = "Training") -> Files:
    files = {}
    for seed, name in enumerate(names):
        files[f"ISIC-2017_{part}_Data/{name}.jpg"] = encoded(fundus(seed), "JPEG")
        files[f"ISIC-2017_{part}_Data/{name}_superpixels.png"] = encoded(fundus(seed), "PNG")
        files[f"ISIC-2017_{part}_Part1_GroundTruth/{name}_segmentation.png"] = encoded(vessels(seed), "PNG")
    return files


SKIN_NAMES = ["ISIC_0000000", "ISIC_0000001", "ISIC_0000003", "ISIC_0000016"]


def unfold(files: Files, folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def zipped(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as pack:
        for name, content in files.items():
            pack.writestr(name, content)
    return stream.getvalue()


def tarred(files: Files) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as pack:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            pack.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
