"""The metadata and the model card of a planned bundle."""

from __future__ import annotations

from typing import Any

from monai_r2unet.apps.planning.plan import Plan
from monai_r2unet.apps.planning.terminology import COLOURS, terminology_of

__all__ = ["card_of", "metadata_of"]

NAMES = {"ct": "CT", "mr": "MR", "grey": "greyscale pictures", "rgb": "photographs"}


def metadata_of(plan: Plan, name: str, base: dict[str, Any]) -> dict[str, Any]:
    """The content of ``metadata.json``.

    Args:
        plan: How the bundle is trained.
        name: Name of the bundle.
        base: Metadata of a shipped bundle, for its versions.
    """
    survey = plan.survey
    labels, count = survey.labels, len(survey.labels)
    kept = ("schema", "monai_version", "pytorch_version", "numpy_version", "required_packages_version")
    shown = ", ".join(labels)
    outputs = dict(enumerate(["background", *labels] if count > 1 else labels))
    sides = ["16*n", "16*n"]
    image: dict[str, Any] = {
        "type": "image",
        "format": "hounsfield" if survey.modality == "ct" else "magnitude" if survey.modality == "mr" else "RGB",
        "modality": NAMES[survey.modality],
        "num_channels": 3 if survey.modality == "rgb" else 1,
        "spatial_shape": sides,
        "dtype": "float32",
        "value_range": [0, 1] if plan.window else [],
        "is_patch_data": plan.slice_size is None,
        "channel_def": {"0": "red", "1": "green", "2": "blue"} if survey.modality == "rgb" else {"0": "image"},
    }
    if survey.modality == "grey":
        image["format"] = "magnitude"
    if plan.window is not None:
        image["fill_value"] = -1000
    if plan.min_extent is not None:
        image["scale"] = {"min_extent_mm": plan.min_extent}
    return {
        **{key: base[key] for key in kept},
        "version": "0.1.0",
        "changelog": {"0.1.0": "planned by monai-r2unet new"},
        "name": f"{name} (R2U-Net)",
        "task": f"Segmentation of {shown} in {NAMES[survey.modality]}",
        "description": f"R2U-Net (Alom et al. 2018) that segments {shown} in {NAMES[survey.modality]}.",
        "intended_use": "Research.",
        "limits": "Not a medical device and not for diagnosis. Trained only on the images of its owner.",
        "authors": "",
        "copyright": "",
        "data_source": f"{len(survey.cases)} images of its owner",
        "data_type": "nifti" if survey.volumes else "png",
        "image_classes": NAMES[survey.modality],
        "label_classes": ", ".join(f"{value} {label}" for value, label in enumerate(["background", *labels])),
        "pred_classes": f"probability of {shown}" if count == 1 else "probabilities of background and each label",
        "references": base["references"][:1],
        "labels": [
            {
                "value": value,
                "name": label,
                "colour": COLOURS[(value - 1) % len(COLOURS)],
                "terminology": terminology_of(label),
                **survey.source.appearance.get(label, {}),
            }
            for value, label in enumerate(labels, 1)
        ],
        "weights": {"file": "models/model.pt", "sha256": None, "licence": "not stated, see docs/data_license.txt"},
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": count + 1 if count > 1 else 1,
                    "spatial_shape": sides,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": plan.slice_size is None,
                    "channel_def": {str(channel): what for channel, what in outputs.items()},
                }
            },
        },
    }


def card_of(plan: Plan, name: str) -> str:
    """The model card, in Markdown."""
    rows = "\n".join(f"| {what} | {value} | {why} |" for what, value, why in plan.reasons)
    return f"""# {name}, R2U-Net: model card

Segments {", ".join(plan.survey.labels)} in {NAMES[plan.survey.modality]}, slice by slice. Written by
`monai-r2unet new`.

## Intended use and limits

Research only: not a medical device and not for diagnosis. State here which images it is meant for.

## Data

{len(plan.survey.cases)} images with masks ({plan.survey.source.form}). `data/datalist.json` lists them.

## Training

| | decision | reason |
| --- | --- | --- |
{rows}

```
python -m monai.bundle run training --config_file {name}/configs/train.json
```

## Evaluation and inference

```
monai-r2unet segment IMAGE MASK --bundle {name}
monai-r2unet evaluate MASK REFERENCE --bundle {name}
```

## Licences

Code and configuration: Apache 2.0. Data and weights: see `docs/data_license.txt`.
"""
