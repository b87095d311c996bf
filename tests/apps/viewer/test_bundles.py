"""Bundles that are not shipped: given on the command line, or added in the page."""

from __future__ import annotations

import shutil

import pytest
import SimpleITK as sitk

from tests.helpers.labelled_bundles import LABELS, three_parts


@pytest.fixture
def folder(workbench, tmp_path):
    """A folder with an image of two parts and the bundles of the user."""
    shutil.copytree(workbench / "own", tmp_path / "data" / "own")
    shutil.copy(workbench / "images" / "parts.nrrd", tmp_path / "data")
    return tmp_path / "data"


def add(page, path):
    page.fill("#bundle-path", path)
    page.press("#bundle-path", "Enter")


def test_a_bundle_of_the_command_line_shows_its_labels_as_a_list_and_surfaces(
    launch, workbench, folder, open_page, until, picture_of
):
    parts = folder / "own" / "parts"
    viewer = launch("with_worker", workbench / "worker", folder, folder / "parts.nrrd", bundles=[parts])
    page = open_page(viewer)
    page.wait_for_selector(f"#bundle option[value='{parts}']", state="attached")
    page.select_option("#bundle", str(parts))
    page.wait_for_selector("#device option[value=cpu]", state="attached")
    page.click("#segment")
    page.wait_for_selector("#result")
    rows = page.locator("#sizes tr")
    assert rows.count() == len(LABELS)
    for row, label in enumerate(LABELS):
        assert rows.nth(row).locator("th").inner_text() == label["name"]
        colour = rows.nth(row).locator(".swatch").evaluate("element => getComputedStyle(element).backgroundColor")
        assert colour == f"rgb({', '.join(map(str, label['colour']))})"
    densities = page.locator("#densities tr")
    assert densities.nth(0).locator("th").all_inner_texts() == [*(label["name"] for label in LABELS), "total"]
    image, truth = three_parts()
    hu = sitk.GetArrayFromImage(image)
    masks = [*(truth == label["value"] for label in LABELS), truth > 0]
    assert densities.nth(1).locator("th").inner_text() == "Mean"
    assert densities.nth(1).locator("td").all_inner_texts() == [f"{hu[mask].mean():,.1f} HU" for mask in masks]
    assert page.locator("#result .downloads a").first.get_attribute("download") == "parts_parts.seg.nrrd"

    def has_colours():
        picture = picture_of(page, "ThreeD")
        red = (picture[..., 0] > 100) & (picture[..., 2] < 80)
        blue = (picture[..., 2] > 100) & (picture[..., 0] < 80)
        return red.sum() > 200 and blue.sum() > 200

    until(page, has_colours)  # a surface of each label, in its colour


def test_the_page_adds_safe_bundles_inside_the_folder_only(launch, workbench, folder, open_page, until):
    viewer = launch("with_worker", workbench / "worker", folder, folder / "parts.nrrd")
    page = open_page(viewer)
    page.wait_for_selector("#bundle option[value=lung]", state="attached")
    safe = str(folder / "own" / "safe")
    add(page, "own/safe")
    page.wait_for_selector(f"#bundle option[value='{safe}']", state="attached")
    until(page, lambda: page.input_value("#bundle") == safe)
    assert not page.locator("#message").count()
    (folder / "link").symlink_to(workbench / "own" / "safe")
    for path, words in (
        ("own/parts", "--trust-bundle"),
        ("own", "is not a bundle"),
        (str(workbench / "own" / "safe"), "lies outside of"),
        ("link", "lies outside of"),
        ("parts.nrrd", "is a file, expected a folder"),
        ("  ", "type the path of a bundle's folder"),
    ):
        add(page, path)
        until(page, lambda words=words: page.locator("#message").count() and words in page.inner_text("#message"))
    assert page.locator("#bundle option").count() == 4
