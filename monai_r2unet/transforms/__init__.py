"""Transforms that MONAI lacks, and an image reader, for MONAI's bundles."""
