"""Numba kernels: arrays [network, ...] in, arrays out; how networks are packed inside is the kernels' own affair."""

from mcrace.kernels.architecture import Layers, Norm
from mcrace.kernels.choice import Networks, choose, networks
from mcrace.kernels.gram_networks import GramNetworks
from mcrace.kernels.lane_networks import OneLayerNetworks, Samples
from mcrace.kernels.layer_networks import Evaluation, LayeredNetworks, LayeredSamples, evaluate_layers
from mcrace.kernels.marks import NEVER, MarkTable
from mcrace.kernels.roughness import roughness

__all__ = ["NEVER", "Evaluation", "GramNetworks", "LayeredNetworks", "LayeredSamples", "Layers", "MarkTable", "Networks",
           "Norm", "OneLayerNetworks", "Samples", "choose", "evaluate_layers", "networks",
           "roughness"]
