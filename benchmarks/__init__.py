"""What was measured, by what: a module here, its result in ``results``. Run as ``python -m benchmarks.speed``."""
