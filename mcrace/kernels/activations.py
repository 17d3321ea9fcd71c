"""Activations of hidden neurons, in tiles: ReLU, leaky ReLU, softplus and tanh, with their slopes."""

from __future__ import annotations

from typing import Literal

from mcrace.kernels.elementary import exp, softplus, tanh
from mcrace.kernels.tiles import gate, inline, where

Activation = Literal["relu", "leaky-relu", "softplus", "tanh"]
RELU, LEAKY_RELU, SOFTPLUS, TANH = 0, 1, 2, 3
ACTIVATIONS: dict[str, int] = {"relu": RELU, "leaky-relu": LEAKY_RELU, "softplus": SOFTPLUS, "tanh": TANH}


@inline
def activated(h, kind, parameter):
    """σ(h); the parameter is the slope of a leaky ReLU below 0, or the sharpness β of softplus, log(1 + e^{βh})/β."""
    if kind == TANH:
        return tanh(h)
    if kind == SOFTPLUS:
        return softplus(parameter * h) / parameter
    return where(gate(h), h, parameter * h)


@inline
def slope(h, z, kind, parameter):
    """σ'(h) where z = σ(h); that of ReLU and leaky ReLU at 0 is the one below it."""
    if kind == TANH:
        return (1 - z) * (1 + z)
    if kind == SOFTPLUS:
        return 1 / (1 + exp(0 - parameter * h))
    return where(gate(h), 0 * h + 1, parameter + 0 * h)
