"""Image files: read completely or refused, written completely or not at all. Imports neither torch nor MONAI."""
