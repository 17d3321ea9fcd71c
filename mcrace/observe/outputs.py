"""What networks say of their samples: loss and accuracy."""

from __future__ import annotations

import numpy as np

from mcrace.observe.base import observable
from mcrace.observe.snapshot import Moment


@observable("loss", networks="any")
def loss_of(state: Moment) -> np.ndarray:
    """Mean loss over the samples of the network, or over all inputs where it learns from these."""
    return state.mean_loss


@observable("zero_loss", networks="any")
def zero_loss_of(state: Moment) -> np.ndarray:
    """L_0, the loss of the output 0."""
    return state.zero_loss


@observable("accuracy", networks="any")
def accuracy_of(state: Moment) -> np.ndarray:
    """Share of samples whose output has the sign of the label; of several outputs, the share of all."""
    f = state.outputs.reshape(len(state.y), -1)
    right = (f * state.y.reshape(f.shape) > 0).mean(axis=1)
    return np.where(np.isfinite(f).all(axis=1), right, np.nan)
