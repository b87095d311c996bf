"""The node's settings: a JSON file, checked completely before anything starts."""

from __future__ import annotations

import dataclasses
import fnmatch
import ipaddress
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_r2unet.bundle import find_bundle
from monai_r2unet.errors import InputError

__all__ = ["OUTPUTS", "Archive", "Limits", "Page", "Rule", "Seconds", "Sender", "Series", "Settings", "read_settings"]

OUTPUTS = {"seg": ".dcm", "rtstruct": ".rtstruct.dcm"}  # and the ending by which a mask gets that format
HIGHEST_PORT = 65535
LONGEST_TITLE = 16  # characters of an application entity's title


@dataclass(frozen=True)
class Sender:
    """Who may send: both must fit.

    Args:
        ae_title: Title of the calling application entity.
        address: IP address, or a network such as ``10.1.0.0/16``.
    """

    ae_title: str
    address: str

    def __post_init__(self) -> None:
        _check_title(self.ae_title)
        try:
            ipaddress.ip_network(self.address)
        except ValueError as error:
            raise InputError(f"address is {self.address!r}, expected an IP address or a network ({error})") from error

    def is_at(self, address: str) -> bool:
        """Whether a client's IP address is this sender's."""
        client = ipaddress.ip_address(address)
        mapped = getattr(client, "ipv4_mapped", None)  # as a socket for both versions shows it
        return (mapped or client) in ipaddress.ip_network(self.address)


@dataclass(frozen=True)
class Archive:
    """Where the results go."""

    ae_title: str
    address: str
    port: int

    def __post_init__(self) -> None:
        _check_title(self.ae_title)
        _check_port(self.port)


@dataclass(frozen=True)
class Series:
    """What rules look at, as the header of one slice states it, and the number of slices."""

    modality: str
    body_part: str
    series_description: str
    slices: int


@dataclass(frozen=True)
class Rule:
    """Which series get segmented by which bundle; the first rule that fits counts.

    Args:
        bundle: Name or folder of the bundle.
        output: ``seg`` or ``rtstruct``.
        modality: Pattern for Modality, in which ``*`` stands for any letters; upper and lower case are the same.
        body_part: Pattern for BodyPartExamined.
        series_description: Pattern for SeriesDescription.
        slices: Least and greatest number of slices.
        trust_bundle: Allow the folder of a bundle that is not shipped, although its configuration can execute any code.
    """

    bundle: str
    output: str = "seg"
    modality: str = "*"
    body_part: str = "*"
    series_description: str = "*"
    slices: tuple[int, int] = (1, 100_000)
    trust_bundle: bool = False

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise InputError(f"output is {self.output!r}, expected {' or '.join(OUTPUTS)}")
        if not 1 <= self.slices[0] <= self.slices[1]:
            raise InputError(f"slices is {list(self.slices)}, expected the least number, 1 or more, and the greatest")
        find_bundle(self.bundle, trusted=self.trust_bundle)

    def fits(self, series: Series) -> bool:
        """Whether a series is one of those to segment."""
        return self.slices[0] <= series.slices <= self.slices[1] and all(
            fnmatch.fnmatchcase(getattr(series, name).upper(), getattr(self, name).upper())
            for name in ("modality", "body_part", "series_description")
        )


@dataclass(frozen=True)
class Limits:
    """How much may arrive; what goes beyond is refused as "out of resources", and its series is not segmented.

    Args:
        object_mb: Largest DICOM object, in 10^6 bytes.
        slices: Most objects of a series.
        series: Most series that are being received or wait.
        free_gb: Space of the disk that stays free, in 10^9 bytes.
        associations: Most senders at a time.
    """

    object_mb: int = 64
    slices: int = 5000
    series: int = 1000
    free_gb: float = 2.0
    associations: int = 10


@dataclass(frozen=True)
class Seconds:
    """When a series counts as complete.

    Args:
        after_release: Seconds without a slice after its last sender has closed the association properly.
        after_silence: The same while the association stays open, or after the node was killed.
    """

    after_release: float = 5.0
    after_silence: float = 60.0


