"""The options of a training, checked before anything is loaded."""

from __future__ import annotations

from monai_r2unet.errors import InputError

__all__ = ["check_training_options"]


def check_training_options(
    *, epochs: object, batch_size: object, val_interval: object, resume: object, freeze_norm: object
) -> None:
    """Reject options that would fail late or mean their opposite: ``false`` on the command line is a non-empty text.

    Raises:
        InputError: a number is not a positive integer, a switch neither True nor False, or ``resume`` neither a switch
            nor ``"auto"``.
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size), ("val_interval", val_interval)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"--{name} is {number!r}, expected a whole number from 1")
    for name, switch, other in (("freeze_norm", freeze_norm, ()), ("resume", resume, ("auto",))):
        if not isinstance(switch, bool) and switch not in other:
            choices = " or ".join(("True", "False", *other))
            raise InputError(f"--{name} is {switch!r}, expected {choices}, with the capital that Python writes")
