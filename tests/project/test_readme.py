"""The commands in the README and in the user's pages of the docs run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

from monai_r2unet.images.reading import read_image

CODE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What would take long or needs a network is shown to be what it says, not run as a whole.
QUICK = ["--epochs", "1", "--slice_size", "64"]
QUICK_STUDY = ["--networks", "ForwardUNet", "--seeds", "0", "--protocol", "default", "--epochs", "1", "--patches", "16"]


def commands(text: str) -> list[str]:
    return [line for language, block in CODE.findall(text) if language == "bash" for line in block.splitlines()]


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def guides(repository: Path, readme: str) -> str:
    """The README, and after it the pages that begin where it ends."""
    pages = [path for part in ("start", "how-to") for path in sorted((repository / "docs" / part).glob("*.md"))]
    return "\n".join([readme, *(path.read_text(encoding="utf-8") for path in pages)])


@pytest.fixture(scope="module")
def workspace(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the files that the README's commands speak of."""
    work = tmp_path_factory.mktemp("readme")
    shutil.copytree(repository / "bundles", work / "bundles", symlinks=True, ignore=shutil.ignore_patterns("eval"))
    shutil.copytree(repository / "label_server", work / "label_server")
    (work / "slicer_extension" / "R2UNet").mkdir(parents=True)
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / file, work)
    sample = repository / "bundles" / "lung" / "sample"
    volume = read_image(sample / "images" / "LCTSC_008.nii.gz")
    write_dicom(volume, work / "chest_dicom")
    shutil.copy(repository / "bundles" / "skin" / "sample" / "images" / "ISIC_0000014.jpg", work / "lesion.jpg")
    scans = work / "my_scans"
    for folder, ending in (("images", "ct"), ("labels", "lung")):
        scans.mkdir(exist_ok=True)
        for case in ("LCTSC_000", "LCTSC_001", "LCTSC_006"):
            image = read_image(sample / folder / f"{case}.nii.gz")
            sitk.WriteImage(image[:, :, 6:10], str(scans / f"{case}_{ending}.nii.gz"))
    (scans / "split.csv").write_text("case,split\nLCTSC_000,train\nLCTSC_001,train\nLCTSC_006,val\n")
    return work


def write_dicom(volume: sitk.Image, folder: Path) -> None:
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = volume.GetDirection()
    cosines = [direction[i] for i in (0, 3, 6, 1, 4, 7)]
    for k in range(volume.GetDepth()):
        one = volume[:, :, k]
        tags = {
            "0008|0060": "CT",
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1.1",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.1.{k + 1}",
            "0020|0013": str(k + 1),
            "0018|0050": str(volume.GetSpacing()[2]),
            "0020|0032": "\\".join(f"{x:.10g}" for x in volume.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "\\".join(f"{x:.10g}" for x in cosines),
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k + 1:03d}.dcm"))
        writer.Execute(one)


def test_every_command_runs(guides: str, repository: Path, workspace: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = 0
    for line in dict.fromkeys(commands(guides)):
        words = line.split()
        if words[0] == "pip":  # the gate installs the wheel into an empty environment
            continue
        if words[0] == "make":
            shown = subprocess.run(
                ["make", "--dry-run", *words[1:]], cwd=workspace, capture_output=True, encoding="utf-8"
            )
            assert shown.returncode == 0, shown.stderr
            continue
        if words[0] == "Slicer":  # not at hand; what it is given has to be there
            assert (repository / words[-1]).is_dir()
            continue
        if "organs" in line:  # the reader's own data; tests/apps/planning runs these commands on phantoms
            continue
        if "monai-r2unet view" in line:  # a server, which the viewer's own tests start in its environment
            continue
        if "monai-r2unet reproduce" in line:
            line = " ".join([line, *QUICK_STUDY])
        if "run training" in line:
            line = " ".join([line, *QUICK])
        done = subprocess.run(line, shell=True, cwd=workspace, env=environment, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        run += 1
    assert run >= 10
    assert (workspace / "mine.nii.gz").exists()


def test_make_train_runs_exactly_the_documented_command(guides: str, repository: Path) -> None:
    command = "python -m monai.bundle run training --config_file bundles/lung/train.json"
    assert command in commands(guides)
    recipe = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "train"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert recipe.stdout.splitlines()[-1] == f".venv/bin/{command}"


def test_the_python_example_runs(readme: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    (example,) = [block for language, block in CODE.findall(readme) if language == "python"]
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    mask = names["mask"]
    assert isinstance(mask, sitk.Image)
    assert mask.GetSize() == (256, 256, 19)


def test_links_and_figures_exist(readme: str, repository: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", readme)
    missing = [target for target in targets if "://" not in target and not (repository / target).exists()]
    assert not missing
