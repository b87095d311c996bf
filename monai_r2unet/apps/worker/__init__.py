"""The process that keeps a bundle loaded and segments on request."""
