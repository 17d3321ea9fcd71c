"""Numba kernels: arrays [network, ...] in, arrays out; how networks are packed inside is the kernels' own affair."""

from mcrace.kernels.marks import NEVER, MarkTable
from mcrace.kernels.one_layer import OneLayerNetworks, Samples

__all__ = ["NEVER", "MarkTable", "OneLayerNetworks", "Samples"]
