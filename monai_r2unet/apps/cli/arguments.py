"""Numbers as arguments of the command line, and the spelling of options."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence

__all__ = ["learning_rate", "natural", "positive", "with_dashes"]


def with_dashes(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with underscores in options (as on MONAI's command line) replaced by dashes."""
    words = iter(arguments)
    for word in words:
        if word == "--":  # no options follow
            yield word
            yield from words
        elif word.startswith("--"):
            option, equals, value = word.partition("=")
            yield option.replace("_", "-") + equals + value
        else:
            yield word


def positive(text: str) -> int:
    """An integer, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """An integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text!r}")
    return int(text)


def learning_rate(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value
