"""What a bundle's training needs beyond MONAI: handlers, resuming, several processes."""
