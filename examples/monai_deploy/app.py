"""A bundle as a MONAI Deploy application: a DICOM series goes in, a DICOM segmentation comes out.

    python examples/monai_deploy/app.py -i SERIES -o OUT

SERIES is a folder with one DICOM series. The bundle is `lung`, or what the variable R2UNET_BUNDLE names.
docs/how-to/export.md says what to install.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Fragment, Operator, OperatorSpec, init_app_context

from monai_r2unet import Segmenter
from monai_r2unet.images.masks import write_mask
from monai_r2unet.images.reading import read_image


class SegmentOperator(Operator):
    """Segments the DICOM series in a folder.

    The bundle is loaded once, when the application starts. The mask lies on the series' own grid.

    Named output:
        mask: path of the DICOM segmentation.

    Args:
        fragment: the application.
        bundle: name of a shipped bundle.
        series: folder with one DICOM series.
        output: folder for ``<bundle>.dcm``; created if missing.
    """

    def __init__(self, fragment: Fragment, *args: Any, bundle: str, series: Path, output: Path, **kwargs: Any) -> None:
        self.bundle, self.series, self.output = bundle, series, output
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the output."""
        spec.output("mask")

    def start(self) -> None:
        """Load the bundle."""
        self.segmenter = Segmenter(self.bundle)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Segment the series."""
        result = self.segmenter.run(read_image(self.series))
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / f"{self.bundle}.dcm"
        write_mask(result.mask, path, bundle=self.segmenter.bundle, source=self.series, overwrite=True)
        op_output.emit(path, "mask")


class ReportOperator(Operator):
    """Tells where the mask is: the place for an operator of yours, which could send it on.

    Named input:
        mask: path of the DICOM segmentation.
    """

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the input."""
        spec.input("mask")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Tell it."""
        logging.getLogger(__name__).info("written: %s", op_input.receive("mask"))


class SegmentApp(Application):
    """From the folder given with ``-i`` to the folder given with ``-o``."""

    def compose(self) -> None:
        """Connect the operators."""
        context = init_app_context(self.argv)
        segment = SegmentOperator(
            self,
            CountCondition(self, 1),  # once: without an input it would start over
            bundle=os.environ.get("R2UNET_BUNDLE", "lung"),
            series=Path(context.input_path),
            output=Path(context.output_path),
            name="segment",
        )
        self.add_flow(segment, ReportOperator(self, name="report"), {("mask", "mask")})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    SegmentApp().run()
