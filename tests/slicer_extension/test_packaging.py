"""What Slicer's index of extensions and its build ask of the files. Needs neither Slicer nor its wheel."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = REPOSITORY / "slicer_extension"
RAW = "https://raw.githubusercontent.com/monai-r2unet/monai-r2unet/main/"
TEXT_WIDGETS = {"QLabel", "QPushButton", "QCheckBox", "QRadioButton", "ctkCollapsibleButton"}


def cmake_value(name):
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    (value,) = re.findall(rf'set\({name} "([^"]+)"\)', text)  # in quotes and on one line: the index reads it so
    return value


def size_of_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_the_description_keeps_to_the_rules_of_the_index():
    path = EXTENSION / "R2UNet.json"
    assert b"\r" not in path.read_bytes()
    description = json.loads(path.read_text(encoding="utf-8"))
    types = {
        "$schema": str,
        "category": str,
        "scm_url": str,
        "scm_revision": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "tier": int,
    }
    assert description.keys() == types.keys()
    assert {key: type(value) for key, value in description.items()} == types
    assert re.fullmatch(
        r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/.+\.json#", description["$schema"]
    )
    assert urlsplit(description["scm_url"]).scheme in ("git", "https")
    assert description["tier"] == 1  # experimental
    assert not path.stem.lower().startswith("slicer")
    assert description["category"] == cmake_value("EXTENSION_CATEGORY")
    assert description["build_dependencies"] == cmake_value("EXTENSION_DEPENDS").split()
    project = re.search(r"project\s*\(\s*([^\s)]+)", (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert project is not None
    assert project[1] == path.stem
    assert (REPOSITORY / "LICENSE").is_file()


def test_icon_and_screenshots_are_where_the_index_looks_for_them():
    icon = cmake_value("EXTENSION_ICONURL")
    assert icon.startswith(RAW)
    assert size_of_png(REPOSITORY / icon.removeprefix(RAW)) == (128, 128)
    for url in cmake_value("EXTENSION_SCREENSHOTURLS").split():
        assert url.startswith(RAW)
        assert min(size_of_png(REPOSITORY / url.removeprefix(RAW))) > 300


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cmake_installs_exactly_the_files_that_there_are(tmp_path):
    build, installed = tmp_path / "build", tmp_path / "installed"
    slicer = EXTENSION / "Testing" / "fakeslicer"
    configure = ["cmake", "-S", str(REPOSITORY), "-B", str(build), f"-DSlicer_DIR={slicer}", "-Wno-dev"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(installed)], check=True, capture_output=True)

    def files(folder):
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {path for path in found if "__pycache__" not in path.parts and path.name != "CMakeLists.txt"}

    assert files(installed / "qt-scripted-modules") == files(EXTENSION / "R2UNet")
    assert files(installed / "cli-modules") == files(EXTENSION / "R2UNetCLI")


def test_the_command_line_modules_description_is_valid():
    ctk_cli = pytest.importorskip("ctk_cli")
    module = ctk_cli.CLIModule(str(EXTENSION / "R2UNetCLI" / "R2UNetCLI.xml"))
    assert module.title == "R2U-Net (batch)"
    arguments, options, outputs = module.classifyParameters()
    assert [parameter.name for parameter in arguments] == ["inputVolume", "outputLabelmap"]
    flags = {"--bundle", "--trust-bundle", "--device", "--cpu-fallback", "--scale", "--python"}
    assert {parameter.longflag for parameter in options} == flags
    assert outputs == []
    texts = [parameter.description for group in module for parameter in group]
    assert all(texts)
    script = subprocess.run(
        [sys.executable, str(EXTENSION / "R2UNetCLI" / "R2UNetCLI.py"), "--help"], capture_output=True, text=True
    )
    assert script.returncode == 0
    for option in options:
        assert option.longflag in script.stdout


def test_every_text_in_the_panel_has_a_tooltip_and_can_be_translated():
    root = ElementTree.parse(EXTENSION / "R2UNet" / "Resources" / "UI" / "R2UNet.ui")
    widgets = [widget for widget in root.iter("widget") if widget.get("name") != "R2UNet"]
    assert len(widgets) > 30
    for widget in widgets:
        tip = widget.find("property[@name='toolTip']/string")
        assert tip is not None, widget.get("name")
        assert tip.text, widget.get("name")
        if widget.get("class") in TEXT_WIDGETS - {"QLabel"}:
            assert widget.find("property[@name='text']/string") is not None, widget.get("name")
    for item in root.iter("property"):
        string = item.find("string")
        if string is not None and string.get("notr"):
            assert item.get("name") == "SlicerParameterName"
    names = [widget.get("name") for widget in root.iter("widget")]
    assert len(names) == len(set(names))


def test_nothing_of_the_module_imports_the_heavy_packages():
    """Slicer's own process stays free of torch, and nothing is installed by an import."""
    for path in (EXTENSION / "R2UNet").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (torch|monai|monai_r2unet|nibabel|SimpleITK)\b", source, re.M), path
        assert "pip_install" not in source, path
