"""The worker, as a process at the end of two pipes: what Slicer and the viewer see of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import __version__
from monai_r2unet.apps.worker.protocol import Request, read_command, request_of
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.slices import axial_axis, put_slices, take_slices
from tests.apps.worker.worker_process import Client
from tests.helpers.arrays import values
from tests.helpers.lung_examples import small_ct, write_random_weights

# ---- what it does ----------------------------------------------------------------------------------------------------


def test_it_says_what_it_can_do(client: Client) -> None:
    assert client.ready["event"] == "ready"
    assert client.ready["version"] == __version__
    assert client.ready["protocol"] == 3
    (lung,) = client.ready["bundles"]
    assert (lung["name"], lung["weights"], lung["licence"]) == ("lung", "present", "none")
    assert [label["name"] for label in lung["labels"]] == ["lung"]
    assert "R2U-Net" in lung["title"]
    assert lung["limits"].startswith("Not a medical device")


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".nrrd"])
def test_a_run_tells_its_progress_and_writes_the_mask(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"mask{ending}"
    *before, done = client.run(job=ending, input=ct, output=str(output))
    progress = [event for event in before if event["event"] == "progress"]
    assert client.devices[-1] == {"id": "cpu", "name": "CPU"}
    for device in client.devices[:-1]:
        assert device["id"].startswith("cuda:")
        assert 0 < device["free_bytes"] <= device["total_bytes"]
    assert progress == [{"event": "progress", "job": ending, "done": z, "total": 4} for z in range(1, 5)]
    assert {key: done[key] for key in ("event", "job", "output", "voxels", "warnings")} == {
        "event": "done",
        "job": ending,
        "output": str(output),
        "voxels": np.count_nonzero(expected),
        "warnings": [],
    }
    assert done["millilitres"] == pytest.approx(np.count_nonzero(expected) * np.prod(small_ct().GetSpacing()) / 1000)
    assert set(done["seconds"]) == {"read", "load", "prepare", "infer", "restore", "write"}
    mask = sitk.ReadImage(str(output))
    np.testing.assert_array_equal(values(mask), expected)
    assert same_grid(mask, small_ct())
    assert mask.HasMetaDataKey("Segment0_Tags") == (ending == ".seg.nrrd")


def test_the_bundle_stays_loaded_until_another_is_asked_for(
    client: Client, ct: str, expected: np.ndarray, tmp_path: Path
) -> None:
    def loads(**content: Any) -> int:
        return sum(event["event"] == "log" for event in client.run(input=ct, overwrite=True, **content))

    output = str(tmp_path / "mask.nrrd")
    loads(output=output)
    assert loads(output=output) == 0
    weights = write_random_weights(tmp_path / "own.pt", seed=1)
    assert loads(output=output, weights=str(weights)) == 1
    assert (values(sitk.ReadImage(output)) != expected).any()
    assert loads(output=output, weights=str(weights)) == 0
    write_random_weights(weights, seed=2)
    assert loads(output=output, weights=str(weights)) == 1  # trained further
    assert loads(output=output, batch_size=3) == 1
    np.testing.assert_array_equal(values(sitk.ReadImage(output)), expected)


@pytest.mark.parametrize("axes", ["LPS", "RAI", "PIR"])
def test_a_preview_has_only_the_slices_asked_for_and_keeps_islands(client: Client, tmp_path: Path, axes: str) -> None:
    stored = sitk.DICOMOrient(small_ct(), axes)
    sitk.WriteImage(stored, str(tmp_path / "ct.nrrd"))
    client.run(input=str(tmp_path / "ct.nrrd"), output=str(tmp_path / "complete.nrrd"), clean_up=False)
    whole = values(sitk.ReadImage(str(tmp_path / "complete.nrrd")))
    output = str(tmp_path / "preview.seg.nrrd")
    events = client.run(input=str(tmp_path / "ct.nrrd"), output=output, slices=[2, 0])
    assert [(e["done"], e["total"]) for e in events if e["event"] == "progress"] == [(1, 2), (2, 2)]
    got = sitk.ReadImage(output)
    assert same_grid(got, stored)
    axis = {"LPS": 0, "RAI": 0, "PIR": 1}[axes]  # of the array, which is Z, Y, X
    wanted = np.zeros_like(whole)
    for index in (0, 2):
        np.moveaxis(wanted, axis, 0)[index] = np.moveaxis(whole, axis, 0)[index]
    np.testing.assert_array_equal(values(got), wanted)
    assert events[-1]["voxels"] == np.count_nonzero(wanted)


def test_cancelling_ends_all_that_was_asked_for_before_and_leaves_nothing(
    client: Client, ct: str, long: str, expected: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nrrd").write_text("old")
    for job, source in enumerate([long, ct], start=1):
        client.send(
            "run", job=job, bundle="lung", device="cpu", input=source, output=str(out / "a.nrrd"), overwrite=True
        )
    client.until("progress")
    client.send("cancel")
    client.send("run", job=3, bundle="lung", device="cpu", input=ct, output=str(out / "c.nrrd"))
    events = client.until("cancelled")
    assert len(events) <= 5, "more slices than what was under way and in the pipe"
    assert events[-1]["job"] == 1
    assert [event["job"] for event in client.until("cancelled")] == [2]
    assert {event["job"] for event in client.until("done")} == {3}
    assert {path.name for path in out.iterdir()} == {"a.nrrd", "c.nrrd"}
    assert (out / "a.nrrd").read_text() == "old"
    np.testing.assert_array_equal(values(sitk.ReadImage(str(out / "c.nrrd"))), expected)
    client.send("cancel")  # with nothing to cancel: no event, no harm
    assert client.run(input=ct, output=str(out / "d.nrrd"))[-1]["event"] == "done"


def test_a_folder_is_described_without_executing_anything(client: Client, bundles: Path, tmp_path: Path) -> None:
    def describe(folder: object) -> dict[str, Any]:
        client.send("describe", job="b1", bundle=folder)
        event = client.next()
        assert event["job"] == "b1"
        return event

    own = tmp_path / "own"
    shutil.copytree(bundles / "lung", own)
    config = json.loads((own / "configs" / "inference.json").read_text())
    config["network_def"]["_target_"] = "monai_r2unet.networks.nets." + config["network_name"]
    (own / "configs" / "inference.json").write_text(json.dumps(config))
    event = describe(str(own))
    assert (event["event"], event["name"], event["unsafe"]) == ("bundle", str(own), None)
    shipped = next(one for one in client.ready["bundles"] if one["name"] == "lung")
    assert {key: event[key] for key in shipped if key != "name"} == {k: v for k, v in shipped.items() if k != "name"}

    config["imports"].append("$import this")
    (own / "configs" / "inference.json").write_text(json.dumps(config))
    assert "$import this" in describe(str(own))["unsafe"]
    metadata = json.loads((own / "configs" / "metadata.json").read_text())
    metadata |= {"name": ["a"], "limits": 3}
    metadata["network_data_format"]["inputs"]["image"]["scale"] = "400"
    (own / "configs" / "metadata.json").write_text(json.dumps(metadata))
    event = describe(str(own))
    assert (event["title"], event["limits"], event["scale"]) == ("['a']", "3", {})

    assert describe(str(bundles / "lung"))["unsafe"] is None
    for folder, words in (
        (str(tmp_path), "is not a bundle, expected a folder with configs/inference.json"),
        ("lung\0", "is not a bundle"),
        ("x" * 5000, "name too long"),
        (None, "bundle is None, expected the path of a folder"),
    ):
        event = describe(folder)
        assert event["event"] == "error"
        assert words in event["message"]


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_commands_are_checked() -> None:
    run = {"cmd": "run", "bundle": "lung", "input": "a", "output": "b"}
    assert request_of(read_command(json.dumps(run | {"slices": [1], "job": [7]}).encode())) == Request(
        "lung", "a", "b", job=[7], slices=[1]
    )
    bad: dict[str, Any] = {
        "input": 3,
        "bundle": None,
        "slices": 4,
        "overwrite": 1,
        "cpu_fallback": "yes",
        "trust_bundle": 1,
        "batch_size": 0,
        "weights": False,
        "colour": "red",
    }
    for name, value in bad.items():
        with pytest.raises(InputError, match=name):
            request_of(run | {name: value})
    for slices in ([1.0], [True], ["1"]):
        with pytest.raises(InputError, match=r"expected list\[int\]"):
            request_of(run | {"slices": slices})


@pytest.mark.parametrize("spoil", [[], [1, 1], [-1], [4]])
def test_slices_must_be_there(spoil: list[int]) -> None:
    with pytest.raises(InputError, match="from 0 to 3"):
        take_slices(small_ct(), spoil)
    with pytest.raises(InputError, match="2D picture"):
        take_slices(small_ct()[:, :, 0], [0])


def test_slices_of_colour_and_of_every_order_come_back_where_they_were() -> None:
    array = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    image = sitk.GetImageFromArray(array, isVector=True)
    np.testing.assert_array_equal(values(take_slices(image, [2, 0])), array[[2, 0]])
    for axes, axial in {"LPS": 2, "ARI": 2, "SPL": 0, "PSL": 1}.items():
        mask = sitk.DICOMOrient(sitk.GetImageFromArray((array[..., 0] % 7).astype(np.uint8)), axes)
        assert axial_axis(mask) == axial
        everything = list(range(mask.GetSize()[axial]))
        np.testing.assert_array_equal(values(put_slices(take_slices(mask, everything), everything, mask)), values(mask))
