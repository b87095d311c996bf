"""Load a bundle once, segment many images."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, SaveImaged
from monai.utils.enums import MetaKeys, SpaceKeys

from monai_r2unet.bundle import Bundle, find_bundle
from monai_r2unet.checkpoints import load_weights, sha256
from monai_r2unet.checks import check_channels, check_dimension, check_finite, check_slices, implausible_values
from monai_r2unet.errors import InputError
from monai_r2unet.io import from_metatensor, read_image, to_metatensor

__all__ = ["Segmentation", "Segmenter", "choose_device"]


@dataclass(frozen=True)
class Segmentation:
    """What came of one image, on its own grid.

    Args:
        mask: uint8, 0 background, 1 and up the bundle's labels.
        probabilities: foreground probability, float32 from 0 to 1, where it was asked for.
        warnings: sentences about what may make the result wrong.
        seconds: what each step took.
    """

    mask: sitk.Image
    probabilities: sitk.Image | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def voxels(self) -> int:
        """Number of foreground voxels."""
        return int(np.count_nonzero(sitk.GetArrayViewFromImage(self.mask)))

    @property
    def millilitres(self) -> float:
        """Volume of the foreground in mL."""
        return self.voxels * float(np.prod(self.mask.GetSpacing())) / 1000.0


def choose_device(device: str = "auto") -> torch.device:
    """The torch device of a name: ``"auto"`` takes the first CUDA device, else the CPU.

    Raises:
        InputError: if the name is unknown or there is no such device.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Each of the processes that torchrun starts on a host takes a device of its own.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # a device that exists and computes
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used here ({reason}); try 'auto' or 'cpu'") from error
    return chosen


