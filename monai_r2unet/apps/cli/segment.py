"""The verb ``segment``: the mask of an image, or the masks of a folder of cases."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_r2unet.apps.cli.arguments import positive
from monai_r2unet.apps.cli.terminal import EXIT_DONE, EXIT_NOTHING_FOUND, EXIT_SOME_FAILED, ProgressBar, say
from monai_r2unet.errors import InputError, as_switch
from monai_r2unet.inference.startup import import_monai_for_segmentation, keep_freed_memory, leaving_on_interrupt

if TYPE_CHECKING:
    from monai_r2unet.inference.segmenter import Segmenter

__all__ = ["HELP", "add_arguments", "run"]

HELP = "segment an image or a folder of cases"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("input", help="image file, folder with one DICOM series, or folder of such cases")
    parser.add_argument(
        "output",
        help="mask: .nii.gz, .nrrd, .mha, .seg.nrrd, .dcm (SEG), .rtstruct.dcm, ...; for a folder of cases, a folder",
    )
    parser.add_argument("--bundle", required=True, help="name (see `monai-r2unet list`) or folder of the bundle")
    parser.add_argument("--trust-bundle", action="store_true", help="allow code in a bundle that is not shipped")
    parser.add_argument("--weights", help="weights of your own training instead of the bundle's")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0, ...")
    parser.add_argument(
        "--engine", default="torch", help="torch (default), openvino (faster on a CPU for many slices), ..."
    )
    parser.add_argument("--batch-size", type=positive, help="slices per batch: speed, memory and, on a GPU, rounding")
    parser.add_argument("--float32", action="store_true", help="slower, but the mask does not depend on the processor")
    parser.add_argument("--cpu-fallback", action="store_true", help="continue on the CPU if the GPU's memory is full")
    parser.add_argument(
        "--scale",
        metavar="FACTOR|PIXELSpx",
        help="retina, if the field of view is not found: factor (0.5), or diameter of the field of view (1400px)",
    )
    parser.add_argument(
        "--also",
        metavar="FILE",
        action="append",
        default=[],
        help="also write the mask to this file, in the format of its ending; repeat for more files",
    )
    parser.add_argument("--no-clean-up", action="store_true", help="keep the islands of a volume's mask")
    parser.add_argument(
        "--series",
        metavar="NAME",
        action="append",
        help="UID or description of the series, if a folder holds several; repeat it for a folder of cases, each of "
        "which holds one of the named series",
    )
    parser.add_argument(
        "--ending",
        action="append",
        help="format of the masks of a folder of cases: .nii.gz (default; .png for photographs), .seg.nrrd, .dcm, ...; "
        "repeat for several formats",
    )
    parser.add_argument(
        "--probabilities",
        metavar="FILE",
        help="also write the foreground probabilities; for a folder of cases, a folder",
    )
    parser.add_argument("--report", metavar="FILE.json", help="also write a report: input, settings, versions, results")
    parser.add_argument(
        "--qc",
        metavar="FILE.png",
        help="also write a picture of the case; for a folder of cases, a folder with a page of all, the most doubtful "
        "first",
    )
    parser.add_argument("--allow-nonfinite", type=int, default=0, metavar="N", help="accept N NaN or infinite voxels")
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")


def run(options: argparse.Namespace) -> int:
    """Segment one image, or a folder of cases."""
    keep_freed_memory()
    with leaving_on_interrupt():
        if not options.trust_bundle:  # a bundle from elsewhere may import anything
            import_monai_for_segmentation()
        from monai_r2unet.inference.cohort import is_cohort

    if is_cohort(options.input, options.output):
        if options.also:
            raise InputError("--also is for one image: repeat --ending for the formats of a folder of cases")
        return _segment_cohort(options)
    if options.ending:
        raise InputError("--ending is for a folder of cases: give the mask a name with that ending instead")
    return _segment_image(options)


def _segment_image(options: argparse.Namespace) -> int:
    from monai_r2unet.apps.cli.terminal import format_extent
    from monai_r2unet.files import write_json
    from monai_r2unet.images.masks import check_mask_output, check_mask_source, write_mask, write_preview
    from monai_r2unet.images.reading import read_image_with_notes
    from monai_r2unet.images.writing import check_output, check_place, write_image
    from monai_r2unet.inference.quality import check_picture, doubt, write_picture
    from monai_r2unet.inference.reports import describe_result, describe_segmenter
    from monai_r2unet.provenance import versions

    outputs = [*options.also, options.output]
    for output in outputs:
        check_mask_output(output, options.input, overwrite=options.overwrite)
    if options.probabilities:
        check_output(options.probabilities, overwrite=options.overwrite)
    if options.report:
        check_place(options.report, overwrite=options.overwrite)
    if options.qc:
        check_picture(options.qc, overwrite=options.overwrite)
    _check_distinct(options.input, *outputs, options.probabilities, options.report, options.qc)

    started = time.perf_counter()
    # Read the image first: it fails more often than the bundle, and faster.
    image, notes = read_image_with_notes(options.input, series=options.series)
    for sentence in notes:
        say(f"warning: {sentence}")
    read = time.perf_counter()
    segmenter = _segmenter(options)
    for output in outputs:
        check_mask_source(output, bundle=segmenter.bundle, source=options.input, series=options.series)
    loaded = time.perf_counter()
    with ProgressBar("Segmenting") as bar:
        result = segmenter.run(
            image,
            probabilities=bool(options.probabilities or options.qc),
            allow_nonfinite=options.allow_nonfinite,
            scale=options.scale,
            clean_up=not options.no_clean_up,
            on_progress=bar.update,
        )
    for sentence in result.warnings:
        say(f"warning: {sentence}")
    segmented = time.perf_counter()
    if options.probabilities:
        write_image(result.probabilities, options.probabilities, overwrite=options.overwrite)
    if options.qc:
        write_picture(image, result, segmenter.bundle, Path(options.qc))
    about: dict[str, Any] = {"bundle": segmenter.bundle, "source": options.input, "series": options.series}
    for output in outputs:
        write_preview(result.mask, output, bundle=segmenter.bundle)
        write_mask(result.mask, output, **about, overwrite=options.overwrite)
    if options.report:
        around = {"read": read - started, "load": loaded - read, "write": time.perf_counter() - segmented}
        report = {
            "input": str(options.input),
            "output": str(options.output),
            **({"also": options.also} if options.also else {}),
            **describe_segmenter(segmenter),
            **describe_result(image, result, segmenter.bundle, notes, around),
            **({"doubt": doubt(result)} if options.qc else {}),
            "versions": versions(),
        }
        write_json(report, options.report)
    for output in [options.output, *options.also]:
        say(f"{output}\t{format_extent(result.voxels, result.millilitres)}", result=True)
    for label in result.by_label if len(result.by_label) > 1 else []:
        say(f"  {label['name']}\t{format_extent(label['voxels'], label['millilitres'])}", result=True)
    if result.voxels == 0:
        say(
            f"warning: nothing was found in {options.input}; the mask is empty. Is the bundle "
            f"{segmenter.bundle.name!r} made for this image?"
        )
        return EXIT_NOTHING_FOUND
    return EXIT_DONE


def _segment_cohort(options: argparse.Namespace) -> int:
    from monai_r2unet.apps.cli.processes import failures_everywhere
    from monai_r2unet.apps.cli.terminal import format_extent
    from monai_r2unet.inference.cohort import segment_cohort
    from monai_r2unet.inference.cohort_records import CaseResult

    with ProgressBar("Segmenting") as bar:

        def tell(result: CaseResult, done: int, total: int) -> None:
            bar.update(done, total)
            if result.status == "failed":
                say(f"failed: {result.case}: {result.message}")
            elif result.message and result.status != "skipped":
                say(f"warning: {result.case}: {result.message}")
            if result.status in ("done", "empty"):
                place = Path(options.output) / result.output
                say(f"{place}\t{format_extent(result.voxels, result.millilitres)}", result=True)

        results = segment_cohort(
            lambda: _segmenter(options),
            options.input,
            options.output,
            endings=options.ending,
            series=options.series,
            overwrite=options.overwrite,
            allow_nonfinite=options.allow_nonfinite,
            scale=options.scale,
            clean_up=not options.no_clean_up,
            probabilities=options.probabilities,
            report=options.report,
            qc=options.qc,
            on_case=tell,
            spelling=as_switch,
        )
    failed = failures_everywhere(sum(result.status == "failed" for result in results))
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def _segmenter(options: argparse.Namespace) -> Segmenter:
    from monai_r2unet.inference.segmenter import Segmenter

    return Segmenter(
        options.bundle,
        options.device,
        options.weights,
        options.batch_size,
        trust_bundle=options.trust_bundle,
        cpu_fallback=options.cpu_fallback,
        float32=options.float32,
        engine=options.engine,
    )


def _check_distinct(*paths: str | None) -> None:
    """Refuse to write over the input, or one output over another."""
    given = [path for path in paths if path is not None]
    for path in given:
        if sum(Path(path).resolve() == Path(other).resolve() for other in given) > 1:
            raise InputError(f"{path} is named twice, as input or output: give each file its own name")
