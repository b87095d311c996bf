"""Benchmarks: one module per measurement, results in ``results``. Run as ``python -m benchmarks.speed``."""
