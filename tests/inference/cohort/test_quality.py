"""A folder of cases as a page: pictures, numbers and warnings, the most doubtful first."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from monai_r2unet.apps.cli.main import main
from monai_r2unet.errors import InputError
from monai_r2unet.inference.cohort import segment_cohort
from monai_r2unet.inference.quality import doubt
from monai_r2unet.inference.quality_page import PageEntry, write_quality_page
from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.inference.segmenter import Segmenter
from tests.helpers.lung_examples import small_ct


class Page(HTMLParser):
    """The headings and pictures of a page, in their order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.pictures: list[str] = []
        self.inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        if tag == "img":
            self.pictures.append(dict(attributes)["src"] or "")

    def handle_data(self, data: str) -> None:
        if self.inside == "h2" and data.strip():
            self.headings.append(data)


def result(mask: list[int], *probabilities: list[float]) -> Segmentation:
    found = [sitk.GetImageFromArray(np.array([[each]], np.float32)) for each in probabilities]
    labels = sitk.GetImageFromArray(np.array([[mask]], np.uint8))
    return Segmentation(labels, found[0] if len(found) == 1 else sitk.Compose(found))


def test_the_doubt_is_one_less_the_dice_to_be_expected() -> None:
    assert doubt(result([1, 1, 0], [1, 1, 0])) == pytest.approx(0)
    assert doubt(result([1, 1, 0], [0.8, 0.6, 0.2])) == pytest.approx(1 - 2 * 1.4 / (1.6 + 2))
    assert doubt(result([0, 0, 0], [0.4, 0.1, 0])) == 1
    of_two = result([1, 2, 0], [0.9, 0.3, 0.1], [0.1, 0.6, 0.1])
    assert doubt(of_two) == pytest.approx(1 - np.mean([2 * 0.9 / 2.3, 2 * 0.6 / 1.8]))
    assert doubt(result([1, 0, 0], [1, 0, 0], [0, 0, 0])) == pytest.approx(0)  # a label that is rightly absent


def test_cases_by_falling_doubt_and_failed_ones_first(tmp_path: Path) -> None:
    entries = [
        PageEntry("sure", "sure.png", 0.01),
        PageEntry("doubtful <b>&", "a b.png", 0.4, {"lung": "12 mL"}, ["thick slices"]),
        PageEntry("broken", failure="the file is cut off"),
    ]
    write_quality_page("Chests & more", entries, tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.headings == ["broken", "doubtful <b>&", "sure"]
    assert page.pictures == ["a%20b.png", "sure.png"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "3 cases, the most doubtful first; 1 failed" in text
    assert "http" not in text  # nothing comes from elsewhere
    assert {path.name for path in tmp_path.iterdir()} == {"index.html"}


def test_a_folder_of_cases_becomes_a_page(segmenter: Segmenter, tmp_path: Path) -> None:
    source, dest, qc = tmp_path / "cases", tmp_path / "masks", tmp_path / "qc"
    source.mkdir()
    sitk.WriteImage(small_ct(), str(source / "chest.nii.gz"))
    sitk.WriteImage(sitk.Cast(small_ct() * 0 - 1000, sitk.sitkInt16), str(source / "air.nii.gz"))
    (source / "cut.nii.gz").write_bytes((source / "chest.nii.gz").read_bytes()[:200])
    segment_cohort(lambda: segmenter, source, dest, qc=qc)
    page = Page(qc / "index.html")
    assert page.headings == ["cut", "air", "chest"]
    assert page.pictures == ["air.png", "chest.png"]
    assert Image.open(qc / "chest.png").size[0] > 1000
    text = (qc / "index.html").read_text(encoding="utf-8")
    assert re.search(r"Doubt <b>0\.\d{3}</b>", text)
    assert "nothing was found, so that the mask is empty" in text
    assert "15th percentile" in text


def test_a_second_run_makes_the_pictures_that_are_missing(segmenter: Segmenter, tmp_path: Path) -> None:
    source, dest, qc = tmp_path / "cases", tmp_path / "masks", tmp_path / "qc"
    source.mkdir()
    sitk.WriteImage(small_ct(), str(source / "chest.nii.gz"))
    segment_cohort(lambda: segmenter, source, dest)
    assert [each.status for each in segment_cohort(lambda: segmenter, source, dest, qc=qc)] == ["done"]
    assert [each.status for each in segment_cohort(lambda: segmenter, source, dest, qc=qc)] == ["skipped"]
    assert Page(qc / "index.html").pictures == ["chest.png"]
    with pytest.raises(InputError, match="give the pictures a separate folder"):
        segment_cohort(lambda: segmenter, source, dest, qc=dest)


def test_the_command_writes_the_picture_of_one_image(
    segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sitk.WriteImage(small_ct(), str(tmp_path / "chest.nii.gz"))
    command = ["segment", str(tmp_path / "chest.nii.gz"), str(tmp_path / "mask.nii.gz"), "--device", "cpu"]
    command += ["--bundle", str(segmenter.bundle.root)]
    assert main([*command, "--qc", str(tmp_path / "a.jpg")]) == 2
    assert "expected .png for the picture of a case" in capsys.readouterr().err
    assert main([*command, "--qc", str(tmp_path / "a.png"), "--report", str(tmp_path / "a.json")]) == 0
    assert Image.open(tmp_path / "a.png").size[0] > 1000
    assert 0 < json.loads((tmp_path / "a.json").read_text())["doubt"] < 1
