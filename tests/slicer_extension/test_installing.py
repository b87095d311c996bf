"""Installing from wheels in a folder, without a network, into an environment in place of Slicer's Python."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

INSTALLER = Path(__file__).resolve().parents[2] / "slicer_extension" / "R2UNet" / "R2UNetLib" / "install_packages.py"


def write_wheel(folder, name, version, requires=()):
    """A wheel with nothing in it but a module of its name."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {text}" for text in requires]
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(path, content)
    return wheel


@pytest.fixture(scope="module")
def slicer_python(tmp_path_factory):
    """An environment with an old numpy and SimpleITK of Slicer's own, and a folder of wheels with newer ones."""
    folder = tmp_path_factory.mktemp("installing")
    wheels = folder / "wheels"
    wheels.mkdir()
    python = folder / "venv" / "bin" / "python"
    venv.create(folder / "venv", with_pip=True)
    old = [write_wheel(folder, "numpy", "1.0"), write_wheel(folder, "SimpleITK", "2.0rc1.dev5")]
    old.append(write_wheel(folder, "tqdm", "4.0"))
    pip(python, "install", "--no-index", *map(str, old))
    for name in ("numpy", "SimpleITK", "torch", "unrelated"):
        write_wheel(wheels, name, "9.0")
    write_wheel(
        wheels, "monai", "1.6.1", ["numpy>=2", "torch>=2.8", "fire; extra == 'fire'", "unrelated; extra == 'x'"]
    )
    write_wheel(wheels, "fire", "0.7", ["termcolor"])
    write_wheel(wheels, "termcolor", "3.0", ["fire"])  # in a circle
    write_wheel(wheels, "tqdm", "4.60")
    requires = [
        "torch>=2.8",
        "monai[fire]>=1.6",
        "numpy>=1.26",
        "SimpleITK>=2.4",
        "tqdm>=4.50",
        "old; python_version<'3'",
    ]
    return python, write_wheel(wheels, "monai_r2unet", "0.1.0", requires)


def run(*command):
    """Run in an environment of its own: Python's search path of the tests would show other packages."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)


def pip(python, *arguments):
    done = run(python, "-m", "pip", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(python):
    packages = json.loads(pip(python, "list", "--format", "json"))
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def test_what_slicer_brings_is_left_alone(slicer_python):
    python, wheel = slicer_python
    done = run(python, INSTALLER, wheel, "--from-folder", wheel.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    packages = installed(python)
    assert {name: packages.get(name) for name in ("numpy", "simpleitk", "torch", "unrelated", "old")} == {
        "numpy": "1.0",
        "simpleitk": "2.0rc1.dev5",
        "torch": None,
        "unrelated": None,
        "old": None,
    }
    assert {name: packages.get(name) for name in ("monai-r2unet", "monai", "fire", "termcolor", "tqdm")} == {
        "monai-r2unet": "0.1.0",
        "monai": "1.6.1",
        "fire": "0.7",
        "termcolor": "3.0",
        "tqdm": "4.60",  # the one that was there is too old
    }


def test_a_package_that_is_missing_from_the_folder_is_told(slicer_python, tmp_path):
    python, _wheel = slicer_python
    wheel = write_wheel(tmp_path, "monai_r2unet", "0.2.0", ["not-in-the-folder"])
    done = run(python, INSTALLER, wheel, "--from-folder", tmp_path)
    assert done.returncode != 0
    assert "not-in-the-folder" in done.stderr
    assert done.stdout.rstrip().endswith("Not installed.")


def test_the_panel_installs_in_the_background(opened, wait, slicer_python, monkeypatch):
    """From the buttons: with Slicer's own Python, and only if PyTorch is there."""
    from R2UNetLib import setup_section
    from R2UNetLib.pythons import Python, other_python

    python, wheel = slicer_python
    ui, section = opened.ui, opened.setupSection
    before = other_python()
    monkeypatch.setattr(section, "on_changed", lambda: None)
    monkeypatch.setattr(setup_section, "slicer_python", lambda: Python(str(python), None, own=True))
    assert not ui.installButton.enabled  # another Python is its owner's business
    ui.slicerPythonRadioButton.setChecked(True)
    assert ui.installButton.enabled
    assert not ui.installFileButton.enabled
    ui.wheelPathLineEdit.currentPath = str(wheel.parent)
    ui.installFileButton.click()
    assert ui.packageStateLabel.text.endswith("is not a wheel, which is a file that ends with .whl.")

    ui.wheelPathLineEdit.currentPath = str(wheel)
    versions = {"torch": None}
    monkeypatch.setattr(setup_section, "installed_version", lambda name: versions.get(name, "0.1.0"))
    ui.installFileButton.click()
    assert ui.packageStateLabel.text.startswith("Install the extension 'PyTorch' first")
    versions["torch"] = "2.13"
    ui.installFileButton.click()
    assert section.installer.running
    assert ui.packageStateLabel.text == "Installing: see the log ..."
    assert not ui.installButton.enabled
    wait(lambda: not section.installer.running)
    assert ui.packageStateLabel.text == "R2U-Net 0.1.0 is installed."
    assert "Installed." in ui.logTextEdit.plainText
    ui.pythonPathLineEdit.currentPath = before
    ui.otherPythonRadioButton.setChecked(True)
    assert other_python() == before
