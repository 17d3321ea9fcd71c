"""Numba kernels: arrays [network, ...] in, arrays out; how networks are packed inside is the kernels' own affair."""

from mcrace.kernels.choice import Networks, choose, networks
from mcrace.kernels.gram_networks import GramNetworks
from mcrace.kernels.lane_networks import OneLayerNetworks, Samples
from mcrace.kernels.layer_networks import LayeredNetworks
from mcrace.kernels.marks import NEVER, MarkTable

__all__ = ["NEVER", "GramNetworks", "LayeredNetworks", "MarkTable", "Networks", "OneLayerNetworks", "Samples", "choose",
           "networks"]
