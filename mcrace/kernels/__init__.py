"""Numba kernels: arrays [network, ...] in, arrays out; how networks are packed inside is the kernels' own affair."""

from mcrace.kernels.activations import Activation
from mcrace.kernels.architecture import Layers, Norm
from mcrace.kernels.choice import Networks, choose, networks, samples
from mcrace.kernels.dynamics import Dynamics, Population
from mcrace.kernels.field_networks import FieldNetworks, PopulationSamples
from mcrace.kernels.gram_networks import GramNetworks
from mcrace.kernels.lane_networks import OneLayerNetworks, Samples
from mcrace.kernels.layer_networks import Evaluation, LayeredNetworks, LayeredSamples, Weights, evaluate_layers
from mcrace.kernels.marks import NEVER, MarkTable

__all__ = ["NEVER", "Activation", "Dynamics", "Evaluation", "FieldNetworks", "GramNetworks", "LayeredNetworks",
           "LayeredSamples", "Layers", "MarkTable", "Networks", "Norm", "OneLayerNetworks", "Population", "PopulationSamples",
           "Samples", "Weights", "choose", "evaluate_layers", "networks", "samples"]
