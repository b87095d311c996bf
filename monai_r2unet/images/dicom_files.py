"""Which files are DICOM images, and whether their headers can be given to GDCM."""

from __future__ import annotations

import mimetypes
import mmap
import re
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

from monai_r2unet.errors import InputError
from monai_r2unet.images.formats import READERS

__all__ = [
    "ARCHIVES",
    "DEFLATED",
    "Chosen",
    "can_be_decoded",
    "check_sound",
    "contents",
    "is_chosen",
    "is_dicom",
    "may_hold_image",
    "series_files",
    "transfer_syntax",
    "unreadable",
]

ENDINGS = (".dcm", ".dicom", ".ima")
FILE_META = 4096  # bytes that hold the file meta information, where the SOP class is written
SOP_CLASS = re.compile(rb"(?:\x02\0\x02\0|\x08\0\x16\0)(?:UI..|....)([0-9.]+)", re.DOTALL)
TRANSFER_SYNTAX = re.compile(rb"\x02\0\x10\0UI..([0-9.]+)", re.DOTALL)
# DICOMDIR, waveforms, presentation states, reports, documents, raw data, registrations, and radiotherapy objects
# except images and doses; and the private raw data of Siemens and Philips: often stored beside the slices, without
# pixels.
NO_IMAGE = re.compile(
    r"1\.2\.840\.10008\.(1\.3\.10|5\.1\.4\.1\.1\.((9|11|88|104)\..+|66(?!\.4$).*|67|481\.(?![12]$).+))"
    r"|1\.3\.12\.2\.1107\.5\.9\.1|1\.3\.46\.670589\.(2\.[458]|5\.0|11\.0\.0\.12)\..+"
)
# What a series' folder may hold beside its slices, by its name; any other file must be text to be left out.
BESIDE = (*READERS, ".raw", ".zraw", ".db", ".dll", ".exe", ".inf", ".ini", ".lnk", ".log")
NAMED = mimetypes.MimeTypes()  # Python's own table, without those of the system
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".iso")  # they may hold slices
BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")

# Value representations with explicit encoding, and those with a four-byte length after two reserved bytes.
KINDS = re.compile("A[EST]|CS|D[AST]|F[DL]|IS|L[OT]|O[BDFLVW]|PN|S[HLQSTV]|TM|U[CILNRSTV]")
LONG = re.compile("O[BDFLVW]|S[QV]|U[CNRTV]")
OTHER_ENCODING = re.compile(rb"1\.2\.840\.10008\.1\.2\.(2|1\.99)\0?\x02")  # big endian or deflated
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = 2**32 - 1  # length of elements that end with a delimiter

ITEMS = re.compile(rb"(?:\xfe\xff(?:(\0)|\x0d)\xe0|\xff\xfe\xe0(?:(\0)|\x0d))(....)", re.DOTALL)  # begin or end of one
DEEPEST = 64  # sequences in sequences; images have three or four
INFLATED = 1 << 30  # bytes of a deflated data set

# Encodings that GDCM decodes: none, deflated, JPEG, JPEG-LS, JPEG 2000, RLE.
DECODED = re.compile(
    r"1\.2\.840\.10008\.1\.2(\.1|\.2|\.1\.99|\.4\.(5\d|6\d|70|80|81|90|91)|\.5)?|1\.2\.840\.113619\.5\.2|"
)
UNREAD = re.compile(
    rb"\xe0\x7f[\x08\x09]\0O[FD]\0\0|[(]\0\0\x01(?:US\x02\0|\x02\0\0\0)@\0"
)  # floats; 64 bits allocated
CODECS = {"1.2.840.10008.1.2.4.20": "High-Throughput JPEG 2000", "1.2.840.10008.1.2.4.11": "JPEG XL"}


