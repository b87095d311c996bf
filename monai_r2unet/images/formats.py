"""The file formats of images, each read completely or refused. ITK alone does not ensure this: it skips checksums."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from monai_r2unet.errors import InputError
from monai_r2unet.images.checks import DEFLATE_LIMIT, by, check_length, check_shape, rigid, warn_of_thickness
from monai_r2unet.images.grid import axes_in_mm
from monai_r2unet.images.itk_paths import itk_path
from monai_r2unet.images.nifti import read_nifti
from monai_r2unet.images.photographs import ENDINGS as PHOTOGRAPHS
from monai_r2unet.images.photographs import read_photograph

__all__ = ["READERS", "files_of", "stem_of"]

CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")  # bytes that never occur in text
METAIMAGE_SERIES = re.compile(r"[^%]*%0?\d*[du][^%]* \d+ \d+ [1-9]\d*")  # a pattern, first, last and step
ENCODINGS = ("raw", "gzip", "gz", "ascii", "text", "txt", "hex")  # of NRRD; ITK has neither bzip2 nor zrl
# In each unit of NRRD and MetaImage, which by default is mm.
MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001, "millimeter": 1.0, "": 1.0, "?": 1.0}


# ---- NRRD and MetaImage ----------------------------------------------------------------------------------------------


class Declared(NamedTuple):
    """What a header says, that ITK does not check or does not tell."""

    data: tuple[Path, int, bool] | None  # file, first byte, and whether compressed; None leaves it to ITK
    spacings: list[float]  # of the axes in space; ITK takes 1 where there are none
    to_mm: float  # the header's unit
    header: bytes = b""  # of a file that ITK can only read joined with its data


def _read_itk(path: Path, image_io: str, declared_by: Callable[[Path], Declared]) -> sitk.Image:
    """Read with the named ITK reader, after checking that the pixel data are complete and their size is stated."""
    declared = declared_by(path)
    if declared.header and declared.data is not None:
        return _read_joined(path, declared.header, declared.data[0])
    if any(math.isinf(size) or size == 0 for size in declared.spacings):
        shown = by(declared.spacings)
        raise InputError(f"{path} has a voxel spacing of {shown} mm, expected positive numbers: correct it")
    with itk_path(path) as name:
        return _read_declared(path, name, image_io, declared)


def _read_declared(path: Path, name: str, image_io: str, declared: Declared) -> sitk.Image:
    """The same, of a file that ITK knows by `name`."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(name)
    reader.ReadImageInformation()
    check_shape(path, reader.GetSize())
    if declared.data is not None:
        file, offset, compressed = declared.data
        component = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        expected = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * component
        stored = file.stat().st_size - offset
        check_length(path, stored * (DEFLATE_LIMIT if compressed else 1), expected)
        check_length(path, _inflated_length(file, offset) if compressed else stored, expected, exactly=file == path)
    if len(declared.spacings) < min(reader.GetDimension(), 3):
        raise InputError(
            f"{path} does not say how large its voxels are, so nothing in it can be measured: write the spacing in mm "
            "into its header, or give its voxels to the Python API with their spacing"
        )
    image: sitk.Image = reader.Execute()
    while image.GetDimension() > 3:
        size = list(image.GetSize())
        submatrix = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        image = sitk.Extract(image, [*size[:-1], 0], [0] * len(size), submatrix)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
        warn_of_thickness(path, image)
    image.SetSpacing([size * declared.to_mm for size in image.GetSpacing()])
    image.SetOrigin([place * declared.to_mm for place in image.GetOrigin()])
    rigid(path, axes_in_mm(image), image.GetSize())
    return image


def _read_joined(path: Path, header: bytes, data: Path) -> sitk.Image:
    """Read a MetaImage whose data have a name that ITK takes for a pattern."""
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder) / "image.mha"
        joined.write_bytes(header)
        with joined.open("ab") as file, data.open("rb") as pixels:
            shutil.copyfileobj(pixels, file)
        try:
            return _read_itk(joined, "MetaImageIO", _metaimage_declared)
        except InputError as error:
            raise InputError(str(error).replace(str(joined), str(path))) from error


