"""A MONAI Label server for the bundles of this repository; see ``docs/how-to/monai_label.md``."""
