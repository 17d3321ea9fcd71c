"""A batch of networks at one moment: all that an observable can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from mcrace.compiled import compiled
from mcrace.dynamics import dynamics_of, population_of
from mcrace.kernels import PopulationSamples, Samples, networks, samples
from mcrace.kernels.architecture import NORMS
from mcrace.kernels.losses import losses_of, mean_losses_of, summed
from mcrace.observe.clusters import clusters_of, trees_of
from mcrace.observe.products import products_of
from mcrace.seeds import SHARED, Stream
from mcrace.tasks.corruption import CONDITIONS, Condition

if TYPE_CHECKING:
    from mcrace.sections import Config

NORMALISATIONS = tuple(NORMS)


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


def residuals_of(f: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    """r = -dl/df of each sample, for outputs and labels [..., sample]."""
    return y - f if loss == "mse" else y / (1 + np.exp(y * f))


def shuffled_labels(y: np.ndarray, entropy: int, seeds: np.ndarray, shared: bool) -> np.ndarray:
    """Labels [network, sample(, output)], or [sample(, output)] where they are shared, shuffled by the stream (entropy,
    labels, network).
    """
    if shared:
        return y[Stream(entropy, "labels", SHARED).permutation(len(y))]
    return np.stack([labels[Stream(entropy, "labels", int(seed)).permutation(len(labels))] for labels, seed in zip(y, seeds)])


@dataclass(frozen=True)
class Origin:
    """Where networks come from: what a snapshot needs to know of them beyond their weights.

    Attributes
    ----------
    config : `mcrace.sections.Config`
    entropy : int
    seeds : int64 array [network]
    X : float64 array [network, sample, input], or [sample, input] where they are shared
    start : callable returning the weights at the start
    test : callable returning test samples X and labels y, as those of the task; or, given one, under a `Condition`
    """

    config: Config
    entropy: int
    seeds: np.ndarray
    X: np.ndarray
    start: Callable[[], tuple[np.ndarray, ...]]
    test: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None


class Moment:
    """What a batch of networks of any kind has at one moment; see `Snapshot` and `LayeredSnapshot`."""

    y: np.ndarray
    loss: str
    origin: Origin
    step: np.ndarray
    time: np.ndarray

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """The weights, arrays [network, ...] as `mcrace.initial.parameters_of` orders them."""
        raise NotImplementedError

    @property
    def outputs(self) -> np.ndarray:
        """f, of the shape of y."""
        raise NotImplementedError

    @property
    def slopes(self) -> tuple[np.ndarray, ...]:
        """-∂L/∂weights, as the weights."""
        raise NotImplementedError

    @property
    def uncertainties(self) -> list[np.ndarray]:
        """1/σ_eff² of each normalised layer [network, sample]."""
        return []

    def normalised_by(self, kind: str) -> Self:
        """The same weights behind another normalisation, by its `network.norm.kind`."""
        raise TypeError("these networks are not normalised")

    @property
    def movable(self) -> np.ndarray:
        """Whether there is anything that can move [network]."""
        raise NotImplementedError

    def with_weights(self, *weights: np.ndarray) -> Self:
        """Other networks on the same data at the same moment."""
        raise NotImplementedError

    def on(self, X: np.ndarray, y: np.ndarray) -> Self:
        """The same networks on other samples, labels [network, sample(, output)] or without the network where shared."""
        raise NotImplementedError

    @property
    def X(self) -> np.ndarray:
        """Samples [network, sample, input], or [sample, input] where they are shared."""
        return self.origin.X

    @cached_property
    def start(self) -> Self:
        """The same networks before their first step."""
        zero = np.zeros_like(self.step)
        return replace(self.with_weights(*self.origin.start()), step=zero, time=zero.astype(float))  # type: ignore[type-var]

    @cached_property
    def test(self) -> Self:
        """The same networks on their test samples."""
        return self._tested()

    def under(self, condition: Condition) -> Self:
        """The same networks on their test samples under a condition."""
        return self._tested(condition)

    def _tested(self, *condition: Condition) -> Self:
        if self.origin.test is None:
            raise TypeError("networks without a task have no test samples")
        return self.on(*self.origin.test(*condition))

    @cached_property
    def corrupted_outputs(self) -> np.ndarray:
        """f on the test samples under each of `CONDITIONS` [network, corruption, severity, sample]."""
        return self.under_each(lambda state: state.outputs)

    @cached_property
    def corrupted_uncertainties(self) -> np.ndarray:
        """1/σ_eff² of the first hidden layer under each of `CONDITIONS` [network, corruption, severity, sample]."""
        return self.under_each(lambda state: state.uncertainties[0])

    @cached_property
    def swapped_outputs(self) -> np.ndarray:
        """f behind each of `NORMALISATIONS` as well [network, corruption, severity, normalisation, sample(, output)]."""
        return self.under_each(lambda state: np.stack([state.normalised_by(kind).outputs for kind in NORMALISATIONS], axis=1))

    def under_each(self, measure: Callable[[Self], np.ndarray]) -> np.ndarray:
        """What a measure [network, ...] gives under each of `CONDITIONS`: array [network, corruption, severity, ...]."""
        return np.stack([np.stack([measure(self.under(c)) for c in row], axis=1) for row in CONDITIONS], axis=1)

    @cached_property
    def shuffled_labels(self) -> np.ndarray:
        """The shuffled labels, of the shape of y."""
        shared = self.X.ndim == 2
        y = shuffled_labels(self.y[0] if shared else self.y, self.origin.entropy, self.origin.seeds, shared)
        return np.broadcast_to(y, self.y.shape)

    @cached_property
    def losses(self) -> np.ndarray:
        """The loss of each sample, the sum over outputs [network, sample]."""
        return summed(losses_of(self.outputs, self.y, self.loss))

    @property
    def mean_loss(self) -> np.ndarray:
        """L [network]."""
        return mean_losses_of(self.outputs, self.y, self.loss)

    @property
    def zero_loss(self) -> np.ndarray:
        """L_0, the loss of the output 0 [network]."""
        return mean_losses_of(np.zeros(self.y.shape), self.y, self.loss)


@dataclass(frozen=True)
class Snapshot(Moment):
    """A batch of networks of one hidden layer and one output at one moment.

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
    def weights(self) -> tuple[np.ndarray, ...]:
        """The weights W and v of the two layers."""
        return self.W, self.v

    def with_weights(self, *weights: np.ndarray) -> Snapshot:
        W, v = weights
        return replace(self, W=W, v=v)

    def on(self, X: np.ndarray, y: np.ndarray) -> Snapshot:
        labels = y if y.ndim == 2 else np.broadcast_to(y, (len(self.W), len(y)))
        return replace(self, y=labels, samples=self._samples(X, y), origin=replace(self.origin, X=X))

    @cached_property
    def shuffled(self) -> Samples:
        """The samples with shuffled labels."""
        return self._samples(self.X, self.shuffled_labels if self.X.ndim == 3 else self.shuffled_labels[0])

    def _samples(self, X: np.ndarray, y: np.ndarray) -> Samples:
        return samples(X, y, self.loss, dynamics_of(self.origin.config))

    @property
    def mean_loss(self) -> np.ndarray:
        """L [network], of the population where networks learn from it."""
        if isinstance(self.samples, PopulationSamples):
            return self.samples.mean_loss(self.W, self.v)
        return super().mean_loss

    @property
    def zero_loss(self) -> np.ndarray:
        """L_0, the loss of the output 0 [network]."""
        if isinstance(self.samples, PopulationSamples):
            return self.samples.mean_loss(np.zeros(self.W.shape), np.zeros(self.v.shape))
        return super().zero_loss

    def onward(self, step_sizes: np.ndarray) -> Snapshot:
        """The networks after some further steps of plain full-batch descent, in float64; the run itself does not move.

        Parameters
        ----------
        step_sizes : float array [step]
        """
        origin = self.origin
        dynamics = replace(dynamics_of(origin.config), method="descent")
        probe = networks(self.W, self.v, self.X, self.y if self.X.ndim == 3 else self.y[0], self.loss, "float64",
                         dynamics=dynamics, population=population_of(origin.config, origin.entropy, origin.seeds))
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
    def slopes(self) -> tuple[np.ndarray, ...]:
        """-∂L/∂W = v D and -∂L/∂v = w.D."""
        along = np.cumsum(self.W * self.drift, axis=2)[:, :, -1]
        return self.v[:, :, None] * self.drift, along

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

    @property
    def movable(self) -> np.ndarray:
        """Whether any neuron is on at some sample [network]."""
        return np.asarray(self.active.any(axis=1))

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
        """The linkage of the usable neurons of each network: see `trees_of`."""
        return trees_of(self.W, self.v, self.usable)

    @cached_property
    def clusters(self) -> np.ndarray:
        """Numbers of clusters, from 1 on, in order of falling norm held; 0: dead; -1: not finite [network, neuron]."""
        return clusters_of(self.trees, self.norm_product, self.usable)