def _nrrd_declared(path: Path) -> Declared:
    """What the header of a NRRD says.

    Raises:
        InputError: if the header does not end, gives units that are unknown or differ between axes, or names an
            encoding that ITK does not decode.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            if not line.strip():
                break
            if CONTROL.search(line):  # already voxels: the empty line before them is damaged, which makes ITK crash
                raise InputError(f"{path} has a damaged header (it does not end): copy it again from its source")
            key, _, value = line.decode("latin-1").partition(":")
            fields[key.replace(" ", "").lower()] = value.strip()
        offset = file.tell()
    vectors = re.findall(r"\(([^()]*)\)", fields.get("spacedirections", ""))
    given = [float(np.linalg.norm(_numbers(vector.replace(",", " ")))) for vector in vectors]
    given = given or _numbers(fields.get("spacings", ""))
    names = re.findall(r'"([^"]*)"', fields.get("spaceunits") or fields.get("units", ""))
    units = {_to_mm(path, name) for name, size in zip(names, given, strict=False) if name and not math.isnan(size)}
    if len(units) > 1:
        raise InputError(f"{path} has axes in different units ({', '.join(names)}), expected mm: convert it first")
    found = Declared(None, [size for size in given if not math.isnan(size)], units.pop() if units else 1.0)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ENCODINGS:
        raise InputError(
            f"{path} is stored in a way that cannot be read (encoding {encoding or 'not stated'}), expected raw, gzip, "
            "ascii or hex: save it again"
        )
    compressed = encoding in ("gzip", "gz")
    if (encoding != "raw" and not compressed) or {"byteskip", "lineskip"} & fields.keys():
        return found
    name = fields.get("datafile")
    if name is None:
        return found._replace(data=(path, offset, compressed))
    if name.startswith("LIST") or "%" in name:
        return found
    return found._replace(data=(path.parent / _as_path(name), 0, compressed))


def _as_path(name: str) -> str:
    """A file name as it is on disk; headers are read as Latin-1, in which every byte is a character."""
    return os.fsdecode(name.encode("latin-1"))


def _metaimage_declared(path: Path) -> Declared:
    """What the header of a MetaImage says.

    Raises:
        InputError: if the header lacks a part of an entry, which ITK reports only on the terminal, gives an unknown
            unit, or names its data in a way that makes ITK crash.
    """
    fields: dict[str, str] = {}
    header = b""
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            key, *value = (part.strip() for part in re.split("[=:]", line.decode("latin-1"), maxsplit=1))
            fields[key] = "".join(value)
            if key == "ElementDataFile":
                break
            header += line
        offset = file.tell()
    name = fields.get("ElementDataFile", "")
    size = fields.get("ElementSpacing", fields.get("ElementSize"))
    spacings = _numbers(size or "")
    axes = int(fields["NDims"]) if fields.get("NDims", "").isdecimal() else 0
    parts = {"Offset": axes, "Position": axes, "Origin": axes, "TransformMatrix": axes**2, "Orientation": axes**2}
    usable = {
        **{field: len(fields[field].split()) == count for field, count in parts.items() if field in fields},
        "NDims": fields.get("NDims", "").isdecimal(),
        "DimSize": all(part.isdecimal() for part in fields.get("DimSize", "-").split()),
        "ElementType": fields.get("ElementType", "").startswith("MET_"),
        "ElementSpacing": size is None or str(sum(map(math.isfinite, spacings))) == fields.get("NDims"),
        "ElementDataFile": bool(name) and name.isprintable(),
    }
    bad = [field for field, good in usable.items() if not good]
    if bad:
        raise InputError(f"{path} has a damaged header ({', '.join(bad)}): copy it again from its source")
    found = Declared(None, spacings, _to_mm(path, fields.get("DistanceUnits", "")))
    series = METAIMAGE_SERIES.fullmatch(name) is not None
    if name.startswith("LIST") or series or fields.get("BinaryData", "True").lower() != "true":
        return found
    compressed = fields.get("CompressedData", "False").lower() == "true"
    if name.upper() == "LOCAL":
        return found._replace(data=(path, offset, compressed))
    data = path.parent / _as_path(name)
    found = found._replace(data=(data, 0, compressed))
    if "%" not in name:
        return found
    if not data.exists():  # MetaIO writes the slices over each other, under a name that went through C's printf
        raise InputError(
            f"{path} lacks its voxels: ITK treats the % in the name {name} as a pattern and loses slices when it "
            "writes them: save the image again as .nrrd, .mha or .nii.gz, or under a name without %"
        )
    return found._replace(header=header + b"ElementDataFile = LOCAL\n")


def _to_mm(path: Path, unit: str) -> float:
    """Millimetres in a header's unit."""
    if unit.lower() not in MILLIMETRES:
        known = ", ".join(filter(str.isalpha, MILLIMETRES))
        raise InputError(f"{path} gives sizes in {unit}, expected one of {known}: convert it first")
    return MILLIMETRES[unit.lower()]


def _numbers(text: str) -> list[float]:
    """The numbers of a header's entry; NaN for what is none."""
    numbers = []
    for part in text.split():
        try:
            numbers.append(float(part))
        except ValueError:
            numbers.append(math.nan)
    return numbers


def _inflated_length(path: Path, offset: int) -> int:
    """Decompress a zlib or gzip stream to its end, which verifies its checksum, and count the bytes."""
    stream, length = zlib.decompressobj(wbits=47), 0  # 47: either header
    with path.open("rb") as file:
        file.seek(offset)
        while not stream.eof and (chunk := file.read(1 << 16)):
            length += len(stream.decompress(chunk))
    if not stream.eof:
        raise EOFError(f"the compressed data end early, after {length} bytes")
    return length


HEADERS = {".nhdr": _nrrd_declared, ".mhd": _metaimage_declared}  # of files that hold no voxels

READERS: dict[str, Callable[[Path], sitk.Image]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".nrrd": partial(_read_itk, image_io="NrrdImageIO", declared_by=_nrrd_declared),
    ".nhdr": partial(_read_itk, image_io="NrrdImageIO", declared_by=_nrrd_declared),
    ".mha": partial(_read_itk, image_io="MetaImageIO", declared_by=_metaimage_declared),
    ".mhd": partial(_read_itk, image_io="MetaImageIO", declared_by=_metaimage_declared),
    **dict.fromkeys(PHOTOGRAPHS, read_photograph),
}


def files_of(path: Path) -> list[Path]:
    """The files of an image: its own and, where it is only a header, that of its voxels.

    Files that the header names as a list or by a pattern are left out, and so is one that is missing.
    """
    declared_by = HEADERS.get(path.suffix.lower())
    if declared_by is None:
        return [path]
    try:
        data = declared_by(path).data
        found = data is not None and data[0].exists()
    except (InputError, OSError, ValueError):  # whoever reads it says why
        return [path]
    return [path, data[0]] if data is not None and found else [path]


def stem_of(path: Path) -> str | None:
    """The name of an image's file without its ending, such as ``.nii.gz``; ``None`` of another file."""
    endings = [ending for ending in READERS if path.name.lower().endswith(ending)]
    return path.name[: -len(max(endings, key=len))] if endings else None
