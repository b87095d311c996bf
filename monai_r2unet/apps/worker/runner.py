"""The worker's runs: from the request to the written mask, with the bundle kept loaded between them."""

from __future__ import annotations

import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from monai_r2unet.atomic import temporary_name
from monai_r2unet.errors import InputError, NotEnoughMemoryError, OutputError, find_input_error, sentence_of
from monai_r2unet.io import read_image_with_notes
from monai_r2unet.outputs import check_mask_output, write_mask
from monai_r2unet.protocol import Answer, Run
from monai_r2unet.segmenter import Segmenter
from monai_r2unet.slices import put_slices, take_slices
from monai_r2unet.tasks import Cancelled, Task

__all__ = ["Jobs", "devices"]


class Jobs:
    """Does runs, one after the other, in one thread."""

    def __init__(self) -> None:
        self.loaded: tuple[Any, Segmenter] | None = None

    def do(self, task: Task) -> Answer:
        """The event that ends a run: ``done``, ``cancelled`` or ``error``, with what it carries."""
        try:
            return "done", self._segment(task)
        except Cancelled:
            return "cancelled", {}
        except Exception as error:
            if task.is_cancelled():  # which may have been what it stumbled over
                return "cancelled", {}
            code, message = _explain(error, task.run)
            if code == "internal":
                traceback.print_exc(file=sys.stderr)
            if code in ("internal", "memory"):
                self.loaded = None  # in whatever state it is
            return "error", {"code": code, "message": message}

    def _segment(self, task: Task) -> dict[str, Any]:
        run = task.run
        told: list[str] = []

        def warn(sentence: str) -> None:
            told.append(sentence)
            task.tell("log", level="warning", message=sentence)

        def progress(done: int, total: int) -> None:
            task.tell("progress", done=done, total=total)
            task.stop_if_cancelled()

        started = time.perf_counter()
        task.stop_if_cancelled()
        check_mask_output(run.output, run.input, overwrite=run.overwrite)
        if Path(run.output).resolve() == Path(run.input).resolve():
            raise InputError(f"{run.output} is input and output at once: give the mask a name of its own")
        image, notes = read_image_with_notes(run.input)
        for sentence in notes:
            warn(sentence)
        part = image if run.slices is None else take_slices(image, run.slices)
        read = time.perf_counter()
        task.stop_if_cancelled()
        segmenter = self._segmenter(task)
        loaded = time.perf_counter()
        task.stop_if_cancelled()
        result = segmenter.run(part, scale=run.scale, on_progress=progress)
        for sentence in result.warnings:
            warn(sentence)
        mask = result.mask if run.slices is None else put_slices(result.mask, run.slices, image)
        found = {"voxels": result.voxels, "millilitres": result.millilitres, "warnings": told}
        segmented = time.perf_counter()
        _write(task, mask, segmenter)
        seconds = {"read": read - started, "load": loaded - read, **result.seconds}
        return {"output": run.output, **found, "seconds": {**seconds, "write": time.perf_counter() - segmented}}

    def _segmenter(self, task: Task) -> Segmenter:
        """The one that is loaded, if it is the one asked for."""
        run = task.run
        own = None if run.weights is None else Path(run.weights)
        changed = own.stat().st_mtime_ns if own is not None and own.is_file() else None
        key = (run.bundle, run.device, own, changed, run.batch_size, run.cpu_fallback, run.trust_bundle, run.engine)
        if self.loaded is None or self.loaded[0] != key:
            self.loaded = None  # two at once may not fit into memory
            segmenter = Segmenter(
                run.bundle,
                run.device,
                own,
                run.batch_size,
                cpu_fallback=run.cpu_fallback,
                trust_bundle=run.trust_bundle,
                engine=run.engine,
            )
            self.loaded = (key, segmenter)
            task.tell("log", level="info", message=f"loaded {run.bundle} on {segmenter.device}")
        return self.loaded[1]


def _write(task: Task, mask: sitk.Image, segmenter: Segmenter) -> None:
    """Write beside the output, which takes its place unless the run was cancelled meanwhile."""
    run, output = task.run, Path(task.run.output)
    workspace = temporary_name(output)
    try:
        task.begin_writing(workspace)
        written = workspace / output.name
        write_mask(mask, written, bundle=segmenter.bundle, source=run.input)
        check_mask_output(output, run.input, overwrite=run.overwrite)
        task.commit(written, output)
    except OSError as error:
        raise OutputError(output, error) from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _explain(error: Exception, run: Run) -> tuple[str, str]:
    """The code and the sentence for an error."""
    if isinstance(error, OutputError):
        return "output", sentence_of(error)
    if isinstance(error, NotEnoughMemoryError):
        return "memory", sentence_of(error)
    if find_input_error(error) is not None:
        return "input", sentence_of(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory", f"not enough memory for {run.input} on {run.device}: close other programs or choose the CPU"
    return "internal", sentence_of(error)


def devices() -> list[dict[str, Any]]:
    """The devices of this machine, the CPU last; of a GPU also its free and its total memory in bytes."""
    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append({"id": f"cuda:{index}", "name": name, "free_bytes": free, "total_bytes": total})
    return [*found, {"id": "cpu", "name": "CPU"}]
