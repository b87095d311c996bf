"""What surrounds the process: names, locales, streams, users and homes of any kind cost no mask and end no cohort."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monai_r2unet import Segmenter
from monai_r2unet.images.reading import read_image
from tests.helpers.lung_examples import small_ct
from tests.inference.cohort.cohort_examples import write_dicom

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")

LONG = "y" * 248  # with .nii.gz, the longest name of a file
FOLDER = "d" * 255  # whose mask would have a longer one
MASKS = [b"D\xfcren", b"K\xf6ln", b"M\xfcller", b"N\xfcrnberg", b"a", LONG.encode(), "肺 Łódź".encode(), b"new\nline"]
MASKS += [b"unrecorded"]
FAILED = [FOLDER, "dangling", "fifo", "taken"]


@pytest.fixture
def troubled(tmp_path: Path) -> Path:
    """A folder of cases, each with a trouble of its own but one, and a folder for the masks with two more."""
    ct, cases = small_ct(slices=1), tmp_path / "cases"
    cases.mkdir()
    for name in ("a.nii.gz", "a.nrrd", "a.mhd"):
        sitk.WriteImage(ct, str(tmp_path / name))
    for source, name in (
        ("a.nii.gz", b"a.nii.gz"),
        ("a.nii.gz", b"M\xfcller.nii.gz"),
        ("a.nrrd", b"N\xfcrnberg.nrrd"),
        ("a.mhd", b"K\xf6ln.mhd"),
        ("a.raw", b"a.raw"),
        ("a.nii.gz", f"{LONG}.nii.gz".encode()),
        ("a.nii.gz", "肺 Łódź.nii.gz".encode()),
        ("a.nii.gz", b"new\nline.nii.gz"),
        ("a.nii.gz", b"taken.nii.gz"),
        ("a.nii.gz", b"unrecorded.nii.gz"),
    ):
        shutil.copy(tmp_path / source, cases / os.fsdecode(name))
    write_dicom(tmp_path / "series", ct)
    (tmp_path / "series").rename(cases / os.fsdecode(b"D\xfcren"))
    write_dicom(cases / FOLDER, ct)
    (cases / "dangling.nii.gz").symlink_to("nowhere")
    os.mkfifo(cases / "fifo.nii.gz")
    (tmp_path / "out" / "taken.nii.gz").mkdir(parents=True)
    (tmp_path / "out" / ".cases" / "unrecorded.json").mkdir(parents=True)
    return tmp_path


def segment(folder: Path, bundles: Path, repository: Path, redirected: str = "", **environment: str) -> tuple[int, str]:
    """Exit code and standard error of the command in a shell, with nothing but this environment."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o555)
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    # As a user whom the system knows by number only, where that can be.
    nameless = ["unshare", "--user", "--map-user=54321"]
    can = shutil.which("unshare") and subprocess.run([*nameless, "true"], capture_output=True).returncode == 0
    command = f"exec {sys.executable} -m monai_r2unet segment cases out --bundle {bundles / 'lung'} --trust-bundle"
    done = subprocess.run(
        [*(nameless if can else []), "bash", "-c", f"{command} --device cpu {redirected}"],
        cwd=folder,
        env={**variables, **environment},
        capture_output=True,
        timeout=300,
    )
    (folder / "stdout").write_bytes(done.stdout)
    return done.returncode, done.stderr.decode("utf-8", "replace")


def masks(out: Path) -> set[bytes]:
    return {os.fsencode(path.name)[: -len(".nii.gz")] for path in out.glob("*.nii.gz") if path.is_file()}


@pytest.mark.parametrize(
    ("redirected", "environment"),
    [
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("", {"PYTHONIOENCODING": "cp1252"}),
        ("<&- >&-", {}),
        ("> /dev/full", {}),
    ],
    ids=["ascii", "cp1252", "closed", "full"],
)
def test_a_cohort_with_every_trouble_writes_all_other_masks_and_names_each_failure(
    troubled: Path, bundles: Path, repository: Path, redirected: str, environment: dict[str, str]
) -> None:
    code, err = segment(troubled, bundles, repository, redirected, **environment)
    assert code == 3, err
    assert "Traceback" not in err
    assert re.findall(r"^failed: (\w+): ", err, re.MULTILINE) == sorted(FAILED)
    assert "warning: unrecorded: not recorded: " in err
    assert masks(troubled / "out") == set(MASKS)
    expected = Segmenter(bundles / "lung", "cpu", trust_bundle=True)(small_ct(slices=1))
    for path in (troubled / "out").glob("*.nii.gz"):
        if path.is_file():
            np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), sitk.GetArrayFromImage(expected))
    with (troubled / "out" / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows if row["status"] == "failed"] == sorted(FAILED)
    assert len(rows) == len(MASKS) + len(FAILED) - 1
    if not redirected:
        printed = (troubled / "stdout").read_bytes().splitlines()
        assert len(printed) == len(MASKS)
        assert b"out/M\xfcller.nii.gz\t" in printed[2]

    # Again: nothing is done twice, and the same is named.
    before = {path: path.stat().st_mtime_ns for path in (troubled / "out").glob("*.nii.gz")}
    assert segment(troubled, bundles, repository, redirected, **environment)[0] == 3
    assert {path: path.stat().st_mtime_ns for path in (troubled / "out").glob("*.nii.gz")} == before
