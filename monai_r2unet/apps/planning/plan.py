"""How a network is to be trained on a data set: each decision with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_r2unet.apps.planning.survey import Survey
from monai_r2unet.datasets.splits import draw_split, hold_out_validation

__all__ = ["Plan", "make_plan"]

OPPOSITE = {"left": "right", "l": "r", "links": "rechts", "linke": "rechte", "gauche": "droit"}
OPPOSITE |= {right: left for left, right in OPPOSITE.items()} | {"droite": "gauche"}
SIDED = re.compile(rf"(?<![^\W_])({'|'.join(OPPOSITE)})(?![^\W_])", re.IGNORECASE)
SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256)  # pixels; multiples of 16, for four levels of a network
THIN = 3.0  # pixels; thinner structures are lost where a picture is shrunk
ITERATIONS = 600  # per training, unless that is fewer than ten epochs or more than sixty
VALIDATION, TEST = 0.15, 0.15
LEAST_FOR_TEST = 4  # patients; with fewer, a test set would leave one to learn from


@dataclass(frozen=True)
class Plan:
    """How a network is to be trained.

    Args:
        survey: Content of the data set.
        split: The set of each case, by its name.
        slice_size: Side in pixels of the square that slices are fitted into; None: patches at full resolution.
        min_extent: Minimum extent of the square in mm; None for pictures.
        window: Lowest and highest HU that the network sees; None: mean and standard deviation of each image.
        patch_size: Side of the patches in pixels; None: complete images.
        channels: Channels of the network's levels.
        batch_size: Images at a time.
        epochs: Passes over the training images.
        lr: Learning rate.
        mirror: Whether mirror images are shown.
        exchanged: Pairs of labels that change places in a mirror image.
        reasons: (what, decision, reason), in the order in which they are shown.
    """

    survey: Survey
    split: dict[str, str]
    slice_size: int | None
    min_extent: int | None
    window: tuple[int, int] | None
    patch_size: int | None
    channels: list[int]
    batch_size: int
    epochs: int
    lr: float
    mirror: bool
    exchanged: list[list[int]]
    reasons: list[tuple[str, str, str]]

    def table(self) -> str:
        """The decisions and their reasons, one per line."""
        widths = [max(len(row[column]) for row in self.reasons) for column in (0, 1)]
        return "\n".join(f"{what:<{widths[0]}}  {value:<{widths[1]}}  {why}" for what, value, why in self.reasons)


def make_plan(survey: Survey, seed: int = 0) -> Plan:
    """Decide how to train on a data set.

    Args:
        survey: Content of the data set.
        seed: Seed of the split, if the data set has none.
    """
    why: list[tuple[str, str, str]] = []
    cases, count = survey.cases, len(survey.labels)
    why.append(("data", f"{len(cases)} images", survey.source.form))
    how = f"guessed: {survey.guessed}" if survey.guessed else "given"
    why.append(("modality", survey.modality, how))
    shares = np.sum([one.voxels for one in cases], axis=0) / sum(int(np.prod(one.size)) for one in cases)
    shown = ", ".join(f"{name} ({share:.2%})" for name, share in zip(survey.labels, shares, strict=True))
    kind = "sigmoid" if count == 1 else "softmax, as labels do not overlap"
    why.append(("labels", shown, f"share of all voxels; {kind}"))

    split = _split(survey, seed)
    counts = [list(split.values()).count(name) for name in ("training", "validation", "test")]
    given = any(one.case.split for one in cases)
    why.append(
        ("split", "{} training, {} validation, {} test".format(*counts), "given" if given else "drawn by patient")
    )

    window = None
    if survey.modality == "ct":
        low, _, high = survey.foreground
        margin = max(100.0, (high - low) / 2)
        window = (10 * round((low - margin) / 10), 10 * round((high + margin) / 10))
        reason = f"percentiles 0.5 and 99.5 of the labels' values are {low:.0f} and {high:.0f}, with a margin"
        why.append(("intensity", f"window {window[0]} to {window[1]} HU", reason))
    else:
        reason = "scanners, sequences and lighting differ in brightness" if survey.volumes else "lighting differs"
        why.append(("intensity", "mean 0, standard deviation 1 in each image", reason))

    slice_size, patch_size, reason = _sizes(survey)
    size = f"{slice_size} x {slice_size} pixels" if slice_size else f"patches of {patch_size} x {patch_size} pixels"
    why.append(("size", size, reason))
    min_extent = None
    if survey.volumes:
        extents = [max(n * s for n, s in zip(one.size[:2], one.spacing[:2], strict=True)) for one in cases]
        min_extent = round(float(np.median(extents)))
        why.append(("extent", f"{min_extent} mm", "median of the images; narrower ones are padded, not magnified"))

    channels = [16, 32, 64, 128] if count <= 3 else [24, 48, 96, 192] if count <= 8 else [32, 64, 128, 256]
    why.append(("network", f"R2UNet, {'-'.join(map(str, channels))} channels", f"for {count} label{'s'[: count > 1]}"))
    images = _training_images(survey, split, patch_size)
    batch_size = min(16 if patch_size and not slice_size else 4, images)
    why.append(("batch", str(batch_size), "fits into 2 GB of memory"))
    steps = max(1, images // batch_size)
    epochs = int(np.clip(round(ITERATIONS / steps), 10, 60))
    why.append(("epochs", str(epochs), f"{steps} steps each"))
    mirror, exchanged = _mirror(survey, why)
    patch = patch_size or slice_size
    return Plan(
        survey,
        split,
        slice_size,
        min_extent,
        window,
        patch,
        channels,
        batch_size,
        epochs,
        0.002,
        mirror,
        exchanged,
        why,
    )


def _mirror(survey: Survey, why: list[tuple[str, str, str]]) -> tuple[bool, list[list[int]]]:
    """Whether to show mirror images, and which labels change places in them."""
    names = {_folded(name): value for value, name in enumerate(survey.labels, start=1)}
    sided = {value: name for name, value in names.items() if SIDED.search(name)}
    pairs = {value: names.get(SIDED.sub(_other_side, name)) for value, name in sided.items()}
    alone = [survey.labels[value - 1] for value, partner in pairs.items() if partner is None or pairs[partner] != value]
    if not sided:
        why.append(("mirror images", "yes", "no label's name has a side"))
        return True, []
    if alone:
        why.append(("mirror images", "no", f"{', '.join(alone)} would change sides"))
        return False, []
    if not survey.volumes:
        why.append(("mirror images", "no", "in pictures, labels that have a side would change it"))
        return False, []
    exchanged = sorted([value, partner] for value, partner in pairs.items() if partner is not None and value < partner)
    shown = ", ".join(" and ".join(survey.labels[value - 1] for value in pair) for pair in exchanged)
    why.append(("mirror images", "yes", f"{shown} change places in them"))
    return True, exchanged


def _folded(name: str) -> str:
    return " ".join(name.lower().split())


def _other_side(found: re.Match[str]) -> str:
    return OPPOSITE[found[1].lower()]


def _split(survey: Survey, seed: int) -> dict[str, str]:
    """The set of each case: the data set's own, or drawn by patient."""
    patients = {one.case.name: one.case.patient or one.case.name for one in survey.cases}
    if any(one.case.split for one in survey.cases):
        sets = {patients[one.case.name]: one.case.split or "training" for one in survey.cases}
        sets = hold_out_validation(sets, seed)
    else:
        few = len(set(patients.values())) < LEAST_FOR_TEST
        sets = draw_split(patients.values(), VALIDATION, 0 if few else TEST, seed)
    if len(sets) == 1:  # then validation shows no more than that it learns
        return dict.fromkeys(patients, "training")
    return {name: sets[patient] for name, patient in patients.items()}


def _sizes(survey: Survey) -> tuple[int | None, int | None, str]:
    """Side of the square, or of patches, and why."""
    side = float(np.median([max(one.size[:2]) for one in survey.cases]))
    fitting = next((n for n in SIDES if n >= side), SIDES[-1])
    if survey.volumes or side <= fitting:
        return fitting, None, f"slices have {side:.0f} pixels" if survey.volumes else f"pictures have {side:.0f} pixels"
    thickness = float(np.median([one.thickness for one in survey.cases])) * fitting / side
    if thickness >= THIN:
        return (
            fitting,
            None,
            f"labels stay {thickness:.0f} pixels thick in pictures of {side:.0f} fitted into it",
        )
    return None, 64, f"labels would be {thickness:.1f} pixels thick in pictures fitted into {fitting}"


def _training_images(survey: Survey, split: dict[str, str], patch_size: int | None) -> int:
    """Number of slices, pictures or patches per epoch."""
    training: Sequence[Any] = [one for one in survey.cases if split[one.case.name] == "training"]
    if survey.volumes:
        return sum(one.size[2] for one in training)
    return max(len(training), 1) if patch_size is None else 800
