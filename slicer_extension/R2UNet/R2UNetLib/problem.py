"""The one exception for what the user can put right."""

from __future__ import annotations


class Problem(Exception):
    """Something that stops a segmentation: the message is a sentence for the person in front of the screen."""
