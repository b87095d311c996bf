"""Transforms for MONAI's bundles that MONAI lacks, and the reader of their images."""
