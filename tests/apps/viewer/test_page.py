"""The page in a real browser, with small bundles of random weights."""

from __future__ import annotations

import os
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet.apps.viewer.texts import readable
from tests.helpers.lung_examples import write_troubled


@pytest.fixture(scope="module")
def images(workbench, tmp_path_factory):
    """A folder with the workbench's images."""
    folder = tmp_path_factory.mktemp("images") / "images"
    shutil.copytree(workbench / "images", folder)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def start(launch, workbench, images, open_page):
    """A viewer of one's own with the small bundles, and its page."""

    def start_with(image=None, **options):
        viewer = launch("with_worker", workbench / "worker", images, image and images / image, **options)
        return viewer, open_page(viewer)

    return start_with


@pytest.fixture(scope="module")
def viewer(_able, workbench, images):
    """A viewer that tests share: its start takes longer than most of them."""
    from tests.apps.viewer.viewer_process import Viewer

    shared = Viewer.with_worker(workbench / "worker", images)
    yield shared
    shared.close()


@pytest.fixture
def show(viewer, images, open_page):
    """A new page of the shared viewer, with an image that was not open before."""

    def show_one(image):
        name = f"{len(list(images.iterdir()))}-{image}"
        shutil.copy(images / image, images / name)
        page = open_page(viewer)
        open_path(page, name)
        page.wait_for_selector(f"header .name >> text={name}")
        return page

    return show_one


def coloured(picture):
    """How many pixels are not grey."""
    return int((np.ptp(picture, axis=-1) > 20).sum())


def open_path(page, path):
    page.fill("#path", path)
    page.press("#path", "Enter")


def segment(page):
    page.click("#segment:enabled")
    page.wait_for_selector("#result .size")


def downloaded(page, ending, tmp_path):
    with page.expect_download() as waiting:
        page.click(f".downloads >> text='{ending}'")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("stored", ["axial", "sagittal", "left-handed", "oblique"])
def test_the_downloaded_masks_equal_the_command_lines(show, images, tmp_path, wait_for, stored):
    expected = sitk.ReadImage(str(images / f"{stored}.expected.nrrd"))
    page = show(f"{stored}.nrrd")
    wait_for(page, lambda picture: picture.max() > 100)
    segment(page)
    wait_for(page, coloured)
    for ending in (".seg.nrrd", ".nii.gz"):
        mask = sitk.ReadImage(str(downloaded(page, ending, tmp_path)))
        assert mask.GetSize() == expected.GetSize()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected))
        np.testing.assert_allclose(mask.GetOrigin(), expected.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(mask.GetDirection(), expected.GetDirection(), atol=1e-5)
    voxels = int((sitk.GetArrayFromImage(expected) > 0).sum())
    millilitres = voxels * np.prod(expected.GetSpacing()) / 1000
    assert page.inner_text("#result .size") == f"{millilitres:,.1f} mL"
    assert wait_for(page, coloured, "ThreeD") is not None, "the surface is shown"
    hu = sitk.GetArrayFromImage(sitk.ReadImage(str(images / f"{stored}.nrrd")))[sitk.GetArrayFromImage(expected) > 0]
    shown = dict(
        zip(
            page.locator("#densities th").all_inner_texts(),
            page.locator("#densities td").all_inner_texts(),
            strict=True,
        )
    )
    assert shown["Mean"] == f"{hu.mean():,.1f} HU"
    assert shown["15th percentile"] == f"{np.percentile(hu, 15):,.1f} HU"
    assert shown["Below -950 HU"] == f"{100 * (hu < -950).mean():.1f} %"


def test_a_photograph_is_shown_and_segmented_in_colour(show, images, tmp_path, wait_for):
    page = show("picture.png")
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "picture.png"))).astype(float)

    def enlarged_and_upright_in_its_own_colours(shown):
        bright = shown.max(axis=-1) > 30
        rows, columns = (np.flatnonzero(bright.mean(axis=axis) > 0.5) for axis in (1, 0))
        if not rows.size or not columns.size:
            return False
        cut = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        quarters = [(_quarter(cut, v, h), _quarter(values, v, h)) for v in (0, 1) for h in (0, 1)]
        return cut.shape[0] > 400 and all(
            np.abs(got.mean(axis=(0, 1)) - wanted.mean(axis=(0, 1))).max() < 6 for got, wanted in quarters
        )

    wait_for(page, enlarged_and_upright_in_its_own_colours)
    assert page.locator("#Green").is_hidden()
    assert page.locator("#Red output").count() == 0, "one slice, nothing to turn"
    assert page.input_value("#bundle") == "eyes", "the bundle for colour pictures is chosen"
    segment(page)
    mask = sitk.ReadImage(str(downloaded(page, ".png", tmp_path)))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "picture.expected.nrrd")))[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), expected * 255)
    assert page.inner_text("#result .size") == f"{int(expected.sum()):,} pixels"
    assert page.locator("#densities").count() == 0


