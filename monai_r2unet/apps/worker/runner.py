"""Carries out the worker's runs, from request to written mask, and keeps the bundle loaded between them."""

from __future__ import annotations

import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from monai_r2unet.apps.worker.protocol import Answer, Request
from monai_r2unet.apps.worker.run import Cancelled, Run
from monai_r2unet.errors import InputError, NotEnoughMemoryError, OutputError, find_input_error, sentence_of
from monai_r2unet.files import temporary_name
from monai_r2unet.images.masks import check_mask_output, check_mask_source, write_mask
from monai_r2unet.images.reading import read_image_with_notes
from monai_r2unet.images.slices import put_slices, take_slices
from monai_r2unet.inference.reports import densities
from monai_r2unet.inference.segmenter import Segmenter
from monai_r2unet.networks.devices import is_out_of_memory

__all__ = ["Runner"]


class Runner:
    """Carries out runs one after the other, in one thread."""

    def __init__(self) -> None:
        self.loaded: tuple[Any, Segmenter] | None = None

    def do(self, run: Run) -> Answer:
        """Carry out a run; returns its final event, ``done``, ``cancelled`` or ``error``, and the event's content."""
        try:
            return "done", self._segment(run)
        except Cancelled:
            return "cancelled", {}
        except Exception as error:
            if run.is_cancelled():  # which may have caused the error
                return "cancelled", {}
            code, message = _explain(error, run.request)
            if code == "internal":
                traceback.print_exc(file=sys.stderr)
            if code in ("internal", "memory"):
                self.loaded = None  # its state is unknown
            return "error", {"code": code, "message": message}

    def _segment(self, run: Run) -> dict[str, Any]:
        request = run.request
        told: list[str] = []

        def warn(sentence: str) -> None:
            told.append(sentence)
            run.tell("log", level="warning", message=sentence)

        def progress(done: int, total: int) -> None:
            run.tell("progress", done=done, total=total)
            run.stop_if_cancelled()

        started = time.perf_counter()
        run.stop_if_cancelled()
        check_mask_output(request.output, request.input, overwrite=request.overwrite)
        if Path(request.output).resolve() == Path(request.input).resolve():
            raise InputError(f"{request.output} is both the input and the output: choose another name for the mask")
        image, notes = read_image_with_notes(request.input)
        for sentence in notes:
            warn(sentence)
        part = image if request.slices is None else take_slices(image, request.slices)
        read = time.perf_counter()
        run.stop_if_cancelled()
        segmenter = self._segmenter(run)
        check_mask_source(request.output, bundle=segmenter.bundle, source=request.input)
        loaded = time.perf_counter()
        run.stop_if_cancelled()
        clean_up = request.clean_up and request.slices is None
        try:
            result = segmenter.run(part, scale=request.scale, clean_up=clean_up, on_progress=progress)
        finally:
            if segmenter.device.type == "cuda":
                torch.cuda.empty_cache()  # other programs need it while this process waits
        for sentence in result.warnings:
            warn(sentence)
        mask = result.mask if request.slices is None else put_slices(result.mask, request.slices, image)
        found = {
            "voxels": result.voxels,
            "millilitres": result.millilitres,
            "labels": result.by_label,
            **densities(part, result, segmenter.bundle),
            "warnings": told,
        }
        segmented = time.perf_counter()
        _write(run, mask, segmenter)
        seconds = {"read": read - started, "load": loaded - read, **result.seconds}
        return {"output": request.output, **found, "seconds": {**seconds, "write": time.perf_counter() - segmented}}

    def _segmenter(self, run: Run) -> Segmenter:
        """The loaded segmenter if it matches the request, otherwise a new one."""
        request = run.request
        own = None if request.weights is None else Path(request.weights)
        changed = own.stat().st_mtime_ns if own is not None and own.is_file() else None
        key = (
            request.bundle,
            request.device,
            own,
            changed,
            request.batch_size,
            request.cpu_fallback,
            request.trust_bundle,
            request.engine,
        )
        if self.loaded is None or self.loaded[0] != key:
            self.loaded = None  # two at once may not fit into memory
            segmenter = Segmenter(
                request.bundle,
                request.device,
                own,
                request.batch_size,
                cpu_fallback=request.cpu_fallback,
                trust_bundle=request.trust_bundle,
                engine=request.engine,
            )
            self.loaded = (key, segmenter)
            run.tell("log", level="info", message=f"loaded {request.bundle} on {segmenter.device}")
        return self.loaded[1]


def _write(run: Run, mask: sitk.Image, segmenter: Segmenter) -> None:
    """Write the mask next to the output, then move it into place unless the run was cancelled meanwhile."""
    request, output = run.request, Path(run.request.output)
    workspace = temporary_name(output)
    try:
        run.begin_writing(workspace)
        written = workspace / output.name
        write_mask(mask, written, bundle=segmenter.bundle, source=request.input)
        check_mask_output(output, request.input, overwrite=request.overwrite)
        run.commit(written, output)
    except OSError as error:
        raise OutputError(output, error) from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _explain(error: Exception, request: Request) -> tuple[str, str]:
    """The code and the sentence for an error."""
    if isinstance(error, OutputError):
        return "output", sentence_of(error)
    if isinstance(error, NotEnoughMemoryError):
        return "memory", sentence_of(error)
    if find_input_error(error) is not None:
        return "input", sentence_of(error)
    if is_out_of_memory(error):
        return (
            "memory",
            f"not enough memory for {request.input} on {request.device}: close other programs or choose the CPU",
        )
    return "internal", sentence_of(error)
