"""Export a bundle's network for other programs: TorchScript or ONNX, for batches and images of any size.

The file maps preprocessed images to logits, as the network itself does, and includes the bundle's metadata. Before it
is moved into place, its logits are compared with those of the network.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from torch import nn

from monai_r2unet.bundle import Bundle, find_bundle
from monai_r2unet.errors import InputError, first_line
from monai_r2unet.files import sha256, written_whole
from monai_r2unet.images.writing import check_place
from monai_r2unet.inference.config import InferenceConfig
from monai_r2unet.networks.weights import load_weights

__all__ = ["ENDINGS", "TOLERANCE", "export_network", "onnx_session", "run_onnx", "to_onnx", "to_torchscript"]

ENDINGS = (".ts", ".onnx")
INPUT, OUTPUT = "image", "pred"  # as in metadata.json > network_data_format
# Sides for networks of up to five poolings. The exporter sees the first; the others are for the comparison.
TRACED, COMPARED = (2, (64, 96, 32)), ((1, (96, 160, 64)), (3, (128, 32, 96)))
TOLERANCE = 1e-4  # fraction of the largest logit, for float32 sums in another order


def export_network(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    trust_bundle: bool = False,
    overwrite: bool = False,
) -> float:
    """Write a bundle's network with its weights to a file that needs neither the bundle nor this package.

    Args:
        bundle: Name of a shipped bundle, or path of a bundle's folder.
        output: Path ending in ``.ts`` (TorchScript) or ``.onnx``; written atomically.
        weights: A state dict from your own training instead of the bundle's weights.
        trust_bundle: Allow code in the configuration of a bundle that is not shipped.
        overwrite: Replace an existing file.

    Returns:
        The largest difference between the file's logits and torch's for random images in two sizes, as a fraction of
        the largest logit.

    Raises:
        InputError: if the ending is unknown, the output exists, a package is missing, `Segmenter` would refuse the
            bundle or the weights, or the format does not support the network.
        OutputError: if the file cannot be written.
    """
    path = Path(output)
    if path.suffix not in ENDINGS:
        raise InputError(f"unknown ending of {path.name}, expected one of: {', '.join(ENDINGS)}")
    check_place(path, overwrite=overwrite)
    found = find_bundle(bundle, trusted=trust_bundle)
    config = InferenceConfig(found.root, "cpu")
    network: nn.Module = config.part("network_def").eval()
    source = found.weights if weights is None else Path(weights)
    load_weights(network, source, found.weights_sha256 if weights is None else None)
    metadata = _metadata(found, source, own=weights is not None)
    channels, dimensions = found.image_format["num_channels"], _dimensions(found)

    with written_whole(path, path.suffix) as temporary:
        if path.suffix == ".onnx":
            temporary.write_bytes(to_onnx(network, channels, dimensions, metadata))
            session = onnx_session(temporary)
            return _difference(network, lambda images: run_onnx(session, images), channels, dimensions)
        files = {"inference.json": config.path.read_bytes()}
        with _quiet():
            save_net_with_metadata(to_torchscript(network), str(temporary), None, False, metadata, files)
            return _difference(network, torch.jit.load(str(temporary), "cpu"), channels, dimensions)


def to_torchscript(network: nn.Module) -> torch.jit.ScriptModule:
    """Convert a network to TorchScript, for batches and images of any size, on its device.

    Raises:
        InputError: if TorchScript does not support its code.
    """
    try:
        with _quiet():
            scripted: torch.jit.ScriptModule = torch.jit.script(network.eval())
    except Exception as error:  # exporters raise many kinds
        raise InputError(
            f"{type(network).__name__} cannot be brought into TorchScript ({first_line(error)}): use another format"
        ) from error
    return scripted


def to_onnx(network: nn.Module, channels: int, dimensions: int, metadata: dict[str, Any] | None = None) -> bytes:
    """Convert a network to the content of an ONNX file with input ``image`` and output ``pred``, any batch and size.

    Args:
        network: The network, on the CPU.
        channels: Number of channels of its images.
        dimensions: Number of spatial dimensions of its images, 2 or 3.
        metadata: Metadata to store in the file as ``metadata.json``.

    Raises:
        InputError: if the extra ``export`` is not installed or the network cannot be exported.
    """
    _import("onnxscript")
    batch, sides = TRACED
    image = torch.zeros(batch, channels, *sides[:dimensions])
    axes = {0: "batch", **{2 + index: name for index, name in enumerate(("height", "width", "depth")[:dimensions])}}
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (image,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(axes,),
            )
    except Exception as error:  # exporters raise many kinds
        raise InputError(
            f"{type(network).__name__} cannot be exported to ONNX ({first_line(error)}): use another format"
        ) from error
    assert program is not None  # which only the exporter before this one returns
    program.model.metadata_props["metadata.json"] = json.dumps(metadata or {})
    content: bytes = program.model_proto.SerializeToString()
    return content


def onnx_session(model: bytes | Path) -> Any:
    """Load an ONNX file, or its content, into ONNX Runtime on the CPU, with torch's current number of threads.

    Raises:
        InputError: if ONNX Runtime is not installed or does not support the model.
    """
    runtime = _import("onnxruntime")
    runtime.disable_telemetry_events()  # otherwise it sends telemetry on Windows
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # fatal errors only: the others arrive as exceptions
    source = model if isinstance(model, bytes) else str(model)
    try:
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many kinds
        raise InputError(f"ONNX Runtime does not accept the network ({first_line(error)})") from error


def run_onnx(session: Any, images: torch.Tensor) -> torch.Tensor:
    """Logits (N, K, H, W[, D]) of images (N, C, H, W[, D]) on the CPU, float32.

    Images run one by one, which is as fast as a batch and makes the result independent of it.

    Raises:
        MemoryError: if memory is full.
    """
    try:
        logits = [session.run(None, {INPUT: image.float().contiguous().numpy()})[0] for image in images.split(1)]
    except Exception as error:
        if "allocate memory" in str(error) or "bad_alloc" in str(error):
            raise MemoryError(first_line(error)) from error
        raise
    return torch.cat([torch.from_numpy(part) for part in logits])


@torch.no_grad()
def _difference(network: nn.Module, other: Any, channels: int, dimensions: int) -> float:
    """The largest difference of the logits for random images, as a fraction of the largest logit.

    Raises:
        InputError: if it exceeds rounding, or the exported network does not run.
    """
    found = 0.0
    generator = torch.Generator().manual_seed(0)
    for batch, sides in COMPARED:
        images = torch.randn(batch, channels, *sides[:dimensions], generator=generator)
        expected = network(images)
        try:
            got = other(images)
        except Exception as error:
            raise InputError(
                f"the exported {type(network).__name__} does not run on images of {tuple(images.shape)} "
                f"({first_line(error)}): use another format"
            ) from error
        found = max(found, float((got - expected).abs().max() / expected.abs().max().clamp(min=1)))
    if not found <= TOLERANCE:  # not a number either
        raise InputError(
            f"the exported {type(network).__name__} gives other logits than torch, by up to {found:.1g} of the "
            "largest: use another format"
        )
    return found


def _metadata(bundle: Bundle, weights: Path, *, own: bool) -> dict[str, Any]:
    """The bundle's metadata, describing the weights in the file."""
    stated = bundle.metadata.get("weights", {})
    kept = stated if isinstance(stated, dict) and not own else {}
    return {**bundle.metadata, "weights": {**kept, "sha256": sha256(weights)}}


def _dimensions(bundle: Bundle) -> int:
    """Number of spatial dimensions of the network's images.

    Raises:
        InputError: if the bundle's metadata lacks it.
    """
    shape = bundle.image_format.get("spatial_shape")
    if not isinstance(shape, list) or len(shape) not in (2, 3):
        raise InputError(
            f"damaged bundle: spatial_shape of the image in the metadata of {bundle.name!r} is {shape!r}, expected a "
            "list of two or three sides"
        )
    return len(shape)


def _import(module: str) -> Any:
    """Import a package of the extra ``export``.

    Raises:
        InputError: if it is not installed or does not work.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = 'pip install "monai-r2unet[export]"'
        raise InputError(f"{module} is not installed ({first_line(error)}): {how}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of torch's exporters about deprecated or unused parts of torch."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
