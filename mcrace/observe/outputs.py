"""What networks say of their samples: loss and accuracy."""

from __future__ import annotations

import numpy as np

from mcrace.observe.base import observable
from mcrace.observe.snapshot import Snapshot, losses_of, summed


@observable("loss")
def loss_of(state: Snapshot) -> np.ndarray:
    """Mean loss over the samples of the network."""
    return np.cumsum(state.losses, axis=1)[:, -1] / state.losses.shape[1]


@observable("zero_loss")
def _zero_loss(state: Snapshot) -> np.ndarray:
    """L_0, the loss of the output 0."""
    return np.cumsum(summed(losses_of(np.zeros(state.y.shape), state.y, state.loss)), axis=1)[:, -1] / state.y.shape[1]


@observable("accuracy")
def accuracy_of(state: Snapshot) -> np.ndarray:
    """Share of samples whose output has the sign of the label."""
    right = (state.outputs * state.y > 0).mean(axis=1)
    return np.where(np.isfinite(state.outputs).all(axis=1), right, np.nan)
