"""The worker's protocol: what a request may hold, and that both ends of the line agree."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from monai_r2unet.apps.worker import protocol
from monai_r2unet.apps.worker.protocol import FIELDS, REQUIRED, Request, request_of
from monai_r2unet.errors import InputError

MINIMAL = {"bundle": "lung", "input": "ct.nrrd", "output": "lung.nrrd"}


def test_the_table_of_checks_has_every_part_of_a_request() -> None:
    parts = dataclasses.fields(Request)
    assert list(FIELDS) == [part.name for part in parts]
    assert list(REQUIRED) == [part.name for part in parts if part.default is dataclasses.MISSING]
    for part in parts[len(REQUIRED) :]:  # a default can be sent as well
        assert getattr(request_of({**MINIMAL, part.name: part.default}), part.name) == part.default


@pytest.mark.parametrize("name", ["bundle", "input", "output", "device", "overwrite", "trust_bundle", "engine"])
def test_what_has_no_null_refuses_null(name: str) -> None:
    with pytest.raises(InputError, match=rf"not a valid run: {name} is None, expected (str|bool)$"):
        request_of({**MINIMAL, name: None})


@pytest.mark.parametrize("scale", [0.5, 2, "1400px", None])
def test_a_scale_is_a_number_a_text_or_null(scale: float | str | None) -> None:
    assert request_of({**MINIMAL, "scale": scale}).scale == scale


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("scale", True, "float | str | None"),
        ("scale", [0.5], "float | str | None"),
        ("batch_size", True, "int | None"),
        ("batch_size", 2.0, "int | None"),
        ("slices", 3, "list[int] | None"),
        ("slices", [1, True], "list[int] | None"),
        ("overwrite", 1, "bool"),
        ("clean_up", None, "bool"),
        ("weights", 5, "str | None"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        request_of({**MINIMAL, name: value})
    assert str(caught.value) == f"not a valid run: {name} is {value!r}, expected {expected}"


def test_slicer_has_the_constants_of_the_worker(repository: Path) -> None:
    """Its modules run in Slicer's Python, where this package need not be installed, and so have copies of them."""
    extension = repository / "slicer_extension"
    client = constants(extension / "R2UNet" / "R2UNetLib" / "worker_client.py")
    assert (client["MARK"], client["PROTOCOL"]) == (protocol.MARK, protocol.PROTOCOL)
    assert constants(extension / "R2UNetCLI" / "R2UNetCLI.py")["MARK"] == protocol.MARK


def constants(path: Path) -> dict[str, Any]:
    """The constants that a module sets, by their names, without importing it."""
    return {
        target.id: statement.value.value
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