@dataclass(frozen=True)
class Page:
    """Where the page of what is under way is served; port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 8042

    def __post_init__(self) -> None:
        _check_port(self.port)


@dataclass(frozen=True)
class Settings:
    """All of the file; see the classes of its parts.

    Args:
        ae_title: Title of this node, by which senders have to call it.
        spool: Folder for what is under way and the records of what is done; created if missing.
        senders: Who may send.
        archive: Where the results go.
        rules: What is segmented.
        host: Address to listen on.
        port: Port to listen on.
        device: Device that segments.
        log_patients: Whether log and page may name patients.
    """

    ae_title: str
    spool: str
    senders: tuple[Sender, ...]
    archive: Archive
    rules: tuple[Rule, ...]
    host: str = "0.0.0.0"
    port: int = 11112
    device: str = "auto"
    log_patients: bool = False
    limits: Limits = field(default_factory=Limits)
    seconds: Seconds = field(default_factory=Seconds)
    page: Page = field(default_factory=Page)

    def __post_init__(self) -> None:
        _check_title(self.ae_title)
        _check_port(self.port)
        for name in ("senders", "rules"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty, expected at least one")


def read_settings(path: Path) -> Settings:
    """Read and check the settings; a relative spool lies beside the file.

    Raises:
        InputError: no such file, or something in it is missing, unknown, of the wrong type or impossible.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the settings {path} cannot be read ({error.strerror}): check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the settings {path} are not JSON ({error}): correct the file") from error
    try:
        settings: Settings = _made(Settings, content, "")
    except InputError as error:
        raise InputError(f"the settings {path} cannot be used: {error.message}") from error
    return dataclasses.replace(settings, spool=str(path.absolute().parent / settings.spool))


def _made(kind: Any, content: Any, where: str) -> Any:
    """The object of a dataclass that an object of JSON describes; ``where`` it stands names it in messages."""
    place = where or "the file"
    if not isinstance(content, Mapping):
        raise InputError(f"{place} is {content!r}, expected an object")
    types = typing.get_type_hints(kind)
    fields = {part.name: part for part in dataclasses.fields(kind)}
    unknown = sorted(content.keys() - fields.keys())
    if unknown:
        raise InputError(f"{place} has {', '.join(map(repr, unknown))}, expected {', '.join(fields)}")
    for name, part in fields.items():
        needed = part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
        if needed and name not in content:
            raise InputError(f"{place} has no {name}")
    parts = {name: _value(types[name], value, f"{where}.{name}".lstrip(".")) for name, value in content.items()}
    try:
        return kind(**parts)
    except InputError as error:
        sentence = error.spelled(_as_json)
        raise InputError(f"{where}: {sentence}" if where else sentence) from error


def _as_json(option: str, value: object) -> str:
    """An option as it stands in the file."""
    return f'"{option}": {json.dumps(value)}'


def _value(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as a field's type has it."""
    if dataclasses.is_dataclass(kind):
        return _made(kind, value, where)
    if typing.get_origin(kind) is tuple:
        inner, second = typing.get_args(kind)
        if not isinstance(value, list) or (second is not Ellipsis and len(value) != 2):
            raise InputError(f"{where} is {value!r}, expected a list{' of two' * (second is not Ellipsis)}")
        return tuple(_value(inner, one, f"{where}[{number}]") for number, one in enumerate(value))
    accepted: Sequence[type] = {float: (int, float)}.get(kind, (kind,))
    if not isinstance(value, tuple(accepted)) or (isinstance(value, bool) and kind is not bool):
        names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise InputError(f"{where} is {value!r}, expected {names[kind]}")
    if isinstance(value, int | float) and not value >= 0:  # nor is it NaN
        raise InputError(f"{where} is {value!r}, expected 0 or more")
    return value


def _check_title(title: str) -> None:
    if not (title.strip() == title and 1 <= len(title) <= LONGEST_TITLE and title.isascii() and title.isprintable()):
        raise InputError(f"ae_title is {title!r}, expected 1 to {LONGEST_TITLE} plain letters without blanks around")


def _check_port(port: int) -> None:
    if port > HIGHEST_PORT:
        raise InputError(f"port is {port}, expected at most {HIGHEST_PORT}")
