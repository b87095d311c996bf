"""A MONAI Label server with the bundles of this repository; ``docs/monai_label.md`` tells how to use it."""
