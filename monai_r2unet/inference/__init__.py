"""Inference with a bundle: images to masks."""
