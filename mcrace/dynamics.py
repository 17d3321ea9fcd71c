"""How the networks of a cell move, told to the kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mcrace.kernels import Dynamics, Population

if TYPE_CHECKING:
    from mcrace.sections import Config


def dynamics_of(config: Config) -> Dynamics:
    """Activation and method of a cell."""
    network, training = config.network, config.training
    method = training.method if training.method in ("sign", "flow", "adaptive") else "descent"
    return Dynamics(network.activation, network.parameter, method, training.halvings, training.rtol, training.atol,
                    training.evaluations)


def population_of(config: Config, entropy: int, seeds: np.ndarray) -> Population | None:
    """What some networks learn from, where that is no sample."""
    return config.task.population_of(entropy, seeds) if config.training.gradient == "population" else None
