"""The documentation: links lead somewhere, and the reference of the command line is what the parser says."""

from __future__ import annotations

import doctest
import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import SimpleITK as sitk

from monai_r2unet import __version__
from tests.helpers.lung_examples import small_ct

CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?:\]\(|^\[[^\]]+\]: )([^)\s]+)", re.MULTILINE)


def pages(repository: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    return [repository / name for name in listed.stdout.splitlines() if (repository / name).is_file()]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub and the site make them."""
    headings = re.findall(
        r"^#+ (.*)$", CODE.sub(lambda code: code[0].strip("`"), page.read_text("utf-8")), re.MULTILINE
    )
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_link_of_every_page_leads_somewhere(repository: Path) -> None:
    broken = []
    for page in pages(repository):
        for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
            path, _, anchor = link.partition("#")
            if re.match(r"\w+:", path):
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(repository)}: {link}")
    assert not broken


def test_the_reference_of_the_command_line_is_what_the_parser_says(repository: Path) -> None:
    script = module(repository / "docs" / "command_line.py")
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.fill(text) == text, "run python docs/command_line.py"
    assert text.count("\n## ") >= 13


@pytest.mark.parametrize("name", ["index.md", "mkdocs.yml"])
def test_every_page_of_the_docs_is_in(name: str, repository: Path) -> None:
    """Every page is in the index and in the site's menu."""
    docs = repository / "docs"
    text = (repository / name if name == "mkdocs.yml" else docs / name).read_text(encoding="utf-8")
    missing = [page for page in pages(repository) if page.is_relative_to(docs) and page.name != "index.md"]
    missing = [page for page in missing if page.relative_to(docs).as_posix() not in text]
    assert not missing


def test_the_examples_in_all_docstrings_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a scan, as a user has one."""
    sitk.WriteImage(small_ct(slices=2), str(tmp_path / "chest.nii.gz"))
    monkeypatch.chdir(tmp_path)
    for path in sorted((repository / "monai_r2unet").rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(repository).with_suffix("").parts)
            results = doctest.testmod(importlib.import_module(name))
            assert results.attempted > 0, name
            assert results.failed == 0, name


def test_other_files_state_the_version_of_the_package(repository: Path) -> None:
    for name, line in (
        ("CITATION.cff", f"version: {__version__}"),
        ("CHANGELOG.md", f"## {__version__}"),
        ("slicer_extension/R2UNetCLI/R2UNetCLI.xml", f"<version>{__version__}</version>"),
    ):
        assert line in (repository / name).read_text(encoding="utf-8"), name


def test_the_files_that_the_workflow_names_exist(repository: Path) -> None:
    text = (repository / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8")
    named = re.findall(r"\btests/[\w/.]+", text)
    assert named
    assert [name for name in named if not (repository / name).exists()] == []


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
