"""A batch of networks at one moment: all that an observable can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mcrace.compiled import compiled
from mcrace.kernels import Samples, networks
from mcrace.observe.clusters import clusters_of, tree_of
from mcrace.observe.products import products_of
from mcrace.seeds import SHARED, Stream

if TYPE_CHECKING:
    from mcrace.study import Config


@compiled
def norms_of(W):
    out = np.empty(W.shape[:2])
    for i in range(W.shape[0]):
        for a in range(W.shape[1]):
            total = 0.0
            for k in range(W.shape[2]):
                total += W[i, a, k] * W[i, a, k]
            out[i, a] = np.sqrt(total)
    return out


@compiled
def cosines_of(W, v, D):
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


def losses_of(f: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    """The loss of each sample, for outputs and labels [..., sample]."""
    if loss == "mse":
        return (f - y) ** 2 / 2
    return np.logaddexp(0, -y * f)


def shuffled_labels(y: np.ndarray, entropy: int, seeds: np.ndarray) -> np.ndarray:
    """Labels [network, sample], or [sample] where they are shared, shuffled by the stream (entropy, labels, network)."""
    if y.ndim == 1:
        return y[Stream(entropy, "labels", SHARED).permutation(len(y))]
    orders = [Stream(entropy, "labels", int(seed)).permutation(y.shape[1]) for seed in seeds]
    return np.take_along_axis(y, np.stack(orders), axis=1)


@dataclass(frozen=True)
class Origin:
    """Where networks come from: what a snapshot needs to know of them beyond their weights.

    Attributes
    ----------
    config : `mcrace.study.Config`
    entropy : int
    seeds : int64 array [network]
    X : float64 array [network, sample, input], or [sample, input] where they are shared
    start : callable returning W and v at the start
    shuffled : callable returning `Samples` with shuffled labels
    test : callable returning test samples X and labels y, as those of the task
    """

    config: Config
    entropy: int
    seeds: np.ndarray
    X: np.ndarray
    start: Callable[[], tuple[np.ndarray, np.ndarray]]
    shuffled: Callable[[], Samples]
    test: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


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
    origin : `Origin`
    step : int64 array [network]
    time : float64 array [network]
        Sum of the sizes of the steps that were taken.
    """

    W: np.ndarray
    v: np.ndarray
    y: np.ndarray
    samples: Samples
    loss: str
    origin: Origin
    step: np.ndarray
    time: np.ndarray

    @property
    def X(self) -> np.ndarray:
        """Samples [network, sample, input], or [sample, input] where they are shared."""
        return self.origin.X

    @cached_property
    def start(self) -> Snapshot:
        """The same networks before their first step."""
        zero = np.zeros_like(self.step)
        return replace(self.with_weights(*self.origin.start()), step=zero, time=zero.astype(float))

    @cached_property
    def shuffled(self) -> Samples:
        """The samples with shuffled labels."""
        return self.origin.shuffled()

    @cached_property
    def test(self) -> Snapshot:
        """The same networks on their test samples."""
        if self.origin.test is None:
            raise TypeError("networks without a task have no test samples")
        X, y = self.origin.test()
        labels = y if y.ndim == 2 else np.broadcast_to(y, (len(self.W), len(y)))
        return replace(self, y=labels, samples=Samples(X, y, self.loss), origin=replace(self.origin, X=X))

    @cached_property
    def shuffled_labels(self) -> np.ndarray:
        """The shuffled labels [network, sample]."""
        if self.X.ndim == 3:
            return shuffled_labels(self.y, self.origin.entropy, self.origin.seeds)
        return np.broadcast_to(shuffled_labels(self.y[0], self.origin.entropy, self.origin.seeds), self.y.shape)

    def with_weights(self, W: np.ndarray, v: np.ndarray) -> Snapshot:
        """Other networks on the same data at the same moment."""
        return replace(self, W=W, v=v)

    def onward(self, step_sizes: np.ndarray) -> Snapshot:
        """The networks after some further steps of plain full-batch descent, in float64; the run itself does not move.

        Parameters
        ----------
        step_sizes : float array [step]
        """
        probe = networks(self.W, self.v, self.X, self.y if self.X.ndim == 3 else self.y[0], self.loss, "float64")
        probe.advance(0, step_sizes)
        moved = self.with_weights(*probe.weights())
        return replace(moved, step=self.step + len(step_sizes), time=self.time + float(np.sum(step_sizes)))

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
        return losses_of(self.outputs, self.y, self.loss)

    @cached_property
    def norms(self) -> np.ndarray:
        """|w| [network, neuron]."""
        return norms_of(self.W)

    @cached_property
    def drift_norms(self) -> np.ndarray:
        """|D| [network, neuron]; 0 for a dead neuron."""
        return norms_of(self.drift)

    @cached_property
    def norm_product(self) -> np.ndarray:
        """a = |v||w| [network, neuron]."""
        return self.norms * np.abs(self.v)

    @cached_property
    def cosine(self) -> np.ndarray:
        """cos δ = sign(v) w.D/(|w||D|) [network, neuron]; NaN for a dead neuron."""
        return cosines_of(self.W, self.v, self.drift)

    @cached_property
    def active(self) -> np.ndarray:
        """Whether a neuron is on at any sample [network, neuron]."""
        return self._evaluated[2]

    @cached_property
    def preactivations(self) -> np.ndarray:
        """w.x [network, neuron, sample]."""
        return products_of(self.W, self.X if self.X.ndim == 3 else self.X[None])

    @cached_property
    def usable(self) -> np.ndarray:
        """Which neurons take part in the function: on at some sample, a > 0, in a finite network [network, neuron]."""
        return self.active & (self.norm_product > 0) & np.isfinite(self.norm_product).all(axis=1, keepdims=True)

    @cached_property
    def trees(self) -> list[np.ndarray]:
        """The linkage of the usable neurons of each network: see `tree_of`."""
        return [tree_of(*network) for network in zip(self.W, self.v, self.usable)]

    @cached_property
    def clusters(self) -> np.ndarray:
        """Numbers of clusters, from 1 on, in order of falling norm held; 0: dead; -1: not finite [network, neuron]."""
        return np.stack([clusters_of(*network) for network in zip(self.trees, self.norm_product, self.usable)])
