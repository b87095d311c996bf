"""Load a bundle once, segment many images."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, SaveImaged

from monai_r2unet.bundle import Bundle, find_bundle
from monai_r2unet.errors import InputError
from monai_r2unet.files import sha256
from monai_r2unet.images.components import remove_beside_body
from monai_r2unet.images.sides import split_sides
from monai_r2unet.inference.checks import (
    check_channels,
    check_dimension,
    check_finite,
    check_pixels,
    check_slices,
    implausible_values,
    scale_by_hand,
    tilted_slices,
    unfamiliar_field_of_view,
    unfamiliar_scale,
)
from monai_r2unet.inference.config import InferenceConfig, blame
from monai_r2unet.inference.devices import choose_device
from monai_r2unet.inference.engines import ENGINES, check_engine, with_engine
from monai_r2unet.inference.image_kinds import as_kind_of, as_sitk
from monai_r2unet.inference.inferers import SliceBySliceInferer
from monai_r2unet.inference.precision import fastest_type
from monai_r2unet.inference.segmentation import Segmentation
from monai_r2unet.networks.weights import load_weights
from monai_r2unet.transforms.components import RemoveBesideBodyd, RemoveIslandsd, SplitSidesd
from monai_r2unet.transforms.fit import field_of_view_scale
from monai_r2unet.transforms.metatensor import SIGNED, from_metatensor, to_metatensor

__all__ = ["Segmenter", "without_notices"]


class Segmenter:
    """A bundle that is loaded once and segments images, also from several threads.

    Preprocessing, network, inferer and postprocessing come from the bundle's ``configs/inference.json``.

    Args:
        bundle: Name of a shipped bundle, or path of a bundle's folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda:0"``, ...
        weights: A state dict from your own training instead of the bundle's weights.
        batch_size: Slices per batch. Affects speed and memory; on a GPU, also the rounding of single voxels at borders.
        trust_bundle: Allow code in the configuration of a bundle that is not shipped.
        cpu_fallback: Continue on the CPU, with a warning, if a GPU lacks memory for one slice.
        float32: Always compute in float32, for masks that do not depend on the processor; slower if the processor has a
            faster type.
        engine: Engine that runs the network: ``"torch"``; ``"openvino"``, which is faster on a CPU after compilation;
            ``"onnxruntime"`` or ``"torchscript"``, which run the exported network (`monai_r2unet.inference.export`).
            `monai_r2unet.inference.engines` explains when each of them pays off.

    Raises:
        InputError: if the bundle is unknown, damaged or not trusted, the device is unknown, the engine is unknown, not
            installed or not available on the device, or the weights are missing, damaged or do not fit.

    Example:
        >>> mask = Segmenter("lung")("chest.nii.gz")
        >>> mask.GetPixelIDTypeAsString()
        '8-bit unsigned integer'
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        device: str = "auto",
        weights: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        *,
        trust_bundle: bool = False,
        cpu_fallback: bool = False,
        float32: bool = False,
        engine: str = "torch",
    ) -> None:
        self.bundle: Bundle = find_bundle(bundle, trusted=trust_bundle)
        self.device = choose_device(check_engine(engine, device))
        self.engine = engine
        config = InferenceConfig(self.bundle.root, str(self.device))
        self.network: torch.nn.Module = config.part("network_def")
        own = weights is None
        self.weights = path = self.bundle.weights if weights is None else Path(weights)
        load_weights(self.network, path, self.bundle.weights_sha256 if own else None)
        self.weights_sha256 = sha256(path)
        self.network.to(self.device).eval()
        # Images come from memory, and masks are returned.
        with without_notices():
            self.preprocessing = _without(config.part("preprocessing"), LoadImaged)
        postprocessing = _without(config.part("postprocessing"), SaveImaged)
        # Transforms of masks cannot work on probabilities: they come last, on the image's grid.
        self.postprocessing = _without(postprocessing, (RemoveIslandsd, RemoveBesideBodyd, SplitSidesd))
        kinds = {type(step) for step in postprocessing.transforms}
        self.knows_body, self.splits_sides = RemoveBesideBodyd in kinds, SplitSidesd in kinds
        self.clean_up = [step.remove for step in postprocessing.transforms if isinstance(step, RemoveIslandsd)]
        # Of the network's output: one for a single label, which sides may divide; else the background and each label.
        several = len(self.bundle.label_names) > 1 and not self.splits_sides
        self.channels = len(self.bundle.label_names) + 1 if several else 1
        self.inferer = config.part("inferer")
        if isinstance(self.inferer, SliceBySliceInferer):
            self._check_labels(self.inferer)
            self.network.to(memory_format=torch.channels_last)
            if batch_size is not None:
                self.inferer.batch_size = batch_size
            self.inferer.cpu_fallback = cpu_fallback
            self.inferer.float32 = self.inferer.float32 or float32 or ENGINES[engine].float32_only
        self.network = with_engine(engine, self.network, float32=self.precision == "float32")
        # MONAI's transforms switch their own tracing off and on again while they are inverted
        # (https://github.com/Project-MONAI/MONAI/issues/8056).
        self._transforming = threading.Lock()

    @property
    def precision(self) -> str:
        """The floating point type that the network computes in, such as ``"bfloat16"``."""
        ours = isinstance(self.inferer, SliceBySliceInferer) and not self.inferer.float32
        return str(fastest_type(self.device) if ours else torch.float32).removeprefix("torch.")

    def __call__(
        self,
        image: str | os.PathLike[str] | sitk.Image | MetaTensor | npt.NDArray[Any],
        *,
        spacing: tuple[float, float, float] | None = None,
        probabilities: bool = False,
        scale: float | str | None = None,
        clean_up: bool = True,
    ) -> Any:
        """Segment one image.

        Args:
            image: Path of a file or of a folder with one DICOM series; SimpleITK image; MetaTensor (X, Y, Z); or array
                (X, Y, Z) in LPS axial order with ``spacing``. For a bundle of photographs, MetaTensor (X, Y, 3) or
                array (rows, columns, 3); as volumes of several, (X, Y, Z, 3).
            spacing: Spacing of an array's volume in mm, order (x, y, z).
            probabilities: Return (mask, foreground probability) instead of the mask. With several labels the
                probability of each: a vector image, or a MetaTensor or array with the labels as first axis.
            scale: For a fundus photograph whose field of view cannot be found: the resizing factor for the network, or
                the diameter of the field of view in pixels, such as ``"1400px"``.
            clean_up: Remove islands from the mask of a volume, if the bundle's postprocessing does so; probabilities do
                not change.

        Returns:
            The mask on the image's grid and of the image's kind (a SimpleITK image for a path): uint8, 0
            background, 1 and up the bundle's labels. Foreground probabilities are float32 from 0 to 1.

        Raises:
            InputError: if the image cannot be read or the bundle cannot segment it.
        """
        grid = as_sitk(image, self.bundle.image_format["num_channels"], spacing)
        result = self.run(grid, probabilities=probabilities, scale=scale, clean_up=clean_up)
        for sentence in result.warnings:
            warnings.warn(sentence, stacklevel=2)
        mask = as_kind_of(result.mask, image)
        return (mask, as_kind_of(result.probabilities, image)) if probabilities else mask

    def run(
        self,
        image: sitk.Image,
        *,
        probabilities: bool = False,
        allow_nonfinite: int = 0,
        scale: float | str | None = None,
        clean_up: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Segment a SimpleITK image, and report warnings and times.

        Args:
            image: Image in the units that the bundle expects (HU for CT), 3D; 2D for photographs.
            probabilities: Return the foreground probabilities too.
            allow_nonfinite: Number of NaN or infinite voxels to accept, which are read as the lowest value of the
                window.
            scale: See :meth:`__call__`.
            clean_up: See :meth:`__call__`.
            on_progress: Called after each batch with the number of finished slices and their total.

        Raises:
            InputError: if the bundle cannot segment the image, or takes no scale.
        """
        started = time.perf_counter()
        image_format = self.bundle.image_format
        check_pixels(image)
        check_channels(image.GetNumberOfComponentsPerPixel(), image_format, self.bundle.name)
        check_dimension(image.GetDimension(), image_format, self.bundle.name)
        image, nonfinite = check_finite(image, allow_nonfinite, fill=float(image_format.get("fill_value", 0)))
        notes = [f"{nonfinite} voxels were NaN or infinite and were filled"] if nonfinite else []
        doubts = (
            implausible_values(image, image_format),
            tilted_slices(image),
            unfamiliar_scale(image, image_format),
        )
        notes += [doubt for doubt in doubts if doubt]

        original = to_metatensor(image)
        prepared_image = self.prepare(original)
        check_slices(tuple(prepared_image.shape[1:]))
        factors, unfamiliar = self._scales(prepared_image, scale)
        notes += unfamiliar
        prepared = time.perf_counter()

        pred = self._infer(prepared_image[None], probabilities, factors, on_progress)[0]
        inferred = time.perf_counter()

        with blame(self.bundle.name, "postprocessing"), self._transforming:
            restored = self.postprocessing({"image": prepared_image, "pred": pred})["pred"]
        if not isinstance(restored, MetaTensor) or not np.allclose(restored.affine, original.affine, atol=1e-3):
            raise RuntimeError(f"the postprocessing of the bundle {self.bundle.name!r} does not undo its preprocessing")
        del pred, prepared_image, original  # as large as the results that are made now
        probability = None
        if probabilities:
            labels = restored.as_tensor()[1 if self.inferer.softmax else 0 :]
            each = [from_metatensor(one, image) for one in labels]
            probability = sitk.Compose(each) if len(each) > 1 else each[0]
            decided = restored.as_tensor()
            restored = decided.argmax(0, keepdim=True) if self.inferer.softmax else decided >= self.inferer.threshold
        restored = restored.to(torch.uint8)
        for clean in self.clean_up if clean_up else ():
            restored = clean(restored)
        mask = from_metatensor(restored[0], image)
        del restored
        if self.knows_body and clean_up:
            mask = remove_beside_body(image, mask)
        if self.splits_sides:
            mask = split_sides(image, mask)
        finished = time.perf_counter()
        seconds = {"prepare": prepared - started, "infer": inferred - prepared, "restore": finished - inferred}
        return Segmentation(mask, probability, notes, factors, seconds, self.bundle.label_names)

    def _check_labels(self, inferer: SliceBySliceInferer) -> None:
        """Refuse an inferer that cannot return the bundle's labels, which do not overlap."""
        names = self.bundle.label_names
        if (self.channels > 1) != inferer.softmax:
            few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            expected = (
                "softmax false, for a sigmoid" if self.channels == 1 else "softmax true, because labels do not overlap"
            )
            raise InputError(
                f"damaged bundle: the metadata of {self.bundle.name!r} name {len(names)} label{'s'[: len(names) > 1]} "
                f"({few}), so its inferer must have {expected}"
            )

    def prepare(self, image: MetaTensor) -> MetaTensor:
        """The image (C, X, Y[, Z]) after the bundle's preprocessing.

        Raises:
            InputError: if the preprocessing fails.
        """
        signed = SIGNED.get(str(image.dtype).removeprefix("torch."))
        if signed is not None:
            image = image.to(getattr(torch, signed))
        with blame(self.bundle.name, "preprocessing"), self._transforming:
            prepared: MetaTensor = self.preprocessing({"image": image})["image"]
        return prepared

    def _scales(self, images: torch.Tensor, scale: float | str | None) -> tuple[list[float] | None, list[str]]:
        """Resizing factors of the photographs (C, X, Y[, Z]), and warnings about them.

        ``None`` for an inferer that ignores the field of view.
        """
        diameter = getattr(self.inferer, "fov_diameter", None)
        if diameter is None:
            if scale is not None:
                raise InputError(
                    f"a scale is given, but the bundle {self.bundle.name!r} does not use the field of view of a "
                    "photograph: leave it out"
                )
            return None, []
        photographs = images[..., None] if images.ndim == 3 else images
        if scale is not None:
            factor = scale_by_hand(scale, tuple(images.shape[1:3]), diameter)
            return [factor] * photographs.shape[-1], []
        found = [field_of_view_scale(photograph, diameter) for photograph in photographs.unbind(-1)]
        doubts = dict.fromkeys(unfamiliar_field_of_view(factor, diameter) for factor in found)
        return [1.0 if factor is None else factor for factor in found], [doubt for doubt in doubts if doubt]

    def _infer(
        self,
        images: torch.Tensor,
        probabilities: bool,
        scale: list[float] | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> torch.Tensor:
        """Run the bundle's inferer: ours, slice by slice, or any other of MONAI."""
        if not isinstance(self.inferer, SliceBySliceInferer):
            if probabilities:
                raise InputError(
                    f"the bundle {self.bundle.name!r} gives no probabilities, because its inferer is "
                    f"{type(self.inferer).__name__} and not SliceBySliceInferer: ask for the mask alone"
                )
            with torch.no_grad():
                pred: torch.Tensor = self.inferer(images.to(self.device, torch.float32), self.network)
            if on_progress is not None:
                on_progress(1, 1)
            return pred
        return self.inferer(
            images,
            self.network,
            probabilities=probabilities,
            channels=self.channels,
            scale=scale,
            on_progress=on_progress,
        )


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Silence MONAI's notices about a DICOM decoder on the GPU, which we do not use."""
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
            yield
    finally:
        logger.setLevel(level)


def _without(compose: Compose, kind: type | tuple[type, ...]) -> Compose:
    return Compose([transform for transform in compose.transforms if not isinstance(transform, kind)])
