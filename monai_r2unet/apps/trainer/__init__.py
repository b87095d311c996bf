"""The process in which 3D Slicer trains: it plans a bundle for a data set, and trains it."""
