"""Normalisation of the input of a network, sample by sample (THEORY.md, normalised-growth)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from mcrace.compiled import compiled
from mcrace.seeds import decay, logarithm
from mcrace.tables import Section
from mcrace.tasks.corruption import Image
from mcrace.tasks.roughness import roughness_of


class InputNorm(Section):
    """What a normalisation does to the input x itself, (x - mean x)/σ_eff; within the network there is `network.norm`."""

    kind: Literal["layernorm", "r_layernorm", "bayesian_r_layernorm"]
    eps: float = Field(1e-5, ge=0, le=1, description="added to the variance")
    strength: float = Field(1.0, ge=0, le=1, description="λ")
    alpha: float = Field(1.0, ge=0, le=100, description="α of bayesian_r_layernorm")


@compiled
def _normalise(X, rough, bayesian, strength, alpha, eps):
    for n in range(len(X)):
        total, square = 0.0, 0.0
        for k in range(X.shape[1]):
            total += X[n, k] - X[n, 0]  # exactly 0 for a constant sample
        mean = X[n, 0] + total / X.shape[1]
        for k in range(X.shape[1]):
            square += (X[n, k] - mean) ** 2
        sigma, t = np.sqrt(square / X.shape[1] + eps), strength * rough[n]
        if bayesian:
            sigma *= decay(alpha * t / (1 + t)) / decay(alpha * logarithm(1 + t))
        else:
            sigma *= 1 + t
        for k in range(X.shape[1]):
            X[n, k] = 0.0 if sigma == 0 else (X[n, k] - mean) / sigma


def normalised_inputs(X: np.ndarray, norm: InputNorm | None, image: Image | None) -> np.ndarray:
    """Inputs [sample, input] behind a normalisation of each sample; 0 where all inputs are equal and eps is 0.

    Examples
    --------
    >>> X = normalised_inputs(np.array([[1.0, 3.0], [2.0, 2.0]]), InputNorm(kind="layernorm", eps=0.0), None)
    >>> X.tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    if norm is None:
        return X
    out = np.array(X, float)
    rough = np.zeros(len(X)) if norm.kind == "layernorm" else roughness_of(X, image, norm.eps)
    _normalise(out, rough, norm.kind == "bayesian_r_layernorm", norm.strength, norm.alpha, norm.eps)
    return out
