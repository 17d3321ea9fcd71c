"""How networks of one hidden layer move, in plain terms: their activation, the method, and the labels of a population."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mcrace.kernels.activations import Activation


@dataclass(frozen=True)
class Dynamics:
    """Activation and method.

    Attributes
    ----------
    activation : {"relu", "leaky-relu", "softplus", "tanh"}
    parameter : float
        The slope of a leaky ReLU below 0, or the sharpness β of softplus, log(1 + e^{βh})/β.
    method : {"descent", "sign", "flow", "adaptive"}
        Descent may be that of a heavy ball; see `mcrace.kernels.integrators`.
    halvings : int
        How often the flow halves a step.
    rtol, atol : float
        Tolerances of the adaptive method: the error of a step, in units of atol + rtol |weight|, has a root mean square
        over the weights of a network of at most 1.
    evaluations : int
        Of the gradient, in a step of the time grid, at most.
    """

    activation: Activation = "relu"
    parameter: float = 0.0
    method: Literal["descent", "sign", "flow", "adaptive"] = "descent"
    halvings: int = 1
    rtol: float = 1e-6
    atol: float = 1e-9
    evaluations: int = 10_000

    @property
    def plain(self) -> bool:
        """Descent of ReLU networks, which has kernels of its own."""
        return self.activation == "relu" and self.method == "descent"


@dataclass(frozen=True)
class Population:
    """Inputs N(0, I) with labels Σ_k c_k relu(u_k·x) + g(|x|), all of them instead of samples.

    Attributes
    ----------
    units : array [unit, input], shared, or [network, unit, input]
        The u_k; none of them for labels of the length alone.
    factors : array [unit]
        The c_k.
    radial : float
        |E[1[w·x > 0] g(|x|) x]|, of whatever w.
    square : float, optional
        E[y²]; found from the units where there is no g.
    """

    units: np.ndarray
    factors: np.ndarray
    radial: float = 0.0
    square: float | None = None

    def some(self, chosen: np.ndarray) -> Population:
        """That of some networks."""
        if self.units.ndim == 2:
            return self
        return Population(self.units[chosen], self.factors, self.radial, self.square)
