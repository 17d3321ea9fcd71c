"""Observables by name: functions of the weights and the task, computed as training goes by, in float64.

An observable is ``f(state) -> array [network, ...]`` with `dims` naming what follows the network.  It is recorded on the
time grid (``"loss"``) or at a state (``"norm_product@onset"``); see `Snapshot` for what it can use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from mcrace.compiled import compiled
from mcrace.kernels import Samples
from mcrace.registry import Registry

CUT = 0.01  # of the dendrogram (THEORY.md, mutual-alignment)
HELD = 0.95  # share of the norm that the counted clusters hold


@dataclass(frozen=True)
class Snapshot:
    """A batch of networks at one moment.

    Attributes
    ----------
    W : float64 array [network, neuron, input]
    v : float64 array [network, neuron]
    y : float64 array [network, sample]
    samples : `mcrace.kernels.Samples`
    loss : {"mse", "logistic"}
    shuffled : callable returning `Samples` with shuffled labels
    """

    W: np.ndarray
    v: np.ndarray
    y: np.ndarray
    samples: Samples
    loss: str
    shuffled: Callable[[], Samples]

    @cached_property
    def _with_drift(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.samples.evaluate(self.W, self.v)

    @cached_property
    def _evaluated(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Outputs and activity: from the drift's pass where there was one, else from a cheaper one."""
        return self.__dict__.get("_with_drift") or self.samples.evaluate(self.W, self.v, drifts=False)

    @cached_property
    def outputs(self) -> np.ndarray:
        """f [network, sample]."""
        return self._evaluated[0]

    @cached_property
    def drift(self) -> np.ndarray:
        """D [network, neuron, input] (THEORY.md, Notation)."""
        return self._with_drift[1]

    @cached_property
    def losses(self) -> np.ndarray:
        """The loss of each sample [network, sample]."""
        if self.loss == "mse":
            return (self.outputs - self.y) ** 2 / 2
        return np.logaddexp(0, -self.y * self.outputs)

    @cached_property
    def norms(self) -> np.ndarray:
        """|w| [network, neuron]."""
        return _norms(self.W)

    @cached_property
    def drift_norms(self) -> np.ndarray:
        """|D| [network, neuron]; 0 for a dead neuron."""
        return _norms(self.drift)

    @cached_property
    def norm_product(self) -> np.ndarray:
        """a = |v||w| [network, neuron]."""
        return self.norms * np.abs(self.v)

    @cached_property
    def cosine(self) -> np.ndarray:
        """cos δ = sign(v) w.D/(|w||D|) [network, neuron]; NaN for a dead neuron."""
        return _cosine(self.W, self.v, self.drift)

    @cached_property
    def active(self) -> np.ndarray:
        """Whether a neuron is on at any sample [network, neuron]."""
        return self._evaluated[2]

    @cached_property
    def clusters(self) -> np.ndarray:
        """Numbers of clusters, from 1 on, in order of falling norm held; 0: dead; -1: not finite [network, neuron]."""
        return np.stack([_clusters(*network) for network in zip(self.W, self.v, self.norm_product, self.active)])


@dataclass(frozen=True)
class Observable:
    """A registered observable."""

    name: str
    compute: Callable[[Snapshot], np.ndarray]
    dims: tuple[str, ...]
    dtype: type
    units: str

    @property
    def text(self) -> str:
        """What it is, from its docstring."""
        return " ".join((self.compute.__doc__ or "").split())


OBSERVABLES: Registry[Observable] = Registry("observable", "mcrace.observables")


def observable(name: str, dims: tuple[str, ...] = (), dtype: type = float, units: str = "1") -> Callable:
    """Register ``f(state) -> array [network, *dims]`` as an observable.

    Parameters
    ----------
    name : str
        Name in study files and in the results file.
    dims : tuple of {"neuron", "input", "sample"}
        What follows the network.
    dtype : float or int
        Stored as float64 or int32.
    """

    def register(compute: Callable[[Snapshot], np.ndarray]) -> Callable[[Snapshot], np.ndarray]:
        OBSERVABLES.add(name)(Observable(name, compute, dims, dtype, units))
        return compute

    return register


@compiled
def _norms(W):
    out = np.empty(W.shape[:2])
    for i in range(W.shape[0]):
        for a in range(W.shape[1]):
            total = 0.0
            for k in range(W.shape[2]):
                total += W[i, a, k] * W[i, a, k]
            out[i, a] = np.sqrt(total)
    return out


@compiled
def _cosine(W, v, D):
    out = np.empty(v.shape)
    for i in range(W.shape[0]):
        for a in range(W.shape[1]):
            ww, wd, dd = 0.0, 0.0, 0.0
            for k in range(W.shape[2]):
                w, d = W[i, a, k], D[i, a, k]
                ww += w * w
                wd += w * d
                dd += d * d
            out[i, a] = np.sign(v[i, a]) * wd / np.sqrt(ww * dd)
    return out


