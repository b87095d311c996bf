"""The command line module as Slicer runs it: a process that gets files and prints progress."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.helpers.lung_examples import write_troubled

SCRIPT = Path(__file__).resolve().parents[2] / "slicer_extension" / "R2UNetCLI" / "R2UNetCLI.py"


def run(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def test_it_gives_the_command_lines_mask_and_tells_its_progress(workbench, tmp_path):
    import SimpleITK as sitk

    image = workbench / "images" / "oblique.nrrd"
    output = tmp_path / "out.nrrd"
    output.write_text("made by Slicer")
    done = run(image, output, "--bundle", "lung", "--device", "cpu", "--python", workbench / "worker")
    assert done.returncode == 0, done.stderr
    expected, got = sitk.ReadImage(str(image.with_suffix(".expected.nrrd"))), sitk.ReadImage(str(output))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(got.GetDirection(), expected.GetDirection(), atol=1e-6)
    assert done.stdout.startswith("<filter-start>")
    assert done.stdout.rstrip().endswith("</filter-end>")
    shares = [float(share) for share in re.findall(r"<filter-progress>([\d.]+)</filter-progress>", done.stdout)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_scale_given_by_hand(workbench, tmp_path):
    import SimpleITK as sitk

    image = workbench / "images" / "cropped.nrrd"
    output = tmp_path / "out.nrrd"
    options = ("--bundle", "eyes", "--python", workbench / "worker")
    done = run(image, output, *options, "--scale", "230px")
    assert done.returncode == 0, done.stderr
    expected, got = sitk.ReadImage(str(image.with_suffix(".expected.nrrd"))), sitk.ReadImage(str(output))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(expected))
    done = run(image, output, *options, "--scale", "0px")
    assert done.returncode == 1
    assert "the scale is '0px', expected a factor such as 0.5" in done.stderr


def test_names_that_cannot_be_printed_cost_no_mask(workbench, tmp_path):
    """A warning repeats the name."""
    import SimpleITK as sitk

    for name in (b"M\xfcller", "肺".encode()):
        image, output = tmp_path / os.fsdecode(name + b".nrrd"), tmp_path / os.fsdecode(name + b".mask.nrrd")
        tiny = sitk.ReadImage(str(workbench / "images" / "axial.nrrd"))
        tiny.SetSpacing((0.01, 0.01, 0.01))
        sitk.WriteImage(tiny, str(tmp_path / "tiny.nrrd"))
        shutil.copy(tmp_path / "tiny.nrrd", image)
        options = ("--bundle", "lung", "--device", "cpu", "--python", workbench / "worker")
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        command = [sys.executable, SCRIPT, image, output, *options]
        done = subprocess.run(list(map(str, command)), capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith(b"</filter-end>")
        assert b".nrrd" in done.stdout
        assert output.is_file()


def test_the_folder_of_a_bundle_with_several_labels(workbench, tmp_path):
    import SimpleITK as sitk

    image, output = workbench / "images" / "parts.nrrd", tmp_path / "out.nrrd"
    options = ("--bundle", workbench / "own" / "parts", "--python", workbench / "worker")
    done = run(image, output, *options)
    assert done.returncode == 1
    assert "can execute any code" in done.stderr
    done = run(image, output, *options, "--trust-bundle")
    assert done.returncode == 0, done.stderr
    expected, got = sitk.ReadImage(str(image.with_suffix(".expected.nrrd"))), sitk.ReadImage(str(output))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(expected))
    voxels = int((sitk.GetArrayFromImage(expected) == 2).sum())
    assert f"right part: {voxels} voxels, {voxels * 12 / 1000:.1f} mL" in done.stdout


def test_images_with_something_lost_are_refused_in_a_sentence(workbench, tmp_path):
    for name, words in write_troubled(tmp_path).items():
        mask = tmp_path / "mask.nrrd"
        done = run(tmp_path / name, mask, "--bundle", "lung", "--python", workbench / "worker")
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not mask.exists()


def test_its_errors_are_sentences(workbench, tmp_path):
    image = workbench / "images" / "axial.nrrd"
    done = run(image, tmp_path / "out.nrrd")
    assert (done.returncode, done.stderr) == (
        1,
        "error: no bundle was named; 'monai-r2unet list' shows the available ones\n",
    )
    done = run(image, tmp_path / "out.nrrd", "--bundle", "heart", "--python", workbench / "worker")
    assert done.returncode == 1
    assert "unknown bundle 'heart'" in done.stderr
    assert not list(tmp_path.iterdir())
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = run(image, tmp_path / "out.nrrd", "--bundle", "lung", "--python", bare)
    assert done.returncode == 1
    assert "is monai-r2unet installed in this Python?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [bare]