class Segmenter:
    """A bundle, loaded once, that segments images.

    Preprocessing, network, inferer and postprocessing are those of the bundle's ``configs/inference.json``.

    Args:
        bundle: name of a shipped bundle.
        device: ``"auto"``, ``"cpu"``, ``"cuda:0"``, ...
        weights: a state dict of your own training in place of the bundle's weights.
        batch_size: slices at a time; changes nothing but speed and memory.

    Raises:
        InputError: on an unknown bundle or device, or missing, damaged or unfitting weights.

    Example:
        >>> mask = Segmenter("lung")("chest.nii.gz")  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: str,
        device: str = "auto",
        weights: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.bundle: Bundle = find_bundle(bundle)
        self.device = choose_device(device)
        config = self.bundle.inference(str(self.device))
        self.network: torch.nn.Module = config.get_parsed_content("network_def")
        own = weights is None
        path = self.bundle.weights if weights is None else Path(weights)
        load_weights(self.network, path, self.bundle.weights_sha256 if own else None)
        self.weights_sha256 = sha256(path)
        self.network.to(self.device).eval()
        # Images come in from memory, and the masks leave as return values.
        with _without_notices():
            self.preprocessing = _without(config.get_parsed_content("preprocessing"), LoadImaged)
        self.inferer = config.get_parsed_content("inferer")
        if batch_size is not None:
            self.inferer.batch_size = batch_size
        config["preprocessing"] = self.preprocessing
        self.postprocessing = _without(config.get_parsed_content("postprocessing"), SaveImaged)

    def __call__(
        self,
        image: str | os.PathLike[str] | sitk.Image | MetaTensor | npt.NDArray[Any],
        *,
        spacing: tuple[float, float, float] | None = None,
        probabilities: bool = False,
    ) -> Any:
        """Segment one image.

        Args:
            image: path of a file or of a folder with one DICOM series; SimpleITK image; MetaTensor (X, Y, Z); or array
                (X, Y, Z) in LPS axial order with ``spacing``.
            spacing: of an array, in mm, order (x, y, z).
            probabilities: give (mask, foreground probability) instead of the mask.

        Returns:
            The mask on the image's own grid, in the image's own kind (a SimpleITK image for a path): uint8, 0
            background, 1 and up the bundle's labels. Foreground probabilities are float32 from 0 to 1.

        Raises:
            InputError: if the image cannot be read or is not one that the bundle can work on.
        """
        grid = self._as_sitk(image, spacing)
        result = self.run(grid, probabilities=probabilities)
        for sentence in result.warnings:
            warnings.warn(sentence, stacklevel=2)
        mask = _as_kind(result.mask, image)
        return (mask, _as_kind(result.probabilities, image)) if probabilities else mask

    def run(
        self,
        image: sitk.Image,
        *,
        probabilities: bool = False,
        allow_nonfinite: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Segment a SimpleITK image and tell what happened.

        Args:
            image: 3D, in the units the bundle expects (HU for CT).
            probabilities: keep the foreground probabilities too.
            allow_nonfinite: accept that many NaN or infinite voxels, read as the lowest value of the window.
            on_progress: called after each batch with the slices done and their total.

        Raises:
            InputError: if the bundle cannot work on the image.
        """
        started = time.perf_counter()
        image_format = self.bundle.image_format
        check_channels(image.GetNumberOfComponentsPerPixel(), image_format, self.bundle.name)
        check_dimension(image.GetDimension(), image_format, self.bundle.name)
        image, nonfinite = check_finite(image, allow_nonfinite, fill=float(image_format.get("fill_value", 0)))
        notes = [f"{nonfinite} voxels were NaN or infinite and were filled"] if nonfinite else []
        implausible = implausible_values(image, image_format)
        notes += [implausible] if implausible else []

        original = to_metatensor(image)
        data = self.preprocessing({"image": original})
        check_slices(tuple(data["image"].shape[1:]))
        prepared = time.perf_counter()

        threshold = self.inferer.threshold
        self.inferer.on_progress = on_progress
        self.inferer.threshold = None if probabilities else threshold
        try:
            pred = self.inferer(data["image"][None], self.network)[0]
        finally:
            self.inferer.threshold = threshold
            self.inferer.on_progress = None
        inferred = time.perf_counter()

        restored = self.postprocessing({"image": data["image"], "pred": pred})["pred"][0]
        if not isinstance(restored, MetaTensor) or not np.allclose(restored.affine, original.affine, atol=1e-3):
            raise RuntimeError(f"the postprocessing of the bundle {self.bundle.name!r} does not undo its preprocessing")
        probability = None
        if probabilities:
            probability = from_metatensor(torch.as_tensor(restored).float(), image)
            restored = torch.as_tensor(restored) >= threshold
        mask = from_metatensor(torch.as_tensor(restored).to(torch.uint8), image)
        finished = time.perf_counter()
        seconds = {"prepare": prepared - started, "infer": inferred - prepared, "restore": finished - inferred}
        return Segmentation(mask, probability, notes, seconds)

    @staticmethod
    def _as_sitk(image: Any, spacing: tuple[float, float, float] | None) -> sitk.Image:
        if isinstance(image, sitk.Image):
            return image
        if isinstance(image, MetaTensor):
            return _grid_of(image)
        if isinstance(image, np.ndarray):
            if spacing is None:
                raise InputError("an array needs spacing=(x, y, z) in mm, because it carries no geometry of its own")
            if len(spacing) != 3 or not all(0 < s < float("inf") for s in spacing):
                raise InputError(f"spacing is {spacing}; it must be three positive numbers (x, y, z) in mm")
            converted = _image_of(image)
            converted.SetSpacing([float(s) for s in spacing])
            return converted
        if isinstance(image, str | Path | os.PathLike):
            return read_image(image)
        raise InputError(
            f"cannot segment a {type(image).__name__}; give a path, a SimpleITK image, a MetaTensor, or an array with "
            "spacing"
        )


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Keep to itself what MONAI tells of a decoder for DICOM on the GPU, which nothing here uses."""
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
            yield
    finally:
        logger.setLevel(level)


def _without(compose: Compose, kind: type) -> Compose:
    return Compose([transform for transform in compose.transforms if not isinstance(transform, kind)])


def _image_of(array: npt.NDArray[Any]) -> sitk.Image:
    """A SimpleITK image of an array (X, Y, Z)."""
    if array.ndim != 3:
        raise InputError(f"the array has shape {array.shape}; it must be one volume (X, Y, Z) without channel axis")
    if array.dtype.kind not in "iuf" or array.dtype == np.float16:
        array = array.astype(np.float32)
    return sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))


def _grid_of(image: MetaTensor) -> sitk.Image:
    """A SimpleITK image of a MetaTensor (X, Y, Z), whose affine is RAS unless its metadata say otherwise."""
    values = image.detach().as_tensor().cpu()
    converted = _image_of((values.float() if values.is_floating_point() else values).numpy())
    affine = np.asarray(torch.as_tensor(image.affine), dtype=np.float64)
    if image.meta.get(MetaKeys.SPACE) != SpaceKeys.LPS:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and spacing.all() and abs(np.linalg.det(affine[:3, :3] / spacing)) > 0.99):
        raise InputError(f"the affine {affine.tolist()} is sheared or singular; it must be that of a rectangular grid")
    converted.SetSpacing(spacing.tolist())
    converted.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    converted.SetOrigin(affine[:3, 3].tolist())
    return converted


def _as_kind(result: sitk.Image, like: Any) -> Any:
    """``result`` in the kind of the caller's image."""
    if isinstance(like, MetaTensor):
        return MetaTensor(to_metatensor(result).as_tensor(), meta=deepcopy(like.meta))
    if isinstance(like, np.ndarray):
        return sitk.GetArrayFromImage(result).transpose(2, 1, 0)
    return result
