"""Image files, read and written completely or not at all. Imports neither torch nor MONAI."""
