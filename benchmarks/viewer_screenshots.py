"""Screenshots of the viewer for the documentation: loaded, running, finished. Run by `make screenshots`.

It needs the extras ``viewer`` and ``viewer-test``, a Chromium, and the chest CT of the public data, in the folder given
by the environment variable ``MONAI_R2UNET_DATA``.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.browser import BROWSER, chromium, viewing
from benchmarks.records import REPOSITORY

FIGURES = REPOSITORY / "docs" / "figures"
CT = "volumes/LCTSC_007_dicom"
REFERENCE = "volumes/LCTSC_007_lung.nii.gz"
SMALL, LARGE = {"width": 1280, "height": 720}, {"width": 3840, "height": 2160}


def main() -> int:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder to write to")
    parser.add_argument("--all", action="store_true", help="each state in light and dark, and on a 4K screen")
    options = parser.parse_args()
    data = os.environ.get("MONAI_R2UNET_DATA")
    if not data:
        print("error: MONAI_R2UNET_DATA does not name the folder of the public data", file=sys.stderr)
        return 2
    with viewing(str(Path(data) / CT), "--folder", data) as address, chromium() as browser:
        page = browser.new_page(viewport=SMALL, color_scheme="dark")
        page.set_default_timeout(600_000)
        page.goto(address)
        page.wait_for_selector("header .name")
        page.wait_for_selector("#device option[value=cpu]", state="attached")
        shoot(page, "loaded", options)
        page.click("#segment:enabled")
        page.wait_for_function("document.querySelector('#bar')?.value > 40")
        shoot(page, "running", options, settle=0)
        page.wait_for_selector("#result .size")
        wait_for_colour(page, "ThreeD")
        wait_for_colour(page, "Red")
        shoot(page, "finished", options)
        page.fill("#reference-path", REFERENCE)
        page.press("#reference-path", "Enter")
        page.wait_for_selector("#measures")
        shoot(page, "compared", options)
    return 0


def wait_for_colour(page: Any, view: str) -> None:
    """Wait until a view shows more than grey."""
    while True:
        picture = Image.open(io.BytesIO(page.locator(f"#{view} .area").screenshot())).convert("HSV")
        if sum(picture.getchannel("S").histogram()[60:]) > 1000:
            return
        page.wait_for_timeout(500)


def shoot(page: Any, state: str, options: argparse.Namespace, settle: int = 3000) -> None:
    """Write screenshots of a state; `settle` is the time in ms for the views to be drawn."""
    looks = [("", SMALL, "dark")]
    if options.all:
        looks += [("_light", SMALL, "light"), ("_4k", LARGE, "dark"), ("_4k_light", LARGE, "light")]
    for ending, size, scheme in looks:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(settle)
        shot = Image.open(io.BytesIO(page.screenshot()))
        path = options.out / f"viewer_{state}{ending}.webp"
        shot.convert("RGB").save(path, quality=90, method=6)
        print(f"{path}\t{path.stat().st_size / 1000:.0f} kB")
    page.set_viewport_size(SMALL)
    page.emulate_media(color_scheme="dark")


if __name__ == "__main__":
    if BROWSER is None:
        sys.exit("error: there is no Chromium: install one, such as Debian's package chromium")
    sys.exit(main())
