"""The configurations for a plan, as changes to those of a shipped bundle."""

from __future__ import annotations

import json
from typing import Any

from monai_r2unet.apps.planning.plan import Plan
from monai_r2unet.bundle import find_bundle

__all__ = ["PICTURES", "VOLUMES", "changes_of"]

NETWORK = "monai_r2unet.networks.nets.R2UNet"
VOLUMES, PICTURES = "lung", "skin"  # the bundles whose configurations are changed
MADE_FOR_LUNGS = ("RemoveIslandsd", "RemoveBesideBodyd", "SplitSidesd")  # transforms that no other task has


def changes_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """What differs from the shipped bundle, by configuration: `a#b` names a nested entry, `~a` removes one."""
    count, labels = len(plan.survey.labels), list(plan.survey.labels)
    channels = 3 if plan.survey.modality == "rgb" else 1
    several = labels if count > 1 else []
    network = {
        "network_def#in_channels": channels,
        "network_def#out_channels": count + 1 if count > 1 else 1,
        "network_def#channels": plan.channels,
    }
    loss = {"sigmoid": True} if count == 1 else {"softmax": True, "to_onehot_y": True, "include_background": False}
    activation = {
        "_target_": "Activationsd",
        "keys": "pred",
        **({"sigmoid": True} if count == 1 else {"softmax": True}),
    }
    train: dict[str, Any] = {
        **network,
        "dataset_dir": "$@bundle_root + '/data'",
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "lr": plan.lr,
        "slice_size": plan.slice_size,
        "val_interval": max(1, plan.epochs // 20),
        "loss": {"_target_": "DiceCELoss", **loss, "batch": True},
        "validate#postprocessing": activation,
        "validate#key_metric#val_dice#labels": several,
        "report#labels": several,
    }
    inference: dict[str, Any] = {
        **network,
        "network_def#_target_": NETWORK,
        "~network_name": None,
        "dataset_dir": "$@bundle_root + '/data'",
        "slice_size": plan.slice_size,
        "inferer#softmax": count > 1,
    }
    evaluate: dict[str, Any] = {"validate#handlers": None, "validate#inferer": None}
    (_volumes if plan.survey.volumes else _pictures)(plan, train, inference, evaluate, activation)
    evaluate["validate#inferer"]["softmax"] = count > 1
    evaluate["validate#handlers"][0]["labels"] = several
    return {"train": train, "inference": inference, "evaluate": evaluate}


def _volumes(
    plan: Plan, train: dict[str, Any], inference: dict[str, Any], evaluate: dict[str, Any], activation: dict[str, Any]
) -> None:
    shipped = _shipped(VOLUMES, "evaluate")
    scaling, of_volume, beyond = _intensity(plan)
    train |= {
        "min_extent": plan.min_extent,
        "beyond": beyond,
        "~ct_window": None,
        "~sides": None,  # of lungs
        "slice_transform": scaling,
        "report#bundle#settings": _settings(plan),
        "train#postprocessing": activation,
        "volume_transforms": [
            {
                "_target_": "LoadImaged",
                "keys": ["image", "label"],
                "reader": "monai_r2unet.transforms.metatensor.SimpleITKReader",
            },
            {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
            {"_target_": "Orientationd", "keys": ["image", "label"], "axcodes": "LPS", "labels": None},
            {"_target_": "Lambdad", "keys": "image", "func": of_volume},
            {"_target_": "monai_r2unet.transforms.labels.LabelValuesd", "keys": "label", "labels": _count(plan)},
            {
                "_target_": "monai_r2unet.transforms.fit.FitInPlaned",
                "keys": ["image", "label"],
                "size": "@slice_size",
                "mode": ["image", "mask"],
                "min_extent": "@min_extent",
                "beyond": "@beyond",
            },
        ],
        "train#random_transforms": _augmentation(plan),
    }
    inference |= {
        "min_extent": plan.min_extent,
        "beyond": beyond,
        "inferer#slice_transform": scaling,
        "inferer#body_above": None,
        "~clean_up": None,  # made for lungs
        "postprocessing#transforms": [
            {**transform, "output_postfix": "mask"} if transform["_target_"] == "SaveImaged" else transform
            for transform in _shipped(VOLUMES, "inference")["postprocessing"]["transforms"]
            if not transform["_target_"].endswith(MADE_FOR_LUNGS)
        ],
    }
    evaluate |= {
        "validate#inferer": {**shipped["validate#inferer"], "slice_transform": "%slice_transform"},
        "validate#handlers": shipped["validate#handlers"],
    }


def _pictures(
    plan: Plan, train: dict[str, Any], inference: dict[str, Any], evaluate: dict[str, Any], activation: dict[str, Any]
) -> None:
    shipped = _shipped(PICTURES, "evaluate")
    channels = 3 if plan.survey.modality == "rgb" else 1
    channel_dim = -1 if channels == 3 else "no_channel"
    load = {
        "_target_": "LoadImaged",
        "keys": ["image", "label"],
        "reader": "monai_r2unet.transforms.metatensor.SimpleITKReader",
        "dtype": None,
    }
    transforms: list[dict[str, Any]] = [
        load,
        {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
        {"_target_": "monai_r2unet.transforms.labels.LabelValuesd", "keys": "label", "labels": _count(plan)},
        {"_target_": "Lambdad", "keys": "image", "func": "@standardize"},
    ]
    if plan.slice_size is not None:
        fit = {"_target_": "monai_r2unet.transforms.fit.FitInPlaned", "keys": ["image", "label"]}
        transforms.append({**fit, "size": "@slice_size", "mode": ["image", "mask"]})
    patches = None if plan.slice_size is not None else 800
    train |= {
        "patch_size": "@slice_size" if plan.slice_size is not None else plan.patch_size,
        "patches": patches,
        "picture_transforms": transforms,
        "train#dataset#channels": channels,
        "train#dataset#labels": _count(plan),
        "validate#dataset#channels": channels,
        "train#geometry#mirror": plan.mirror,
        "train#geometry#quarter_turns": plan.mirror,
        "train#geometry#prob": 0.7,
        "train#geometry#rotate": 0.5,
        "train#geometry#scale": 0.25,
        "train#geometry#stretch": 0.15,
        "train#geometry#shift": 0.05,
        "train#intensity#colour": 0.2 if channels == 3 else 0.0,
    }
    inference |= {
        "threshold": 0.5,
        "mirror": False,
        "preprocessing#transforms#1#channel_dim": channel_dim,
        "postprocessing#transforms#1#output_postfix": "mask",
        "postprocessing#transforms#1#scale": 255 if _count(plan) == 1 else None,
    }
    evaluate |= {
        "threshold": 0.5,
        "mirror": False,
        "validate#inferer": shipped["validate#inferer"],
        "validate#handlers": shipped["validate#handlers"],
    }


def _count(plan: Plan) -> int:
    return len(plan.survey.labels)


def _shipped(bundle: str, name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((find_bundle(bundle).root / "configs" / f"{name}.json").read_text("utf-8"))
    return config


def _intensity(plan: Plan) -> tuple[dict[str, Any], str, list[float] | None]:
    """The transform for a batch of slices, the same for a volume (C, X, Y, Z), and the inferer's ``beyond``."""
    if plan.window is None:
        standardize = {"_target_": "monai_r2unet.transforms.photographs.Standardize", "lit_only": False}
        # Slice by slice, as in use: a preview of single slices must not differ.
        return standardize, "$lambda volume: @slice_transform(volume.movedim(-1, 0)).movedim(0, -1)", None
    low, high = plan.window
    window = {"_target_": "ScaleIntensityRange", "a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    water = -low / (high - low)
    beyond = [0.05, round(water, 3)] if 0.05 < water < 1 else None
    return window, "@slice_transform", beyond


def _settings(plan: Plan) -> dict[str, str]:
    """What a trained bundle takes from the options of its training."""
    settings = {name: f"@{name}" for name in ("slice_size", "min_extent", "beyond")}
    if plan.window is not None:
        for limit in ("a_min", "a_max"):
            settings |= {f"{where}slice_transform#{limit}": f"%slice_transform#{limit}" for where in ("", "inferer#")}
    return settings


def _augmentation(plan: Plan) -> list[dict[str, Any]]:
    """Random changes of slices, none of them specific to an organ."""
    both = ["image", "label"]
    shift = max(1, (plan.slice_size or 0) // 16)
    spread = 0.1 if plan.window is not None else 0.25
    mirror: dict[str, Any] = {"_target_": "RandFlipd", "keys": both, "prob": 0.5, "spatial_axis": 0}
    if plan.exchanged:
        exchange = {"label_key": "label", "exchanged": plan.exchanged}
        mirror = {"_target_": "monai_r2unet.transforms.mirror.RandMirrord", "keys": both, **exchange, "prob": 0.5}
    return [
        *([mirror] if plan.mirror else []),
        {
            "_target_": "RandAffined",
            "keys": both,
            "prob": 0.7,
            "rotate_range": 0.2,
            "scale_range": [0.2, 0.2],
            "translate_range": [shift, shift],
            "mode": ["bilinear", "nearest"],
            "padding_mode": "zeros",
        },
        {
            "_target_": "RandGaussianSmoothd",
            "keys": "image",
            "prob": 0.15,
            "sigma_x": [0.3, 1.0],
            "sigma_y": [0.3, 1.0],
        },
        {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.3, "factors": spread},
        {"_target_": "RandShiftIntensityd", "keys": "image", "prob": 0.3, "offsets": spread / 2},
        {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.3, "std": spread / 2},
        {"_target_": "RandSpatialCropd", "keys": both, "roi_size": ["@crop_size", "@crop_size"], "random_size": False},
        {"_target_": "EnsureTyped", "keys": both, "dtype": "$torch.float32", "track_meta": False},
    ]
