"""The viewer as a process with a browser, for its benchmark, its pictures and its tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["BROWSER", "FLAGS", "chromium", "viewing"]

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def viewing(*arguments: str) -> Iterator[str]:
    """Run ``monai-r2unet view`` with these arguments; yields its address."""
    command = [sys.executable, "-m", "monai_r2unet", "view", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"the viewer printed no address: {' '.join(command)}")
            yield address
        finally:
            process.terminate()
            process.wait(30)