def test_a_photograph_without_a_dark_surround_is_scaled_by_hand(show, images, tmp_path):
    page = show("cropped.png")
    assert page.input_value("#bundle") == "eyes"
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "cropped.expected.nrrd")))[0] * 255
    segment(page)
    page.wait_for_selector("#message.warning >> text=no dark surround was found")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(downloaded(page, ".png", tmp_path))))
    assert (mask != expected).any()

    page.fill("#scale", "230px")
    segment(page)
    page.wait_for_function("!document.querySelector('#cancel') && !document.querySelector('#message')")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(downloaded(page, ".png", tmp_path))))
    np.testing.assert_array_equal(mask, expected)

    page.fill("#scale", "half")
    page.click("#segment:enabled")
    page.wait_for_selector("#message.error >> text=the scale is 'half', expected a factor such as 0.5")

    # A scale belongs to its photograph, and bundles that do not go by the field of view have none.
    open_path(page, "fundus.png")
    page.wait_for_selector("header .name >> text=fundus.png")
    assert page.input_value("#scale") == ""
    segment(page)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(downloaded(page, ".png", tmp_path))))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "fundus.expected.nrrd")))[0]
    np.testing.assert_array_equal(mask, expected * 255)
    page.select_option("#bundle", "lung")
    page.wait_for_function("document.querySelector('#scale') === null")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
@pytest.mark.parametrize("name", [b"M\xfcller.nrrd", b"y" * 250 + b".nrrd"], ids=["latin1", "long"])
def test_an_image_with_any_name_is_opened_and_its_mask_saved(start, images, tmp_path, name):
    expected = sitk.ReadImage(str(images / "axial.expected.nrrd"))
    shutil.copy(images / "axial.nrrd", images / os.fsdecode(name))
    _, page = start()
    open_path(page, readable(os.fsdecode(name)))
    page.wait_for_selector("header .name")
    segment(page)
    mask = sitk.ReadImage(str(downloaded(page, ".nii.gz", tmp_path)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected))
    open_path(page, readable(os.fsdecode(b"no\xfc.nrrd")))
    page.wait_for_function(r"() => document.querySelector('#message')?.innerText.includes('no\\xfc.nrrd')")


def _quarter(picture, vertical, horizontal):
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    return picture[vertical * rows : (vertical + 1) * rows, horizontal * columns : (horizontal + 1) * columns]


def test_what_cannot_be_opened_is_one_sentence_in_the_page(start, images, workbench, tmp_path):
    (images / "lost").mkdir()
    troubled = write_troubled(images / "lost")
    (images / "broken.nrrd").write_bytes((images / "axial.nrrd").read_bytes()[:2000])
    _, page = start()
    for path, told in (
        ("notes.txt", "unknown format"),
        ("broken.nrrd", "broken.nrrd"),
        ("../other.nrrd", "lies outside of"),
        ("/etc/passwd", "lies outside of"),
        ("nothing.nrrd", "there is no file or folder nothing.nrrd"),
        *((f"lost/{name}", words) for name, words in troubled.items() if not name.endswith(".mhd")),
    ):
        open_path(page, path)
        page.wait_for_function("told => document.querySelector('#message')?.innerText.includes(told)", arg=told)
        assert "\n" not in page.inner_text("#message span").strip()
        assert page.locator("header .name").count() == 0
    open_path(page, "axial.nrrd")
    page.wait_for_selector("header .name")
    assert page.locator("#message").count() == 0
    # The worker's sentences, too: a CT with the bundle for colour pictures, and a bundle without weights.
    page.select_option("#bundle", "eyes")
    page.click("#segment")
    page.wait_for_selector("#message.error")
    page.select_option("#bundle", "empty")
    page.wait_for_selector(".problem")
    assert page.locator("#segment").is_disabled()


def test_uploads_by_choice_and_by_drop(start, images, until, wait_for, tmp_path):
    viewer, page = start(limit=10**6)
    with page.expect_file_chooser() as chooser:
        page.click("text='Choose files…'")
    chooser.value.set_files(images / "axial.nrrd")
    page.wait_for_selector("header .name")
    wait_for(page, lambda picture: picture.max() > 100)
    (home,) = viewer.left_behind()
    assert len(list((home / "uploads").iterdir())) == 1

    content = (images / "picture.png").read_bytes()
    drop = page.evaluate_handle(
        "bytes => { const drop = new DataTransfer();"
        " drop.items.add(new File([new Uint8Array(bytes)], 'dropped.png')); return drop }",
        list(content),
    )
    page.dispatch_event("main", "drop", {"dataTransfer": drop})
    page.wait_for_selector("header .name >> text=dropped.png")
    # What is no longer needed is removed, what is still shown is not.
    until(page, lambda: len(list((home / "uploads").iterdir())) == 1)
    with page.expect_file_chooser() as chooser:
        page.click("text='Choose files…'")
    chooser.value.set_files(images / "notes.txt")
    page.wait_for_selector("#message.error >> text=unknown format")
    until(page, lambda: len(list((home / "uploads").iterdir())) == 1)
    segment(page)

    large = tmp_path / "large.nrrd"
    large.write_bytes(b"\0" * (10**6 + 1))
    with page.expect_file_chooser() as chooser:
        page.click("text='Choose files…'")
    chooser.value.set_files(large)
    page.wait_for_selector("#message.error >> text=open them by their path")
    viewer.stop()
    assert not viewer.left_behind()


