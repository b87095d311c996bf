"""Folders of cases: no case is lost, repeated or hidden if another fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.inference.cohort import is_cohort, segment_cohort
from monai_r2unet.inference.cohort_records import CaseResult
from tests.helpers.lung_examples import small_ct, write_random_weights
from tests.inference.cohort.cohort_examples import BROKEN, MASKS, files, statuses, table


def test_failures_are_named_the_rest_is_done_and_a_second_run_does_what_is_missing(
    segmenter: Segmenter, source: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "new" / "masks"
    told: list[tuple[str, int, int]] = []
    with pytest.warns(UserWarning, match=r"1 of the files in .* are not images and are skipped: notes\.txt"):
        results = segment_cohort(
            lambda: segmenter, source, dest, on_case=lambda result, *counts: told.append((result.case, *counts))
        )
    assert told == [(case, index + 1, 12) for index, case in enumerate(sorted(MASKS + BROKEN))]
    assert set(statuses(results)["failed"]) == set(BROKEN)
    assert set(statuses(results)["done"]) | set(statuses(results).get("empty", [])) == set(MASKS)
    assert set(files(dest)) == {f"{case}.nii.gz" for case in MASKS}
    expected = segmenter.run(small_ct(slices=2))
    for case in ("0", "4", "series"):
        mask = read_image(dest / f"{case}.nii.gz")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected.mask))
        assert same_grid(mask, read_image(source / (case if case == "series" else "0.nii.gz")))

    rows = table(dest)
    assert list(rows) == sorted(MASKS + BROKEN)
    assert rows["5"]["status"] == "done"
    assert int(rows["5"]["voxels"]) == expected.voxels
    assert float(rows["5"]["millilitres"]) == pytest.approx(expected.millilitres, abs=1e-3)
    assert float(rows["5"]["seconds"]) > 0
    assert "cut.nii.gz" in rows["cut"]["message"]
    assert "too thin" in rows["thin"]["message"]
    assert "cannot be Hounsfield units" in rows["air"]["message"]  # done, with a warning
    assert rows["cut"]["voxels"] == ""

    before = files(dest)
    (dest / "3.nii.gz").unlink()
    (source / "cut.nii.gz").write_bytes((source / "0.nii.gz").read_bytes())
    (source / "notes.txt").unlink()
    again = statuses(segment_cohort(lambda: segmenter, source, dest))
    assert again["done"] == ["3", "cut"]
    assert again["failed"] == ["folder", "thin"]
    assert set(again["skipped"]) == set(MASKS) - {"3"}
    after = files(dest)
    assert {case for case in before if after[case] != before[case]} == {"3.nii.gz"}
    assert table(dest)["5"] == rows["5"]
    assert table(dest)["cut"]["voxels"] == rows["5"]["voxels"]
    assert not [path for path in dest.rglob("*") if path.name.startswith(".") and path.is_file()]


def test_after_an_interruption_the_table_tells_what_is_there(
    segmenter: Segmenter, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(result: CaseResult, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_cohort(lambda: segmenter, three, tmp_path / "out", ending=".seg.nrrd", on_case=interrupt)
    assert list(table(tmp_path / "out")) == ["a", "b"]
    results = segment_cohort(lambda: segmenter, three, tmp_path / "out", ending=".seg.nrrd")
    assert statuses(results) == {"skipped": ["a", "b"], "done": ["c"]}
    assert sitk.ReadImage(str(tmp_path / "out" / "a.seg.nrrd")).GetMetaData("Segment0_Name") == "lung"
    assert [result.voxels for result in results] == [results[2].voxels] * 3


def test_an_unexpected_error_and_a_full_disk_fail_one_case(
    segmenter: Segmenter, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = segmenter.run
    left = [RuntimeError("boom\nat 0x1"), OSError(28, "No space left on device"), None]

    def run(image: sitk.Image, **options: Any) -> Any:
        error = left.pop(0)
        if error:
            raise error
        return real(image, **options)

    monkeypatch.setattr(segmenter, "run", run)
    first, second, third = segment_cohort(lambda: segmenter, three, tmp_path / "out")
    assert (first.status, first.message) == ("failed", "unexpected RuntimeError: boom")
    assert (second.status, third.status) == ("failed", "done")
    assert "No space left" in table(tmp_path / "out")["b"]["message"]


def test_masks_of_other_weights_are_not_completed_but_may_be_overwritten(
    segmenter: Segmenter, three: Path, tmp_path: Path
) -> None:
    segment_cohort(lambda: segmenter, three, tmp_path / "out")
    (tmp_path / "out" / "b.nii.gz").unlink()
    other = Segmenter("lung", "cpu", weights=write_random_weights(tmp_path / "other.pt", seed=1))
    with pytest.raises(InputError, match=r"a\.nii\.gz in .* was made with other weights"):
        segment_cohort(lambda: other, three, tmp_path / "out")
    assert not (tmp_path / "out" / "b.nii.gz").exists()
    results = segment_cohort(lambda: other, three, tmp_path / "out", overwrite=True)
    assert statuses(results) == {"done": ["a", "b", "c"]}
    record = json.loads((tmp_path / "out" / ".cases" / "a.json").read_text())
    assert record["made_with"]["weights_sha256"] == other.weights_sha256


def test_masks_without_record_are_kept_and_a_failure_beside_an_old_mask_is_tried_again(
    segmenter: Segmenter, three: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nii.gz").write_bytes(b"of another program")
    assert statuses(segment_cohort(lambda: segmenter, three, out)) == {"skipped": ["a"], "done": ["b", "c"]}
    assert table(out)["a"]["status"] == "skipped"
    good = (three / "b.nrrd").read_bytes()
    (three / "b.nrrd").write_bytes(good[:-100])
    results = segment_cohort(lambda: segmenter, three, out, overwrite=True)
    assert statuses(results) == {"done": ["a", "c"], "failed": ["b"]}
    assert table(out)["b"]["status"] == "failed"
    (three / "b.nrrd").write_bytes(good)
    assert statuses(segment_cohort(lambda: segmenter, three, out)) == {"skipped": ["a", "c"], "done": ["b"]}
    (three / "b.nrrd").unlink()  # its mask stays, and so does its row
    segment_cohort(lambda: segmenter, three, out)
    assert [row["status"] for row in table(out).values()] == ["done"] * 3


def test_what_is_one_image_and_what_is_a_cohort(source: Path, tmp_path: Path) -> None:
    assert is_cohort(source)
    assert not is_cohort(source / "series")
    assert not is_cohort(source / "0.nii.gz")
    assert not is_cohort(tmp_path / "none")
    (source / "series" / "0.dcm").rename(source / "without_ending")
    assert not is_cohort(source)


def test_folders_that_cannot_be_used_are_refused(segmenter: Segmenter, three: Path, tmp_path: Path) -> None:
    def refused(words: str, source: Path, dest: Path, **options: Any) -> None:
        with pytest.raises(InputError, match=words):
            segment_cohort(lambda: segmenter, source, dest, **options)

    out = tmp_path / "out"
    refused("is not a folder", tmp_path / "none", out)
    refused("folder of the images", three, three)
    refused("masks cannot end with '.bmp'", three, out, ending=".bmp")
    refused("is a file", three, three / "a.nrrd")
    refused("cannot be made", three, three / "a.nrrd" / "out")
    (tmp_path / "nothing").mkdir()
    refused("holds neither images nor folders", tmp_path / "nothing", out)
    (three / "a.nii").touch()
    refused("a.nii and a.nrrd in .* would both get the mask a", three, out)
    assert not out.exists()


def test_a_folder_of_masks_among_the_cases_is_no_case(segmenter: Segmenter, three: Path) -> None:
    for _ in range(2):
        results = segment_cohort(lambda: segmenter, three, three / "results" / "masks")
        assert [result.case for result in results] == ["a", "b", "c"]


def test_processes_share_the_cases_and_the_table_holds_all(
    segmenter: Segmenter, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process works while the first writes its table: the worst moment."""
    out = tmp_path / "out"
    monkeypatch.setenv("WORLD_SIZE", "2")
    results: list[CaseResult] = []
    real = csv.DictWriter.writeheader

    def writeheader(self: csv.DictWriter[str]) -> None:
        monkeypatch.setattr(csv.DictWriter, "writeheader", real)
        monkeypatch.setenv("RANK", "1")
        results.extend(segment_cohort(lambda: segmenter, three, out))
        real(self)

    monkeypatch.setattr(csv.DictWriter, "writeheader", writeheader)
    monkeypatch.setenv("RANK", "0")
    last: list[list[str]] = []
    results += segment_cohort(
        lambda: segmenter, three, out, on_case=lambda result, done, total: last.append(list(table(out)))
    )
    assert sorted(result.case for result in results) == ["a", "b", "c"]
    assert [result.case for result in results] == ["b", "a", "c"]
    assert last == [["a", "b"], ["a", "b", "c"]]


def test_a_mask_whose_record_was_not_written_any_more_is_measured(
    segmenter: Segmenter, three: Path, tmp_path: Path
) -> None:
    segment_cohort(lambda: segmenter, three, tmp_path / "out")
    before = table(tmp_path / "out")
    (tmp_path / "out" / ".cases" / "a.json").unlink()
    (tmp_path / "out" / ".cases" / "b.json").write_text("[]")
    assert statuses(segment_cohort(lambda: segmenter, three, tmp_path / "out")) == {"skipped": ["a", "b", "c"]}
    after = table(tmp_path / "out")
    for case in "abc":
        assert (after[case]["voxels"], after[case]["millilitres"]) == (
            before[case]["voxels"],
            before[case]["millilitres"],
        )
