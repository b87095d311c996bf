#!/usr/bin/env python-real
"""Segment one volume with a trained R2U-Net: a command line module of Slicer, for its batch tools.

Uses the same worker as the module R2UNet and reports progress to Slicer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

MARK = "@@"  # before each event of the worker


def main() -> int:
    """Segment; returns 0, or 1 after a sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what they cannot print
        stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputVolume", type=Path)
    parser.add_argument("outputLabelmap", type=Path)
    parser.add_argument("--bundle", default="")
    parser.add_argument("--trust-bundle", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cpu-fallback", action="store_true")
    parser.add_argument("--scale", default="")
    parser.add_argument("--python", default="")
    options = parser.parse_args()
    if not options.bundle:
        print("error: no bundle was named; 'monai-r2unet list' shows the available ones", file=sys.stderr)
        return 1
    run = {
        "cmd": "run",
        "bundle": options.bundle,
        "input": str(options.inputVolume.absolute()),
        "output": str(options.outputLabelmap.absolute()),
        "device": options.device,
        "overwrite": True,  # Slicer may have created the file already
        **({"trust_bundle": True} if options.trust_bundle else {}),
        **({"cpu_fallback": True} if options.cpu_fallback else {}),
        **({"scale": options.scale} if options.scale else {}),
    }
    command = [options.python or sys.executable, "-u", "-m", "monai_r2unet.worker"]
    environment = _clean_environment() if options.python else None
    _tell("<filter-start><filter-name>R2U-Net</filter-name></filter-start>")
    # The worker exits when its standard input closes, so it never outlives this process.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
    ) as worker:
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("the worker has no pipes")
        try:
            worker.stdin.write(json.dumps(run) + "\n")
            worker.stdin.flush()
            done = _follow(worker.stdout)
            worker.stdin.close()
        except BrokenPipeError:
            done = False
    if not done:
        return 1
    _tell("<filter-end><filter-name>R2U-Net</filter-name></filter-end>")
    return 0


def _follow(events: IO[str]) -> bool:
    """Pass the worker's events on to Slicer; returns whether the result was written."""
    for line in events:
        if not line.startswith(MARK):
            continue
        event = json.loads(line[len(MARK) :])
        if event["event"] == "progress":
            _tell(f"<filter-progress>{event['done'] / event['total']:.4f}</filter-progress>")
        elif event["event"] == "log":
            print(event["message"], flush=True)
        elif event["event"] == "error":
            print(f"error: {event['message']}", file=sys.stderr)
            return False
        elif event["event"] == "done":
            for label in event["labels"]:
                volume = label["millilitres"]
                size = "pixels" if volume is None else f"voxels, {volume:.1f} mL"
                print(f"{label['name']}: {label['voxels']} {size}", flush=True)
            return True
    print("error: R2U-Net could not be started: is monai-r2unet installed in this Python?", file=sys.stderr)
    return False


def _clean_environment() -> dict[str, str]:
    """The environment without the variables that Slicer's launcher sets for its own Python."""
    ours = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: value for name, value in os.environ.items() if name not in ours}


def _tell(tag: str) -> None:
    print(tag, flush=True)


if __name__ == "__main__":
    sys.exit(main())
