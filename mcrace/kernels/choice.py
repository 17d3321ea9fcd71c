"""Which kernel trains networks of given sizes: a pure function of what is asked, never of the machine or the moment.

Otherwise the same network would come out with other bits on the next run.
"""

from __future__ import annotations

import numpy as np

from mcrace.kernels.dynamics import Dynamics, Population
from mcrace.kernels.field_networks import ActivatedSamples, FieldNetworks, PopulationSamples
from mcrace.kernels.gram_networks import GramNetworks
from mcrace.kernels.lane_networks import OneLayerNetworks, Samples
from mcrace.kernels.lookup import GROUP
from mcrace.kernels.marks import MarkTable
from mcrace.kernels.registers import LONG

Networks = OneLayerNetworks | GramNetworks | FieldNetworks
DESCENT = Dynamics()


def choose(
    inputs: int, neurons: int, samples: int, dtype: str, plain: bool, dynamics: Dynamics = DESCENT, population: bool = False
) -> type[Networks]:
    """The kernel for networks of one hidden layer and one output, by its cycles a step, as they were measured.

    Deeper networks, and those of several outputs, have one kernel: `mcrace.kernels.LayeredNetworks`.

    Parameters
    ----------
    inputs, neurons, samples : int
        d, m, N.
    dtype : {"float32", "float64"}
    plain : bool
        Full-batch descent without momentum and decay: all that the Gram form knows.
    dynamics : Dynamics
        Where it is not descent of ReLU networks, there is one kernel for all of it.
    population : bool
        Whether networks learn from all inputs instead of samples.

    Examples
    --------
    >>> choose(10, 50, 100, "float32", True).kernel, choose(3072, 300, 200, "float32", True).kernel
    ('one-layer-lanes', 'one-layer-gram')
    """
    if population or not dynamics.plain:
        return FieldNetworks
    lanes = LONG // np.dtype(dtype).itemsize
    vectors, tables = -(-samples // lanes), -(-samples // GROUP)
    direct = neurons / lanes * samples * (inputs + 3)
    gram = vectors * (neurons * (0.8 * tables + 12) + 20 * tables)
    return GramNetworks if plain and gram < direct else OneLayerNetworks


def networks(
    W: np.ndarray,
    v: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    loss: str,
    dtype: str,
    marks: MarkTable | None = None,
    decay: float = 0.0,
    momentum: float = 0.0,
    velocity: tuple[np.ndarray, np.ndarray] | None = None,
    batches: bool = False,
    dynamics: Dynamics = DESCENT,
    population: Population | None = None,
) -> Networks:
    """Networks in training, in the kernel that `choose` names.

    Parameters
    ----------
    W : array [network, neuron, input]
    v : array [network, neuron]
    X : array [sample, input], shared, or [network, sample, input]
    y : array [sample] or [network, sample]
        Labels; +1 or -1 for the logistic loss.
    loss : {"mse", "logistic"}
    dtype : {"float32", "float64"}
    marks : MarkTable, optional
    decay, momentum, velocity : see `OneLayerNetworks`
    batches : bool
        Whether minibatches will be given to `advance`.
    dynamics : Dynamics
    population : Population, optional
        What networks learn from instead of X and y; see `FieldNetworks`.
    """
    marks = marks or MarkTable.none(len(W))
    plain = not (decay or momentum or batches)
    kernel = choose(W.shape[2], W.shape[1], y.shape[-1], dtype, plain, dynamics, population is not None)
    if kernel is FieldNetworks:
        return FieldNetworks(W, v, X, y, loss, dtype, marks, decay, momentum, velocity, dynamics, population)
    if kernel is GramNetworks:
        return GramNetworks(W, v, X, y, loss, dtype, marks)
    return OneLayerNetworks(W, v, X, y, loss, dtype, marks, decay, momentum, velocity)


def samples(
    X: np.ndarray, y: np.ndarray, loss: str, dynamics: Dynamics = DESCENT, population: Population | None = None
) -> Samples:
    """Samples on which networks are evaluated, in float64; parameters as for `networks`."""
    if population is not None:
        return PopulationSamples(X, y, loss, population)
    if dynamics.activation != "relu":
        return ActivatedSamples(X, y, loss, dynamics)
    return Samples(X, y, loss)
