"""A complete chest CT with the shipped bundle, in a real browser, step by step like a user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_whole_chest_ct_equals_the_command_lines_mask(data_root, launch, open_page, wait_for, tmp_path):
    """512 x 512 x 131 slices; most of a minute on two CPU cores."""
    source = data_root / "volumes" / "LCTSC_007_dicom"
    page = open_page(launch("of_command_line", str(source), "--folder", str(data_root)))
    page.wait_for_selector("header .name >> text=512 × 512 × 131 voxels of 0.977 × 0.977 × 3 mm")  # noqa: RUF001
    grey = wait_for(page, lambda picture: picture.max() > 200)
    assert np.ptp(grey, axis=-1).max() < 20, "nothing in colour yet"
    page.wait_for_selector("#device option[value=cpu]", state="attached")
    page.select_option("#device", "cpu")

    page.evaluate("""window.seen = new Set(); new MutationObserver(() => {
        const bar = document.querySelector('#bar'); if (bar && bar.max == 131) window.seen.add(bar.value) })
        .observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true })""")
    page.click("#segment:enabled")
    page.wait_for_function("document.querySelector('#bar')?.value > 1")
    page.click("#cancel")
    page.wait_for_selector("#message >> text=Cancelled")
    assert page.evaluate("Math.max(...window.seen)") < 131 / 2, "the rest is not computed first"
    assert page.locator("#result").count() == 0

    page.evaluate("window.seen.clear()")
    page.click("#segment:enabled")
    page.wait_for_selector("#result .size", timeout=900_000)
    assert page.evaluate("window.seen.size") > 20, "the bar moves slice by slice"
    wait_for(page, lambda picture: (np.ptp(picture, axis=-1) > 20).sum() > 3000)
    wait_for(page, lambda picture: (np.ptp(picture, axis=-1) > 20).sum() > 3000, "ThreeD")
    with page.expect_download() as waiting:
        page.click("text='.seg.nrrd'")
    found = tmp_path / "found.seg.nrrd"
    waiting.value.save_as(found)

    expected = tmp_path / "expected.seg.nrrd"
    command = [sys.executable, "-m", "monai_r2unet", "segment", str(source), str(expected), "--bundle", "lung"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(
        [*command, "--device", "cpu"], env=environment, check=True, capture_output=True, text=True
    ).stdout
    one, other = sitk.ReadImage(str(found)), sitk.ReadImage(str(expected))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
    assert one.GetOrigin() == other.GetOrigin()
    assert one.GetDirection() == other.GetDirection()
    for size in page.locator("#result .size").all_inner_texts():
        assert size.replace(",", "") in told

    page.fill("#reference-path", "volumes/LCTSC_007_lung.nii.gz")
    page.press("#reference-path", "Enter")
    page.wait_for_selector("#measures")
    assert float(page.inner_text("#measures div:first-child dd")) > 0.95
