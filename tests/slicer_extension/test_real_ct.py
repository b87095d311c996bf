"""A complete chest CT with the shipped bundle, in Slicer's own Python, step by step like a user."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_whole_chest_ct_equals_the_command_lines_mask(app, data_root, open_panel, wait, mask_of, tmp_path):
    """512 x 512 x 131. Minutes on one CPU core."""
    import SimpleITK as sitk
    import slicer
    from R2UNetLib.pythons import set_other_python

    path, expected, uncleaned = (tmp_path / f"{name}.nrrd" for name in ("chest", "expected", "uncleaned"))
    reader = sitk.ImageSeriesReader()
    folder = str(data_root / "volumes" / "LCTSC_007_dicom")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    sitk.WriteImage(reader.Execute(), str(path))
    command = [sys.executable, "-m", "monai_r2unet", "segment", str(path), "--bundle", "lung", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([*command, str(expected)], env=environment, check=True)
    subprocess.run([*command, str(uncleaned), "--no-clean-up"], env=environment, check=True)

    set_other_python("")
    panel = open_panel()
    wait(lambda: panel.logic.devices, 300)
    slicer.mrmlScene.Clear(0)
    volume = slicer.util.loadVolume(str(path))
    panel.parameters.inputVolume, panel.parameters.bundle, panel.parameters.device = volume, "lung", "cpu"
    told = set()
    started = time.monotonic()
    panel.ui.segmentButton.click()
    while panel.logic.busy:
        told.add((panel.ui.progressBar.value, panel.ui.progressBar.maximum))
        app.processEvents()
        time.sleep(0.002)
    whole = time.monotonic() - started
    assert len({done for done, total in told if total == 131}) > 100, "the bar moves slice by slice"
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(expected)))
    for index, side in enumerate((1, 2)):
        np.testing.assert_array_equal(mask_of(panel.parameters.result, volume, index), mask == side)

    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(uncleaned)))  # a single slice keeps its islands
    seconds = []
    for index in (40, 50, 60, 70, 80, 90):
        started = time.monotonic()
        preview = panel.logic.preview(volume, "lung", index, device="cpu", waitForCompletion=True)
        seconds.append(time.monotonic() - started)
        both = mask_of(preview, volume, 0) + 2 * mask_of(preview, volume, 1)
        np.testing.assert_array_equal(both[index] > 0, mask[index] > 0)
        assert np.count_nonzero(both[index] != mask[index]) < 0.02 * np.count_nonzero(mask[index])
    panel.cleanup()
    panel.parent.close()
    print(f"previews took {seconds} s, the volume {whole} s")
    assert min(seconds) < whole / 10  # the others may have met other programs
