"""A MONAI Label server with the bundles of this repository; ``docs/how-to/monai_label.md`` tells how to use it."""
