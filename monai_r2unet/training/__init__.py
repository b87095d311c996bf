"""What a bundle's training needs beyond MONAI: handlers, resuming, multiple processes."""
