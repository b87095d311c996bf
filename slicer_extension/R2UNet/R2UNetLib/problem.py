"""The exception for problems that the user can solve."""

from __future__ import annotations


class Problem(Exception):
    """A problem that prevents a segmentation: the message is a sentence for the user."""
