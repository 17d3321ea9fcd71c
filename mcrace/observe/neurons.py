"""Neurons one by one: norms, drifts, and their angle."""

from __future__ import annotations

import numpy as np

from mcrace.observe.base import observable
from mcrace.observe.snapshot import Snapshot, cosines_of


@observable("norm_product", ("neuron",))
def _norm_product(state: Snapshot) -> np.ndarray:
    """a = |v||w|."""
    return state.norm_product


@observable("output_weight", ("neuron",))
def _output_weight(state: Snapshot) -> np.ndarray:
    """v."""
    return state.v


@observable("input_norm", ("neuron",))
def _input_norm(state: Snapshot) -> np.ndarray:
    """|w|."""
    return state.norms


@observable("drift_norm", ("neuron",))
def _drift_norm(state: Snapshot) -> np.ndarray:
    """|D|; 0 for a dead neuron."""
    return state.drift_norms


@observable("cosine", ("neuron",))
def _cosine_to_drift(state: Snapshot) -> np.ndarray:
    """cos δ, the alignment of a neuron with its drift; NaN for a dead neuron."""
    return state.cosine


@observable("cosine_permuted", ("neuron",), samples=True)
def _cosine_permuted(state: Snapshot) -> np.ndarray:
    """cos δ with the drift that shuffled labels would give: a control."""
    return cosines_of(state.W, state.v, state.shuffled.evaluate(state.W, state.v)[1])


@observable("active", ("neuron",), dtype=int)
def _active(state: Snapshot) -> np.ndarray:
    """1 where a neuron is on at any sample, else 0; -1: not computed."""
    return state.active.astype(np.int32)


@observable("balancedness", ("neuron",))
def balancedness_of(state: Snapshot) -> np.ndarray:
    """|w|² - v², conserved by the flow."""
    return state.norms**2 - state.v**2
