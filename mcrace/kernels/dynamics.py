"""How networks of one hidden layer move, in plain terms: their activation, the method, and the labels of a population."""

from __future__ import annotations

import math
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
    """Inputs N(0, σ² I) with labels Σ_k c_k relu(u_k·x) + g(|x|), all of them instead of samples.

    A linear label b·x is relu(b·x) - relu(-b·x).

    Attributes
    ----------
    units : array [unit, input], shared, or [network, unit, input]
        The u_k; none of them for labels of the length alone.
    factors : array [unit]
        The c_k.
    deviation : float
        σ.
    radial : float
        E[1[w·x > 0] g(|x|) x]·ŵ, the same for all w: E[g(|x|)|x|] `half_sphere_mean`.
    square : float, optional
        E[y²]; found from the units where there is no g.
    """

    units: np.ndarray
    factors: np.ndarray
    deviation: float = 1.0
    radial: float = 0.0
    square: float | None = None


def half_sphere_mean(inputs: int) -> float:
    """E[max(u_1, 0)] of a direction u that is uniform on the sphere, Γ(d/2)/(2√π Γ((d+1)/2)), by products alone.

    >>> half_sphere_mean(3)
    0.25
    """
    value, d = (0.5, 1) if inputs % 2 else (1 / math.pi, 2)
    while d < inputs:
        value, d = value * d / (d + 1), d + 2
    return value


def mean_power(inputs: int, power: int) -> float:
    """E|x|^power of x ~ N(0, I), power >= 0, by products alone.

    >>> mean_power(5, 2), round(mean_power(3, 1) ** 2 * math.pi, 12)
    (5.0, 8.0)
    """
    value = 1 / (math.sqrt(2 * math.pi) * half_sphere_mean(inputs)) if power % 2 else 1.0
    for p in range(power % 2, power, 2):
        value *= inputs + p
    return value
