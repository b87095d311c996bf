"""The schemas in the reference: real reports and real lines of the worker fit them, and wrong ones do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from monai_r2unet.apps.cli.main import main
from monai_r2unet.apps.worker.protocol import FIELDS, MARK, PROTOCOL, REQUIRED
from monai_r2unet.images.writing import write_image
from tests.apps.worker.worker_process import Client
from tests.helpers.lung_examples import copy_bundle, small_ct

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(copy_bundle(tmp_path_factory.mktemp("bundles")) / "lung")


def schema(repository: Path, name: str) -> Any:
    """A validator, whose schema is valid itself."""
    content = json.loads((repository / "docs" / "reference" / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_reports_fit(repository: Path, bundle: str, tmp_path: Path) -> None:
    """Of an image, of a photograph, and of a folder of which one case is done, one failed and one was there before."""
    reports = schema(repository, "report")
    cases, report = tmp_path / "cases", tmp_path / "report.json"
    cases.mkdir()
    write_image(small_ct(slices=2), cases / "a.nrrd")
    options = ["--bundle", bundle, "--trust-bundle", "--device", "cpu", "--report", str(report)]
    assert main(["segment", str(cases / "a.nrrd"), str(tmp_path / "a.nrrd"), *options]) == 0
    image = json.loads(report.read_text())
    reports.validate(image)
    assert not reports.is_valid({**image, "voxels": 0.5})
    assert not reports.is_valid({name: value for name, value in image.items() if name != "weights_sha256"})

    report.unlink()
    assert main(["segment", str(cases), str(tmp_path / "masks"), *options]) == 0
    write_image(small_ct(slices=1), cases / "b.nrrd")
    (cases / "c.nrrd").write_bytes(b"damaged")
    options += ["--qc", str(tmp_path / "qc")]
    assert main(["segment", str(cases), str(tmp_path / "masks"), *options]) == 3
    cohort = json.loads(report.read_text())
    reports.validate(cohort)
    assert [case["status"] for case in cohort["cases"]] == ["done", "done", "failed"]
    assert not reports.is_valid({**cohort, "cases": [{**cohort["cases"][0], "status": "well"}]})

    report.unlink()
    photograph = min((repository / "bundles" / "skin" / "sample" / "images").iterdir())
    options = ["--bundle", "skin", "--device", "cpu", "--report", str(report)]
    assert main(["segment", str(photograph), str(tmp_path / "lesion.png"), *options]) == 0
    reports.validate(json.loads(report.read_text()))


def test_the_lines_of_the_worker_fit(repository: Path, bundle: str, tmp_path: Path) -> None:
    lines = schema(repository, "worker")
    write_image(small_ct(slices=2), tmp_path / "ct.nrrd")
    client = Client([sys.executable, "-m", "monai_r2unet.worker"])
    run = {"cmd": "run", "bundle": bundle, "trust_bundle": True, "input": str(tmp_path / "ct.nrrd"), "device": "cpu"}
    commands = [
        {**run, "job": 1, "output": str(tmp_path / "mask.seg.nrrd")},
        {**run, "job": 2, "output": str(tmp_path / "mask.bmp")},
        {"cmd": "describe", "job": [3], "bundle": bundle},
        {"cmd": "cancel"},
    ]
    events = [client.ready]
    for command, last in zip(commands[:3], ("done", "error", "bundle"), strict=True):
        lines.validate(command)
        client.say(json.dumps(command))
        events += client.until(last)
    lines.validate(commands[3])
    assert not lines.is_valid({**commands[0], "slices": 3})
    assert not lines.is_valid({**commands[0], "colour": "red"})
    client.send("quit")
    events.append({"event": "devices", "devices": client.devices})
    for event in events:
        lines.validate(event)
    assert {event["event"] for event in events} >= {"ready", "devices", "log", "progress", "done", "error", "bundle"}
    assert not lines.is_valid({**events[-2], "event": "over"})


def test_the_schema_has_the_fields_of_the_protocol(repository: Path) -> None:
    parts = schema(repository, "worker").schema["$defs"]
    assert list(parts["run"]["properties"]) == ["cmd", *FIELDS]
    assert parts["run"]["required"] == ["cmd", *REQUIRED]
    assert parts["ready"]["properties"]["protocol"]["const"] == PROTOCOL
    assert MARK in schema(repository, "worker").schema["description"]