def test_a_reference_is_compared_and_errors_are_shown(show, images, wait_for):
    reference = sitk.ReadImage(str(images / "axial.expected.nrrd"))
    found = sitk.GetArrayFromImage(reference)
    truth = found.copy()
    truth[2, :, :32] = 1 - truth[2, :, :32]
    changed = sitk.GetImageFromArray(truth)
    changed.CopyInformation(reference)
    sitk.WriteImage(changed, str(images / "truth.nii.gz"))
    page = show("axial.nrrd")
    segment(page)
    open_reference = lambda path: (page.fill("#reference-path", path), page.press("#reference-path", "Enter"))  # noqa: E731
    open_reference("sagittal.expected.nrrd")
    page.wait_for_selector("#message >> text=is not on the grid")
    open_reference("truth.nii.gz")
    page.wait_for_selector("#measures")
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert page.inner_text("#measures div:first-child").split() == ["Dice", f"{dice:.4f}"]

    def has(picture, colour):
        near = np.abs(np.diff(picture, axis=-1) - np.diff(np.array(colour) * 0.6)) < 40
        return near.all(axis=-1).sum() > 50

    # The middle slice is the one with errors: orange where too much was found, blue where something is missing.
    errors = ((213, 94, 0), (86, 180, 233))
    wait_for(page, lambda picture: all(has(picture, colour) for colour in errors))
    page.keyboard.press("Escape")  # leaves the field
    page.keyboard.press("e")
    wait_for(page, lambda picture: coloured(picture) and not any(has(picture, colour) for colour in errors))


def test_it_is_usable_by_keyboard(start, wait_for):
    _, page = start()
    page.keyboard.press("o")
    page.keyboard.type("axial.nrrd")
    page.keyboard.press("Enter")
    page.wait_for_selector("header .name")
    page.focus("#Red")
    place = page.locator("#Red output")
    assert place.inner_text() == "3 / 5"
    for key, shown in (
        ("ArrowUp", "4 / 5"),
        ("PageUp", "5 / 5"),
        ("Home", "1 / 5"),
        ("ArrowDown", "1 / 5"),
        ("End", "5 / 5"),
    ):
        page.keyboard.press(key)
        page.wait_for_function("text => document.querySelector('#Red output').innerText == text", arg=shown)
    page.keyboard.press("2")
    assert page.locator("#Red").is_hidden()
    page.keyboard.press("0")
    assert page.locator("#Red").is_visible()
    before = page.get_attribute("html", "data-theme")
    page.keyboard.press("t")
    assert page.get_attribute("html", "data-theme") != before
    page.wait_for_selector("#segment:enabled")
    page.keyboard.press("s")
    page.wait_for_selector("#result .size")
    page.focus("#Red")
    page.keyboard.press("Home")
    shown = wait_for(page, coloured)
    page.keyboard.press("m")
    wait_for(page, lambda picture: not coloured(picture))
    page.keyboard.press("m")
    page.focus("#opacity")
    page.keyboard.press("ArrowRight")
    wait_for(page, lambda picture: coloured(picture) and not np.array_equal(picture, shown))


def test_the_wheel_turns_the_slices_and_presets_set_the_window(show, wait_for):
    page = show("axial.nrrd")
    before = wait_for(page, lambda picture: picture.max() > 100)
    page.hover("#Red .area")
    page.mouse.wheel(0, -100)
    page.wait_for_function("document.querySelector('#Red output').innerText != '3 / 5'")
    page.click(".presets >> text=bone")
    page.wait_for_function("document.querySelector('#width').value == '1800'")
    wait_for(page, lambda picture: not np.array_equal(picture, before))
    page.fill("#width", "1")
    page.press("#width", "Enter")
    wait_for(page, lambda picture: ((picture > 30) & (picture < 220)).mean() < 0.1)


def test_a_worker_that_dies_is_told_and_started_again(start, workbench, tmp_path):
    import os
    import signal
    import subprocess

    viewer, page = start("axial.nrrd")
    segment(page)
    children = subprocess.run(["pgrep", "-P", str(viewer.process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    page.wait_for_selector("#message.error >> text=has ended")
    page.click("#segment")
    page.wait_for_function("!document.querySelector('#cancel') && !document.querySelector('#message')")
    page.wait_for_selector("#result .size")
