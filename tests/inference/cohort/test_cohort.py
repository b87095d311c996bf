"""Folders of cases: no case is lost, repeated or hidden if another fails."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from monai_r2unet import Segmenter
from monai_r2unet.errors import InputError
from monai_r2unet.images.grid import same_grid
from monai_r2unet.images.reading import read_image
from monai_r2unet.inference.cohort import is_cohort, segment_cohort
from monai_r2unet.inference.cohort_cases import state_of
from monai_r2unet.inference.cohort_records import CaseResult
from tests.helpers.lung_examples import small_ct, write_random_weights
from tests.inference.cohort.cohort_examples import BROKEN, MASKS, files, statuses, table, write_dicom


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
        segment_cohort(lambda: segmenter, three, tmp_path / "out", endings=[".seg.nrrd"], on_case=interrupt)
    assert list(table(tmp_path / "out")) == ["a", "b"]
    results = segment_cohort(lambda: segmenter, three, tmp_path / "out", endings=[".seg.nrrd"])
    assert statuses(results) == {"skipped": ["a", "b"], "done": ["c"]}
    assert sitk.ReadImage(str(tmp_path / "out" / "a.seg.nrrd")).GetMetaData("Segment0_Name") == "lung"
    assert [result.voxels for result in results] == [results[2].voxels] * 3


def test_masks_in_several_formats_are_complete_or_made_again(segmenter: Segmenter, three: Path, tmp_path: Path) -> None:
    dest, endings = tmp_path / "out", [".nii.gz", ".seg.nrrd", ".nii.gz"]
    results = segment_cohort(lambda: segmenter, three, dest, endings=endings)
    assert statuses(results) == {"done": ["a", "b", "c"]}
    assert [result.output for result in results] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    for case in "abc":
        masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(dest / f"{case}{ending}"))) for ending in endings]
        np.testing.assert_array_equal(masks[0], masks[1])
    (dest / "b.seg.nrrd").unlink()
    again = segment_cohort(lambda: segmenter, three, dest, endings=endings)
    assert statuses(again) == {"skipped": ["a", "c"], "done": ["b"]}
    assert (dest / "b.seg.nrrd").is_file()


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
    refused("masks cannot end with '.bmp'", three, out, endings=[".bmp"])
    refused("is a file", three, three / "a.nrrd")
    refused("cannot be created", three, three / "a.nrrd" / "out")
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


@pytest.mark.parametrize(
    ("rank", "count", "words"),
    [
        ("2", "2", r"process 2 \(RANK\) of 2 \(WORLD_SIZE\)"),
        ("1", "1", "cases would be left out"),
        ("0", "0", "of 0"),
        ("first", "2", "RANK is 'first', expected a number"),
    ],
)
def test_processes_that_would_leave_cases_out_are_refused(
    segmenter: Segmenter,
    three: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rank: str,
    count: str,
    words: str,
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(InputError, match=words):
        segment_cohort(lambda: segmenter, three, tmp_path / "out")
    assert not (tmp_path / "out").exists()


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


# ---- what is named runs, and nothing else ----------------------------------------------------------------------------


def test_an_output_that_is_named_like_a_file_is_refused(segmenter: Segmenter, three: Path, tmp_path: Path) -> None:
    for dest, maps in ((tmp_path / "mask.nii.gz", None), (tmp_path / "out", tmp_path / "p.nrrd")):
        with pytest.raises(InputError, match=r"is named like a file, but .* is a folder of cases"):
            segment_cohort(lambda: segmenter, three, dest, probabilities=maps)
        assert not (tmp_path / "mask.nii.gz").exists()
        assert not (tmp_path / "p.nrrd").exists()
    (tmp_path / "odd.nii.gz").mkdir()
    assert statuses(segment_cohort(lambda: segmenter, three, tmp_path / "odd.nii.gz"))["done"] == ["a", "b", "c"]


def test_stray_dicom_and_pictures_beside_cases_are_left_out_and_named(
    segmenter: Segmenter, three: Path, tmp_path: Path
) -> None:
    write_dicom(three / "series", small_ct(slices=2))
    (three / "stray.dcm").write_bytes((three / "series" / "0.dcm").read_bytes())
    (three / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    Image.new("RGB", (64, 64)).save(three / "screenshot.png")
    for output, cohort in (("out", True), ("masks.v2", True), ("mask.nii.gz", False), ("mask.dcm", False)):
        assert is_cohort(three, tmp_path / output) is cohort
    with pytest.warns(UserWarning, match="are skipped") as told:
        results = segment_cohort(lambda: segmenter, three, tmp_path / "out")
    assert statuses(results) == {"done": ["a", "b", "c", "series"]}
    sentences = [str(warning.message) for warning in told if warning.category is UserWarning]
    assert any("2 of the files" in one and "DICOMDIR, stray.dcm" in one for one in sentences)
    assert any("pictures beside volumes" in one and "screenshot.png" in one for one in sentences)


def test_a_folder_of_one_series_stays_one_image_whatever_the_output_is_called(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", small_ct(slices=2))
    assert not is_cohort(tmp_path / "series", tmp_path / "out")
    assert not is_cohort(tmp_path / "series", tmp_path / "mask.nii.gz")


def test_series_are_chosen_by_uid_or_description_in_every_folder(segmenter: Segmenter, tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    for case in ("p", "q"):
        write_dicom(cases / case, small_ct(slices=2))
        for kind, uid, description in (("thin", f"1.{case == 'p':d}.7", "Lung 1.0"), ("scout", "1.9", "Scout")):
            reader, writer = sitk.ImageFileReader(), sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            for path in sorted((cases / case).glob("?.dcm")):
                reader.SetFileName(str(path))
                one = reader.Execute()
                for key in reader.GetMetaDataKeys():
                    one.SetMetaData(key, reader.GetMetaData(key))
                one.SetMetaData("0020|000e", uid)
                one.SetMetaData("0008|0018", f"{uid}.{path.stem}")
                one.SetMetaData("0008|103e", description)
                writer.SetFileName(str(cases / case / f"{kind}{path.name}"))
                writer.Execute(one)
        for path in (cases / case).glob("?.dcm"):
            path.unlink()
    failed = statuses(segment_cohort(lambda: segmenter, cases, tmp_path / "none"))
    assert failed == {"failed": ["p", "q"]}
    for number, series in enumerate(("Lung 1.0", ["1.1.7", "1.0.7"])):
        results = segment_cohort(lambda: segmenter, cases, tmp_path / f"out{number}", series=series)
        assert statuses(results) == {"done": ["p", "q"]}
    (p, q) = segment_cohort(lambda: segmenter, cases, tmp_path / "some", series=["1.1.7"])
    assert (p.status, q.status) == ("done", "failed")
    assert "holds no DICOM series 1.1.7, choose one of: " in q.message
    # A second run completes what the first could not choose.
    assert statuses(segment_cohort(lambda: segmenter, cases, tmp_path / "some", series="1.0.7")) == {
        "skipped": ["p"],
        "done": ["q"],
    }


def test_a_replaced_image_gets_a_new_mask(segmenter: Segmenter, three: Path, tmp_path: Path) -> None:
    write_dicom(three / "series", small_ct(slices=2))
    segment_cohort(lambda: segmenter, three, tmp_path / "out")
    before = files(tmp_path / "out")
    times = (three / "b.nrrd").stat()
    sitk.WriteImage(small_ct("LCTSC_000", slices=2), str(three / "b.nrrd"))
    os.utime(three / "b.nrrd", ns=(times.st_atime_ns, times.st_mtime_ns - 10**9))  # as unpacked from an archive
    (three / "series" / "1.dcm").unlink()
    results = segment_cohort(lambda: segmenter, three, tmp_path / "out")
    assert statuses(results) == {"skipped": ["a", "c"], "done": ["b", "series"]}
    assert read_image(tmp_path / "out" / "b.nii.gz").GetSize()[2] == 2
    assert read_image(tmp_path / "out" / "series.nii.gz").GetSize()[2] == 1
    assert files(tmp_path / "out")["a.nii.gz"] == before["a.nii.gz"]
    # A record of an earlier version knows no state of the image, but when the mask was made.
    record = tmp_path / "out" / ".cases" / "a.json"
    content = json.loads(record.read_text())
    del content["image_state"]
    record.write_text(json.dumps(content))
    assert statuses(segment_cohort(lambda: segmenter, three, tmp_path / "out"))["skipped"] == ["a", "b", "c", "series"]
    later = (tmp_path / "out" / "a.nii.gz").stat().st_mtime + 5
    os.utime(three / "a.nrrd", (later, later))
    assert statuses(segment_cohort(lambda: segmenter, three, tmp_path / "out"))["done"] == ["a"]


@pytest.mark.parametrize(("header", "voxels"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw.gz"), ("a.mhd", "other.bin")])
def test_voxels_beside_their_header_count_as_the_image(header: str, voxels: str, tmp_path: Path) -> None:
    path, data = tmp_path / header, tmp_path / voxels
    sitk.WriteImage(small_ct(slices=1), str(path), useCompression=voxels.endswith(".gz"))
    if voxels == "other.bin":
        (tmp_path / "a.raw").rename(data)
        path.write_text(path.read_text().replace("a.raw", voxels))
    before = state_of(path)
    (tmp_path / "a.txt").write_text("beside")
    assert state_of(path) == before
    os.utime(data, (1, 1))
    assert state_of(path) not in ("", before)
    data.unlink()
    assert state_of(path) not in ("", before)


# ---- thousands of cases ----------------------------------------------------------------------------------------------


def test_the_bookkeeping_of_a_case_does_not_grow_with_the_cohort(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: records that are parsed and rows that are written."""
    out, count = tmp_path / "out", 1000
    (out / ".cases").mkdir(parents=True)
    for number in range(count):
        (tmp_path / "cases").mkdir(exist_ok=True)
        (tmp_path / "cases" / f"{number:04d}.nrrd").write_bytes(b"")  # fails at once
    parsed: list[str] = []
    rows: list[int] = []
    loads, writerows = json.loads, csv.DictWriter.writerows

    def parse(text: str, **options: Any) -> Any:
        parsed.append(text)
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", parse)

    def counted(self: csv.DictWriter[str], every: Any) -> None:
        every = list(every)
        rows.append(len(every))
        writerows(self, every)

    monkeypatch.setattr(csv.DictWriter, "writerows", counted)
    results = segment_cohort(lambda: segmenter, tmp_path / "cases", out)
    assert len(results) == count
    assert len(table(out)) == count
    assert len(parsed) <= 1.1 * count  # each record once
    assert sum(rows) <= 60 * count  # a hundredth of the cases at a time
