"""What the tests of the viewer share: without its packages or a browser they are skipped, and say so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.browser import BROWSER, FLAGS

TESTS = Path(__file__).resolve().parents[2]
TIMEOUT = 180_000  # milliseconds; a busy machine takes its time
MISSING = [name for name in ("trame_slicer", "slicer", "playwright") if importlib.util.find_spec(name) is None] + [
    "chromium"
] * (BROWSER is None)


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    if MISSING:
        pytest.skip(f"the viewer is not tested, {' and '.join(MISSING)} missing: see make test-viewer")


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles with random weights, images and their expected masks, shared with the Slicer extension's tests."""
    folder = tmp_path_factory.mktemp("workbench")
    script = TESTS / "slicer_extension" / "workbench.py"
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True)
    return folder


@pytest.fixture(scope="session")
def browser(_able: None) -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def launch(_able: None) -> Iterator[Callable[..., Any]]:
    """Start viewers that are ended with the test."""
    from tests.apps.viewer.viewer_process import Viewer

    started: list[Viewer] = []

    def start(how: str, *arguments: Any, **options: Any) -> Viewer:
        started.append(getattr(Viewer, how)(*arguments, **options))
        return started[-1]

    yield start
    for viewer in started:
        viewer.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a viewer in a window of its own; afterwards the page has asked nothing of others and met no error."""
    contexts, faults = [], []

    def open_it(viewer: Any, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("request", lambda request: _note(faults, request.url, viewer))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(viewer.address)
        page.wait_for_selector("#Red", state="attached")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not faults


def _note(faults: list[str], url: str, viewer: Any) -> None:
    if not url.startswith((f"http://{viewer.host}:{viewer.port}/", "blob:", "data:")):
        faults.append(f"the page asked for {url}")


@pytest.fixture(scope="session")
def picture_of() -> Callable[..., Any]:
    """What a view shows: (rows, columns, 3), 0 to 255."""

    def picture(page: Any, view: str = "Red") -> Any:
        import io

        from PIL import Image

        shot = page.locator(f"#{view} .area").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    return picture


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Wait until a condition is truthy, at most a browser's default timeout; returns its value."""

    def wait_until(page: Any, so: Callable[[], Any]) -> Any:
        end = time.monotonic() + TIMEOUT / 1000
        while time.monotonic() < end:
            if found := so():
                return found
            page.wait_for_timeout(50)
        raise AssertionError("waited in vain")

    return wait_until


@pytest.fixture(scope="session")
def wait_for(picture_of: Callable[..., Any], until: Callable[..., Any]) -> Callable[..., Any]:
    """Wait until what a view shows fulfils a condition."""

    def wait_until(page: Any, condition: Callable[[Any], Any], view: str = "Red") -> Any:
        def found() -> tuple[Any] | None:
            picture = picture_of(page, view)
            return (picture,) if condition(picture) else None

        return until(page, found)[0]

    return wait_until
