"""Parts of the extension that need neither a worker nor a panel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest


def test_axial_slices_are_stacked_along_the_axis_that_the_worker_finds(app):
    """Over every axis order, every direction and many angles, beyond 45 degrees too."""
    from R2UNetLib.volumes import axial_axis

    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        for _ in range(20):
            turned, _triangle = np.linalg.qr(np.eye(3) + rng.uniform(0, 1.5) * rng.normal(size=(3, 3)))
            matrix = np.eye(4)
            matrix[:3, :3] = (turned * signs)[:, order] * rng.uniform(0.3, 5, 3)
            expected = nibabel.orientations.io_orientation(matrix)[:, 0].tolist().index(2)
            assert axial_axis(matrix) == expected


def test_a_slab_has_the_voxels_and_the_place_of_its_slices(app, tmp_path):
    import SimpleITK as sitk
    import slicer
    from R2UNetLib.volumes import write_volume

    turned, _triangle = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(1).normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = turned[:, [1, 2, 0]] * (0.7, 2.5, 0.9)
    matrix[:3, 3] = (10, -20, 30)
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    volume = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix)
    write_volume(volume, tmp_path / "whole.nrrd")
    write_volume(volume, tmp_path / "slab.nrrd", (2, 4))
    whole, slab = (sitk.ReadImage(str(tmp_path / f"{name}.nrrd")) for name in ("whole", "slab"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(whole), array)
    expected = whole[:, 2:5, :]  # axial slices are stacked along J
    np.testing.assert_array_equal(sitk.GetArrayFromImage(slab), sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(slab.GetOrigin(), expected.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(slab.GetDirection(), expected.GetDirection(), atol=1e-9)


def test_the_remaining_time_is_that_of_the_slices_alone(app, monkeypatch):
    """What loading took before the first slice says nothing about the rest."""
    from R2UNetLib import job

    now = [0.0]
    monkeypatch.setattr(job.time, "monotonic", lambda: now[0])
    one = job.Job(None, "lung", "lung", "cpu", False, None, None, [])
    now[0] = 100.0
    assert one.remaining(0.1) is None
    now[0] = 110.0
    assert one.remaining(0.3) == pytest.approx(35.0)
    one.clean_up()


def test_devices_tell_their_free_memory(app):
    from R2UNetLib.texts import describe_device

    card = {"id": "cuda:0", "name": "NVIDIA H200", "free_bytes": 2**30, "total_bytes": 4 * 2**30}
    assert describe_device(card) == "NVIDIA H200, 1.0 of 4.0 GB free"
    assert describe_device({"id": "cpu", "name": "CPU"}) == "CPU"
    assert describe_device({"id": "cpu", "name": "CPU", "free_bytes": None, "total_bytes": None}) == "CPU"


def test_what_a_bundle_says_of_itself_cannot_inject_markup(app):
    from R2UNetLib.texts import describe_bundle

    texts = dict.fromkeys(("task", "intended_use", "limits", "data_source", "licence"), "<img src='x'>")
    assert "<img" not in describe_bundle(texts)


def test_lines_of_a_program_arrive_whole_in_any_encoding(app, wait):
    import sys

    from R2UNetLib.processes import LineProcess

    lines, errors, codes = [], [], []
    process = LineProcess(lines.append, errors.append, codes.append)
    program = (
        "import sys, time; out = sys.stdout.buffer;"
        "out.write('gr\\u00f6\\u00dfer\\r\\nhal'.encode()); out.flush(); time.sleep(0.2);"
        "out.write(b'f\\n' + b'x' * 200000 + b'\\n'); sys.stderr.buffer.write(b'\\xff bad\\n'); sys.exit(5)"
    )
    process.start(sys.executable, ["-c", program])
    assert process.running
    wait(lambda: codes)
    assert lines == ["gr\u00f6\u00dfer", "half", "x" * 200000]
    assert errors == ["\ufffd bad"]
    assert codes == [5]
    assert not process.running


def test_a_program_that_is_not_there(app, wait):
    from R2UNetLib.processes import LineProcess

    codes = []
    process = LineProcess(print, print, codes.append)
    process.start("/nowhere/python", [])
    wait(lambda: codes, 10)
    assert codes == [None]


def test_the_self_test_runs_as_slicer_runs_it(opened):
    """With the stand-ins; only a real Slicer can test the real parts."""
    from R2UNet import R2UNetTest

    R2UNetTest().runTest()
