"""Whether a bundle's inference configuration is safe, so that it may run without being trusted.

MONAI's configurations instantiate any class and evaluate any expression. Here both come from lists: classes with the
arguments that each may have, and expressions that are compared letter by letter, with names and plain texts in a few
places. What is not on the lists is refused; nothing is evaluated to find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["first_unsafe", "first_unsafe_of"]

READER = "monai_r2unet.transforms.metatensor.SimpleITKReader"
NETWORK = (
    *("spatial_dims", "in_channels", "out_channels", "channels", "recurrences", "recurrence", "norm_per_step"),
    *("residual", "layers", "kernel_size", "act", "norm", "dropout", "bias", "upsample"),
)
INFERER = (
    *("slice_size", "batch_size", "slice_transform", "threshold", "body_above", "body_share", "float32", "window"),
    *("mirror", "min_extent", "fov_diameter", "beyond", "softmax"),
)

# Each class, and the arguments that it may be given. Those that MONAI looks up as names of classes are left out, or
# have the one value in `ONLY`.
CLASSES: dict[str, tuple[str, ...]] = {
    **{f"monai_r2unet.networks.nets.{n}": NETWORK for n in ("ForwardUNet", "RUNet", "ResUNet", "R2UNet")},
    "monai_r2unet.networks.nets.AttentionR2UNet": NETWORK,
    "monai_r2unet.inference.inferers.SliceBySliceInferer": INFERER,
    "monai_r2unet.transforms.components.RemoveIslandsd": ("keys", "least_share"),
    "monai_r2unet.transforms.components.RemoveBesideBodyd": ("keys", "image_key"),
    "monai_r2unet.transforms.components.SplitSidesd": ("keys", "image_key"),
    "monai_r2unet.transforms.photographs.PlaceOnd": ("keys",),
    "monai_r2unet.transforms.photographs.Standardize": ("lit_only",),
    "Compose": ("transforms",),
    "DataLoader": ("dataset", "batch_size", "shuffle", "num_workers"),
    "Dataset": ("data", "transform"),
    "EnsureChannelFirstd": ("keys", "channel_dim"),
    "Invertd": ("keys", "transform", "orig_keys", "nearest_interp", "to_tensor"),
    "LoadImaged": ("keys", "reader", "dtype"),
    "NormalizeIntensity": ("subtrahend", "divisor", "nonzero", "channel_wise"),
    "Orientationd": ("keys", "axcodes", "labels"),
    "SaveImaged": (
        *("keys", "output_dir", "output_postfix", "output_ext", "output_dtype", "scale", "separate_folder"),
        "resample",
    ),
    "ScaleIntensityRange": ("a_min", "a_max", "b_min", "b_max", "clip"),
    "SlidingWindowInferer": ("roi_size", "sw_batch_size", "overlap"),
    "StatsHandler": ("iteration_log",),
    "SupervisedEvaluator": (
        *("device", "val_data_loader", "network", "inferer", "postprocessing", "val_handlers", "amp"),
    ),
}
ONLY: dict[tuple[str, str], tuple[Any, ...]] = {("LoadImaged", "reader"): (READER,)}

NAME, TEXT = r"@[a-z_][a-z0-9_]*", r"'[A-Za-z0-9_./ +-]*'"
EXPRESSIONS = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"\$import os",
        r"\$import monai_r2unet(\.[a-z_][a-z0-9_]*)*",
        rf"\$'\.' if os\.path\.isfile\('configs/metadata\.json'\) else {TEXT}",
        r"\$monai_r2unet\.bundle\.workflow\.bundle_root\(\) or "
        rf"\('\.' if os\.path\.isfile\('configs/metadata\.json'\) else {TEXT}\)",
        rf"\${NAME} \+ {TEXT}",
        rf"\${NAME} is None",
        rf"\$not {NAME}",
        rf"\$str\({NAME}\)\.startswith\('cuda'\)",
        r"\$torch\.device\('cuda:0' if torch\.cuda\.is_available\(\) else 'cpu'\)",
        r"\$np\.uint8",
        r"\$@network_def\.to\(@device, memory_format=torch\.channels_last\)",
        r"\$@evaluator\.run\(\)",
        r"\$monai\.utils\.set_determinism\(seed=0\)",
        r"\$monai_r2unet\.bundle\.workflow\.check_options\(\)",
        r"\$monai_r2unet\.errors\.say_it_plainly\(\)",
        r"\$monai_r2unet\.networks\.weights\.load_weights\(@network, @ckpt_path\)",
        r"\$\[\{'image': entry\['image'\]\} for entry in "
        r"monai_r2unet\.datasets\.load_datalist\(@dataset_dir, 'test'\)\]",
    )
]
REFERENCE = re.compile(r"@[A-Za-z0-9_]+((#|::)[A-Za-z0-9_]+)*", re.ASCII)
KEY = re.compile(r"\w+", re.ASCII)


def first_unsafe(config: Any) -> str | None:
    """The first thing in a configuration that is on no list, in words; None if there is none.

    Args:
        config: The configuration as it was read, before anything in it is resolved.
    """
    return next(_unsafe(config, ""), None)


def first_unsafe_of(path: Path) -> str | None:
    """The first thing in a configuration file that is on no list, in words; None if there is none.

    It must be ASCII: read in another encoding than the one it is checked in, it could say something else.
    """
    try:
        return first_unsafe(json.loads(path.read_bytes().decode("ascii"), object_pairs_hook=_without_repetition))
    except UnicodeDecodeError:
        return "characters that are not ASCII"
    except (OSError, ValueError, RecursionError) as error:
        return f"what is not JSON ({error})"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _unsafe(content: Any, where: str) -> Iterator[str]:
    if isinstance(content, Mapping):
        yield from _unsafe_object(content, where)
    elif isinstance(content, list):
        for index, one in enumerate(content):
            yield from _unsafe(one, f"{where}#{index}" if where else str(index))
    elif isinstance(content, str):
        yield from _unsafe_text(content, where)
    elif not (content is None or isinstance(content, bool | int | float)):
        yield f"the {type(content).__name__} {where}"


def _unsafe_object(content: Mapping[Any, Any], where: str) -> Iterator[str]:
    target = content.get("_target_")
    if "_target_" in content and (not isinstance(target, str) or target not in CLASSES):
        yield f"the class {target!r} of {where or 'the configuration'}"
        return
    for key, value in content.items():
        inside = f"{where}#{key}" if where else str(key)
        if KEY.fullmatch(key) is None:
            yield f"the key {key!r} of {where or 'the configuration'}"
            continue
        if key == "_target_":
            continue
        if key.startswith("_") and key not in ("_disabled_", "_desc_"):
            yield f"the key {key} of {where or 'the configuration'}"
        elif target is not None and key not in (*CLASSES[target], "_disabled_", "_desc_"):
            yield f"the argument {key} of {target}"
        elif target is not None and (target, key) in ONLY and value not in ONLY[target, key]:
            yield f"the {key} {value!r} of {target}"
        else:
            yield from _unsafe(value, inside)


def _unsafe_text(text: str, where: str) -> Iterator[str]:
    if text.startswith("$"):
        if not any(pattern.fullmatch(text) for pattern in EXPRESSIONS):
            yield f"the expression {text!r} of {where}"
    elif text.startswith("@"):
        if REFERENCE.fullmatch(text) is None:
            yield f"the reference {text!r} of {where}"
    elif text.startswith("%"):
        yield f"the macro {text!r} of {where}"
