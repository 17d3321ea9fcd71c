"""This machine's kernels timed against the libraries that one would otherwise train many small networks with."""

from mcrace.bench.measure import SHAPES, measure, table

__all__ = ["SHAPES", "measure", "table"]