@compiled
def _alignment(W, v, product):
    """Every neuron with the sum of those before it: pairs only, so that one that holds nearly all cancels nothing."""
    out = np.empty(len(W))
    inputs = W.shape[2]
    for i in range(len(W)):
        top, bottom = np.zeros(inputs), 0.0
        for sign in (-1.0, 1.0):
            mean, total = np.zeros(inputs), 0.0
            for a in range(W.shape[1]):
                p = product[i, a]
                if v[i, a] * sign < 0:
                    continue
                bottom += p * total
                total += p
                for k in range(inputs):
                    part = abs(v[i, a]) * W[i, a, k]
                    top[k] += part * mean[k]
                    mean[k] += part
        out[i] = top.sum() / bottom
    return out


@compiled
def _distances(W, sign):
    """Condensed distances 1 - min(cos(w_a, w_b), sign_a sign_b) of the rows of W."""
    m = len(W)
    out = np.empty(m * (m - 1) // 2)
    unit = np.empty_like(W)
    for a in range(m):
        length = 0.0
        for k in range(W.shape[1]):
            length += W[a, k] * W[a, k]
        for k in range(W.shape[1]):
            unit[a, k] = W[a, k] / np.sqrt(length)
    n = 0
    for a in range(m):
        for b in range(a + 1, m):
            total = 0.0
            for k in range(W.shape[1]):
                total += unit[a, k] * unit[b, k]
            out[n] = max(0.0, 1.0 - min(total, sign[a] * sign[b]))
            n += 1
    return out


def _clusters(W: np.ndarray, v: np.ndarray, product: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Average linkage of the active neurons of one network, cut at `CUT` (THEORY.md, mutual-alignment)."""
    if not np.isfinite(product).all():
        return np.full(len(v), -1, np.int32)
    labels = np.zeros(len(v), np.int32)
    usable = active & (product > 0)
    if usable.sum() < 2:
        labels[usable] = 1
        return labels
    found = fcluster(linkage(_distances(W[usable], np.sign(v[usable])), "average"), CUT, "distance")
    held = np.bincount(found, product[usable])
    rank = np.empty(len(held), np.int32)
    rank[np.argsort(-held, kind="stable")] = np.arange(1, len(held) + 1)
    labels[usable] = rank[found]
    return labels


@observable("loss")
def _loss(state: Snapshot) -> np.ndarray:
    """Mean loss over the samples of the network."""
    return np.cumsum(state.losses, axis=1)[:, -1] / state.losses.shape[1]


@observable("accuracy")
def _accuracy(state: Snapshot) -> np.ndarray:
    """Share of samples whose output has the sign of the label."""
    right = (state.outputs * state.y > 0).mean(axis=1)
    return np.where(np.isfinite(state.outputs).all(axis=1), right, np.nan)


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


@observable("cosine_permuted", ("neuron",))
def _cosine_permuted(state: Snapshot) -> np.ndarray:
    """cos δ with the drift that shuffled labels would give: a control."""
    return _cosine(state.W, state.v, state.shuffled().evaluate(state.W, state.v)[1])


@observable("active", ("neuron",), dtype=int)
def _active(state: Snapshot) -> np.ndarray:
    """1 where a neuron is on at any sample, else 0; -1: not computed."""
    return state.active.astype(np.int32)


@observable("balancedness", ("neuron",))
def _balancedness(state: Snapshot) -> np.ndarray:
    """|w|² - v², conserved by the flow."""
    return state.norms**2 - state.v**2


@observable("mean_cosine")
def _mean_cosine(state: Snapshot) -> np.ndarray:
    """Σ a cos δ / Σ a over active neurons."""
    a = np.where(state.active, state.norm_product, 0)
    return np.sum(a * np.where(state.active, state.cosine, 0), axis=1) / np.sum(a, axis=1)


@observable("alignment")
def _alignment_of_neurons(state: Snapshot) -> np.ndarray:
    """A, the mean cosine of pairs of neurons of one sign, weighted by their norm products."""
    return _alignment(state.W, state.v, state.norm_product)


@observable("cluster", ("neuron",), dtype=int)
def _cluster(state: Snapshot) -> np.ndarray:
    """Number of the neuron's cluster, the one that holds most norm first; 0: dead; -1: not computed."""
    return state.clusters


@observable("clusters_95")
def _clusters_95(state: Snapshot) -> np.ndarray:
    """N95, the fewest clusters that hold 95 % of Σa."""
    counts = np.full(len(state.W), np.nan)
    for i in np.flatnonzero(state.clusters.max(axis=1) > 0):
        held = np.bincount(state.clusters[i], state.norm_product[i])[1:]
        counts[i] = np.argmax(np.cumsum(held) >= HELD * held.sum() * (1 - 1e-12)) + 1
    return counts
