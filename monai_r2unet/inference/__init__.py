"""A bundle at work on images."""
