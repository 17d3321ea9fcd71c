"""Observables by name: functions of the weights and the task, computed as training goes by, in float64.

An observable is ``f(state) -> array [network, ...]`` with `dims` naming what follows the network.  It is recorded on the
time grid (``"loss"``) or at a state (``"norm_product@onset"``); see `Snapshot` for what it can use.  A *path* follows each
network over all its recording times, and leaves one value at its end (``"unlocking_time"``); see `Path`.
"""

from mcrace.observe import (
    alignment,
    capacity,
    depth,
    directions,
    extremal,
    laws,
    layer_paths,
    neurons,
    normalised,
    outputs,
    regimes,
    robustness,
    rotation,
    span,
    tangent,
    unlocking,
)
from mcrace.observe.base import OBSERVABLES, Observable, Path, observable, path
from mcrace.observe.layered import LayeredSnapshot
from mcrace.observe.snapshot import Moment, Snapshot

__all__ = ["OBSERVABLES", "LayeredSnapshot", "Moment", "Observable", "Path", "Snapshot", "alignment", "capacity", "depth",
           "directions", "extremal", "laws", "layer_paths", "neurons", "normalised", "observable", "outputs", "path",
           "regimes", "robustness", "rotation", "span", "tangent", "unlocking"]
