"""The worker's reports as text for the panel."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from .training import Training

GIB = 2**30


def describe_bundle(bundle: dict[str, Any]) -> str:
    """A network's intended use and its limits, as rich text."""
    parts = (
        (_("Intended use"), bundle["intended_use"]),
        (_("Limits"), bundle["limits"]),
        (_("Trained on"), bundle["data_source"]),
        (_("Licence of the weights"), bundle["licence"]),
    )
    lines = [f"<b>{html.escape(name)}:</b> {html.escape(text)}" for name, text in parts if text]
    return "<br>".join([html.escape(bundle["task"]), *lines])


def goes_by_field_of_view(bundle: dict[str, Any] | None) -> bool:
    """Whether a bundle resizes photographs by their field of view and therefore uses a scale."""
    return bundle is not None and "fov_diameter_px" in bundle.get("scale", {})


def describe_device(device: dict[str, Any]) -> str:
    """A device's name, with its free memory if known."""
    if device.get("free_bytes") is None or device.get("total_bytes") is None:
        return str(device["name"])
    return _("{name}, {free:.1f} of {total:.1f} GB free").format(
        name=device["name"], free=device["free_bytes"] / GIB, total=device["total_bytes"] / GIB
    )


def describe_time(done: int, total: int, elapsed: float, remaining: float | None) -> str:
    """Progress, elapsed time and estimated time left."""
    if remaining is None:
        return _("Slice {done} of {total}, {elapsed:.0f} s so far").format(done=done, total=total, elapsed=elapsed)
    return _("Slice {done} of {total}, {elapsed:.0f} s so far, about {remaining:.0f} s to go").format(
        done=done, total=total, elapsed=elapsed, remaining=remaining
    )


def describe_training(training: Training) -> str:
    """The course of a training."""
    if training.epochs or training.share:
        epoch = min(len(training.epochs) + 1, training.planned_epochs)
        text = _("Epoch {epoch} of {epochs}").format(epoch=epoch, epochs=training.planned_epochs)
        measured = [one.dice for one in training.epochs if one.dice is not None]
        if training.epochs:
            text += _(", loss {loss:.3f}").format(loss=training.epochs[-1].loss)
        if measured:
            text += _(", Dice {dice:.3f}").format(dice=measured[-1])
        if training.remaining is not None:
            text += _(", about {time} to go").format(time=describe_seconds(training.remaining))
        return text
    if training.plan:
        return _("Planned: loading the images ...")
    return _("Checking image {done} of {total} ...").format(done=training.checked[0], total=training.checked[1])


def describe_seconds(seconds: float) -> str:
    """A duration: seconds, minutes or hours."""
    if seconds < 100:
        return _("{seconds:.0f} s").format(seconds=seconds)
    if seconds < 6000:
        return _("{minutes:.0f} min").format(minutes=seconds / 60)
    return _("{hours:.1f} h").format(hours=seconds / 3600)


def bundle_problem(bundle: dict[str, Any] | None, name: str) -> str:
    """The reason why a bundle cannot be used; empty if it can."""
    if bundle is None:
        return _("'{name}' is not installed here: choose another entry under 'Find'.").format(name=name)
    if bundle["weights"] == "missing":
        return _(
            "'{title}' has no trained weights yet, so it cannot find anything: choose another entry under 'Find'."
        ).format(title=bundle["title"])
    if bundle["weights"] == "damaged" and "unsafe" in bundle:  # which only those that the user added have
        return _("The weights of '{title}' are damaged: copy or train it again.").format(title=bundle["title"])
    if bundle["weights"] == "damaged":
        return _("The weights of '{title}' are damaged: install R2U-Net again under 'Set up'.").format(
            title=bundle["title"]
        )
    return ""
