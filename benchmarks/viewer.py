"""Time until the viewer shows a chest CT, and from a key press to the next slice. Writes results/viewer.json.

Run ``python -m benchmarks.viewer`` in the environment of ``make test-viewer``, with ``MONAI_R2UNET_DATA`` set, on an
otherwise idle machine. The viewer, its worker and headless Chromium are restricted to the same two cores.

*First view*: from starting the command, with the 512 x 512 x 131 series as its argument, until the axial slice is
visible in a browser that is already open. *Slice*: from pressing an arrow key until the next slice is visible in the
axial view; without and with a mask over it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.browser import chromium, viewing
from benchmarks.records import RESULTS
from monai_r2unet.provenance import processor_name, versions

CORES = 2
SERIES = "volumes/LCTSC_007_dicom"
SIZES = {"1280x720": (1280, 720), "3840x2160": (3840, 2160)}

# Resolves once the picture of the axial view is not black: the image has been received, decoded and displayed.
SEEN = """() => new Promise((seen) => {
  const look = async () => {
    const picture = document.querySelector('#Red img');
    if (picture && picture.src && picture.naturalWidth) {
      const canvas = document.createElement('canvas');
      canvas.width = canvas.height = 32;
      const context = canvas.getContext('2d');
      try { await picture.decode(); } catch { return setTimeout(look, 10); }
      context.drawImage(picture, 0, 0, 32, 32);
      if (Math.max(...context.getImageData(0, 0, 32, 32).data.filter((_, at) => at % 4 != 3)) > 100) return seen();
    }
    setTimeout(look, 10);
  };
  look();
})"""

# Milliseconds from a key to the next picture, decoded. The sharper picture of a slice at rest may come in between.
SLICES = """async (count) => {
  const view = document.querySelector('#Red'), picture = view.querySelector('img'), samples = [];
  const still = (ms) => new Promise((done) => setTimeout(done, ms));
  for (let index = 0; index < count; index++) {
    await still(600);
    const started = performance.now();
    const changed = new Promise((done) => {
      const observer = new MutationObserver(() => { observer.disconnect(); done(); });
      observer.observe(picture, { attributeFilter: ['src'] });
    });
    const key = 2 * index < count ? 'ArrowUp' : 'ArrowDown';  // there and back
    view.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    await changed;
    while (!(await picture.decode().then(() => true, () => false)));  // the next picture came meanwhile: take that
    await new Promise(requestAnimationFrame);
    samples.push(performance.now() - started);
  }
  return samples;
}"""


def main() -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "viewer.json")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--slices", type=int, default=40)
    options = parser.parse_args()
    data = os.environ.get("MONAI_R2UNET_DATA")
    if not data:
        print("error: MONAI_R2UNET_DATA does not name the folder of the public data", file=sys.stderr)
        return 2
    if hasattr(os, "sched_setaffinity"):  # child processes inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    facts = {"processor": processor_name(), "versions": versions(), "cores": _cores(), "image": [512, 512, 131]}
    result: dict[str, Any] = {**facts, "first_view_s": [], "slice_ms": {}}
    with chromium() as browser:
        result["browser"] = f"Chromium {browser.version}"
        for index in range(options.starts):
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(600_000)
            started = time.perf_counter()
            with viewing(str(Path(data) / SERIES), "--folder", data) as address:
                page.goto(address, wait_until="commit")
                page.wait_for_selector("#Red img", state="attached")
                page.evaluate(SEEN)
                result["first_view_s"].append(time.perf_counter() - started)
                if index == options.starts - 1:
                    page.wait_for_selector("#device option[value=cpu]", state="attached")  # the worker is idle
                    _measure_slices(page, "plain", options.slices, result["slice_ms"])
                    page.click("#segment:enabled")
                    page.wait_for_selector("#result .size")
                    page.wait_for_timeout(5000)
                    _measure_slices(page, "mask", options.slices, result["slice_ms"])
                page.close()
    result["first_view_median_s"] = statistics.median(result["first_view_s"])
    result["slice_median_ms"] = {name: statistics.median(samples) for name, samples in result["slice_ms"].items()}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"first view {result['first_view_median_s']:.2f} s")
    for name, samples in result["slice_ms"].items():
        print(f"slice, {name}: median {statistics.median(samples):.0f} ms, slowest {max(samples):.0f} ms")
    return 0


def _measure_slices(page: Any, what: str, count: int, into: dict[str, list[float]]) -> None:
    for name, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(2000)
        page.evaluate(SLICES, 3)
        into[f"{what}, {name}"] = page.evaluate(SLICES, count)


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    sys.exit(main())