Chosen = str | Collection[str] | None  # names of series


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by the letters DICM at byte 128, its first element, or its ending."""
    start = _start_of(path)
    return start[128:132] == b"DICM" or path.name.lower().endswith(ENDINGS) or _begins_with_an_element(start)


def may_hold_image(path: Path) -> bool:
    """Whether the class of a DICOM file is one of images, or is not stated at its beginning."""
    sop_class = SOP_CLASS.search(_start_of(path))
    return sop_class is None or not NO_IMAGE.fullmatch(sop_class[1].decode("ascii"))


def is_chosen(series: Chosen, uid: str, description: str) -> bool:
    """Whether a series is (one of) those named, by its UID or its description; without names every one is."""
    names = (series,) if isinstance(series, str) else series
    return names is None or uid in names or description in names


def series_files(folder: Path) -> list[Path]:
    """The DICOM images of a folder, by name, without its subfolders, hidden files and files that are not images.

    Raises:
        InputError: a file may be one of the slices, but is damaged, compressed, hidden or cannot be opened. A series
            without it would be cut short.
    """
    found: list[Path] = []
    others: list[Path] = []
    doubts: dict[Path, str] = {}
    for path in sorted(path for path in folder.iterdir() if not path.is_dir()):
        try:
            hidden = path.name.startswith(".")
            dicom = path.is_file() and not hidden and is_dicom(path)
            doubt = _doubt_of_hidden(path) if hidden else None if dicom else _doubt(path)
        except OSError as error:
            dicom, doubt = False, f"cannot be opened ({error.strerror})"
        if dicom and may_hold_image(path):
            found.append(path)
        if doubt:
            doubts[path] = doubt
        elif not dicom and path.is_file():
            others.append(path)
    named = {_pattern(path) for path in found}
    doubts |= {path: "is not DICOM" for path in others if _pattern(path) in named}
    doubtful = [f"{path} may be one of the slices, but it {doubts[path]}" for path in sorted(doubts)]
    if doubtful:
        rest = len(doubtful) - 1
        more = f" (and {rest} more file{'s' * (rest > 1)} like it)" if rest else ""
        raise InputError(f"{doubtful[0]}{more}: copy the series again from its source, or move what is not a slice")
    return found


def check_sound(path: Path) -> None:
    """Check what GDCM does not: lengths that do not fit the file cost it minutes, and deep nesting ends the process.

    Raises:
        InputError: the lengths in the file meta information and of the first elements after it do not fit the file, or
            its sequences are nested more than 64 times.
    """
    if not _has_sound_beginning(path):
        raise InputError(f"the DICOM file {path} is damaged at its beginning: copy it again from its source")
    if path.stat().st_size and _depth(contents(path)) > DEEPEST:
        raise InputError(
            f"the DICOM file {path} has sequences that are nested more than {DEEPEST} times, which no image has: it is "
            "damaged, or made to crash programs that read it"
        )


def contents(path: Path) -> bytes | mmap.mmap:
    """The bytes of a DICOM file that is not empty, with its data set inflated."""
    if transfer_syntax(path) != DEFLATED:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data = path.read_bytes()
    length = re.search(rb"\x02\0\0\0UL\x04\0(....)", data[:FILE_META], re.DOTALL)
    begin = 144 + struct.unpack("<I", length[1])[0] if length else len(data)
    try:
        return data[:begin] + zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[begin:], INFLATED)
    except zlib.error:
        return data


def transfer_syntax(path: Path) -> str:
    """UID of the encoding of a DICOM file; empty if it is not stated."""
    found = TRANSFER_SYNTAX.search(_start_of(path))
    return "" if found is None else found[1].decode("ascii")


def can_be_decoded(syntax: str) -> bool:
    """Whether GDCM reads images of a transfer syntax, given by its UID; empty if it is not stated."""
    return DECODED.fullmatch(syntax) is not None


def unreadable(path: Path) -> InputError:
    """Why GDCM does not read a file."""
    syntax = transfer_syntax(path)
    if path.stat().st_size and UNREAD.search(contents(path)):
        return InputError(
            f"the DICOM file {path} stores pixels as floating-point numbers or in 64 bits, which cannot be read: "
            "convert it to NIfTI first"
        )
    if can_be_decoded(syntax):
        return InputError(
            f"the DICOM file {path} is damaged, truncated or without an image: copy it again from its source"
        )
    codec = next((f"{name}, " for uid, name in CODECS.items() if syntax.startswith(uid)), "")
    return InputError(
        f"the DICOM file {path} is compressed in a way that cannot be read ({codec}transfer syntax {syntax}), expected "
        "JPEG, JPEG-LS, JPEG 2000, RLE or no compression: decompress the series first"
    )


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_META)


def _begins_with_an_element(start: bytes) -> bool:
    """Whether a file begins like a data set without preamble: with group 2 or 8, in ascending order."""
    if len(start) < 16:
        return False
    group, element, length = struct.unpack_from("<HHI", start)
    explicit = KINDS.fullmatch(start[4:6].decode("latin-1")) is not None
    after = 8 + (struct.unpack_from("<H", start, 6)[0] if explicit else length)
    if group not in (2, 8) or element > 0x20 or after + 4 > len(start):
        return False
    return (group, element) < struct.unpack_from("<HH", start, after) < (0x21, 0)


def _pattern(path: Path) -> str:
    """The name of a file with every number replaced: the slices of a series often differ in these only."""
    return re.sub(r"\d+", "#", path.name)


def _doubt_of_hidden(path: Path) -> str | None:
    """Why a hidden file may be a slice: programs hide files until they are completely copied."""
    is_slice = path.is_file() and _start_of(path)[128:132] == b"DICM" and may_hold_image(path)
    return "is hidden, as files are while they are copied" if is_slice else None


def _doubt(path: Path) -> str | None:
    """Why a file that is not DICOM may nevertheless be a slice; None if it is known to be something else."""
    name = path.name.lower()
    if not path.exists():
        return "is a link to a file that is missing"
    if not path.is_file():  # a pipe, whose reader waits, or a device
        return None
    kind, compression = NAMED.guess_type(path.name)
    if name.endswith(BESIDE) or (kind is not None and kind != "application/octet-stream"):
        return None
    start = _start_of(path)
    if not start:
        return "is empty"
    if start[:2] == b"\x1f\x8b":
        return "is compressed with gzip"
    if compression is not None:
        return f"is compressed with {compression}"
    return "is damaged or of an unknown format" if BINARY.search(start) else None


def _has_sound_beginning(path: Path) -> bool:
    start, size = _start_of(path), path.stat().st_size
    at = 132
    if start[128:at] != b"DICM" or start[at : at + 8] == b"\2\0\0\0\4\0\0\0":  # none, or as a few programs write it
        return True
    while at + 12 <= len(start):
        (group,), kind = struct.unpack_from("<H", start, at), start[at + 4 : at + 6].decode("latin-1")
        if LONG.fullmatch(kind):
            at, length = at + 12, struct.unpack_from("<I", start, at + 8)[0]
        elif KINDS.fullmatch(kind):
            at, length = at + 8, struct.unpack_from("<H", start, at + 6)[0]
        else:  # implicit encoding, which is not allowed in the meta information
            at, length = at + 8, struct.unpack_from("<I", start, at + 4)[0]
        if group != 2:  # the data set begins, with group 8 if there is no meta information
            known = OTHER_ENCODING.search(start) is None
            return (at > 144 or group == 8) and (not known or length == UNDEFINED or at + length <= size)
        if not KINDS.fullmatch(kind) or at + length > size:
            return False
        at += length
    return True


def _depth(data: bytes | mmap.mmap) -> int:
    """Greatest number of sequence items that lie within each other, in any encoding."""
    ends: list[float] = []  # of the items around the current one; inf for those that end with a delimiter
    deepest = 0
    for item in ITEMS.finditer(data):
        while ends and ends[-1] <= item.start():
            ends.pop()
        if item[1] is None and item[2] is None:
            if ends and ends[-1] == float("inf"):
                ends.pop()
            continue
        (length,) = struct.unpack("<I" if item[1] is not None else ">I", item[3])
        ends.append(float("inf") if length == UNDEFINED else item.end() + length)
        deepest = max(deepest, len(ends))
    return deepest
