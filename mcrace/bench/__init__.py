"""Timed: the kernels against the libraries that one would otherwise train many small networks with, and a whole study."""

from mcrace.bench.measure import SHAPES, measure, table
from mcrace.bench.whole import measure_whole, whole_table

__all__ = ["SHAPES", "measure", "measure_whole", "table", "whole_table"]
