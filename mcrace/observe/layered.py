"""Networks of any depth, with biases, residual connections, normalisation, or several outputs, at one moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mcrace.initial import layers_of
from mcrace.kernels import Evaluation, LayeredSamples, Layers, Weights
from mcrace.observe.snapshot import Moment, Origin
from mcrace.seeds import SHARED, Stream
from mcrace.tasks.roughness import roughness_of

if TYPE_CHECKING:
    from mcrace.sections import Config


def sample_roughness(config: Config, entropy: int, seeds: np.ndarray, X: np.ndarray) -> np.ndarray | None:
    """E of each sample, as the networks of a configuration are given it: [network, sample], or [sample] where it is shared.

    None where they measure none on their inputs.  Shuffled ones are in an order from the stream (entropy, roughness, network).
    """
    norm = config.network.norm
    if norm is None or norm.roughness_of == "hidden":
        return None
    found = roughness_of(X, config.task.image(), norm.eps)
    if norm.roughness == "frozen":
        return np.broadcast_to(np.cumsum(found, axis=-1)[..., -1:] / found.shape[-1], found.shape)
    if norm.roughness == "shuffled":
        networks = [SHARED] if X.ndim == 2 else seeds.tolist()
        orders = np.stack([Stream(entropy, "roughness", k).permutation(found.shape[-1]) for k in networks])
        return np.take_along_axis(found, orders[0] if X.ndim == 2 else orders, axis=-1)
    return found


def layered_labels(config: Config, y: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    """What layered kernels learn, [(network,) sample, output]; where f - f(start) is to be y, f learns y + f(start)."""
    y = y[..., None] if config.task.outputs() == 1 else y
    return y if offset is None else y + offset


def starting_outputs(
    config: Config, weights: Weights, X: np.ndarray, y: np.ndarray, roughness: np.ndarray | None
) -> np.ndarray | None:
    """f [network, sample, output] of networks at their start, where it is to be subtracted."""
    if not config.network.init.subtract_start:
        return None
    samples = LayeredSamples(layers_of(config), X, layered_labels(config, y, None), config.task.loss, roughness)
    return samples.evaluate(weights, hidden=False, slopes=False).outputs


@dataclass(frozen=True)
class LayeredSnapshot(Moment):
    """A batch of layered networks at one moment.

    Attributes
    ----------
    arrays : tuple of float64 arrays [network, ...]
        In the order of `layers.names`.
    y : float64 array [network, sample(, output)]
    roughness : float64 array [(network,) sample], or None
        E of the input, where it is used.
    offset : float64 array [network, sample, output], or None
        f at the start, where it is subtracted.
    samples : `mcrace.kernels.LayeredSamples`
    layers : `mcrace.kernels.Layers`
    loss, origin, step, time : see `Snapshot`
    """

    arrays: Weights
    y: np.ndarray
    roughness: np.ndarray | None
    offset: np.ndarray | None
    samples: LayeredSamples
    layers: Layers
    loss: str
    origin: Origin
    step: np.ndarray
    time: np.ndarray

    @property
    def weights(self) -> Weights:
        return self.arrays

    def with_weights(self, *weights: np.ndarray) -> LayeredSnapshot:
        return replace(self, arrays=weights)

    def on(self, X: np.ndarray, y: np.ndarray) -> LayeredSnapshot:
        config, origin = self.origin.config, self.origin
        labels = y if X.ndim == 3 else np.broadcast_to(y, (len(self.step), *y.shape))
        roughness = self._roughness_on(X)
        offset = None if self.offset is None else starting_outputs(config, origin.start(), X, y, roughness)
        samples = LayeredSamples(self.layers, X, layered_labels(config, y, offset), self.loss, roughness)
        return replace(self, y=labels, roughness=roughness, offset=offset, samples=samples, origin=replace(origin, X=X))

    def _roughness_on(self, X: np.ndarray) -> np.ndarray | None:
        """E of other samples; where it is frozen, it stays at its mean over the samples of the training."""
        if self.roughness is None:
            return None
        norm = self.origin.config.network.norm
        if norm is not None and norm.roughness == "frozen":
            return np.repeat(self.roughness[..., :1], X.shape[-2], axis=-1)
        return sample_roughness(self.origin.config, self.origin.entropy, self.origin.seeds, X)

    @cached_property
    def _with_slopes(self) -> Evaluation:
        return self.samples.evaluate(self.weights)

    @cached_property
    def evaluated(self) -> Evaluation:
        """Outputs, activations and gates of each hidden layer; without slopes where nobody has asked for these."""
        return self.__dict__.get("_with_slopes") or self.samples.evaluate(self.weights, slopes=False)

    @cached_property
    def outputs(self) -> np.ndarray:
        """f, or f - f(start), of the shape of y."""
        f = self.evaluated.outputs
        f = f if self.offset is None else f - self.offset
        return f[:, :, 0] if self.y.ndim == 2 else f

    @property
    def slopes(self) -> Weights:
        """-∂L/∂weights, as the weights."""
        found = self._with_slopes.slopes
        assert found is not None
        return found

    @property
    def uncertainties(self) -> list[np.ndarray]:
        return self.evaluated.uncertainties

    def normalised_by(self, kind: str) -> LayeredSnapshot:
        norm = self.layers.norm
        if norm is None:
            return super().normalised_by(kind)
        layers = replace(self.layers, norm=replace(norm, kind=kind))
        return replace(self, layers=layers, samples=self.samples.of(layers))

    @property
    def movable(self) -> np.ndarray:
        """Whether any slope is not 0 [network]."""
        return np.any([(a != 0).reshape(len(a), -1).any(axis=1) for a in self.slopes], axis=0)

    @cached_property
    def active(self) -> np.ndarray:
        """Whether a neuron is on at any sample [network, layer, neuron]; never, beyond the width of a layer."""
        hidden = self.layers.hidden
        out = np.zeros((len(self.step), len(hidden), max(hidden)), bool)
        for l, gates in enumerate(self.evaluated.gates):
            out[:, l, : hidden[l]] = gates.any(axis=2)
        return out


def as_layered(state: Moment) -> LayeredSnapshot:
    """The same networks as layers, once for all who ask."""
    if isinstance(state, LayeredSnapshot):
        return state
    if "_as_layered" not in vars(state):
        W, v = state.weights
        layers = Layers(W.shape[2], (W.shape[1],))
        y = state.y if state.X.ndim == 3 else state.y[0]
        samples = LayeredSamples(layers, state.X, y[..., None], state.loss)
        vars(state)["_as_layered"] = LayeredSnapshot((W, v[:, None, :]), state.y, None, None, samples, layers, state.loss,
                                                     state.origin, state.step, state.time)
    return vars(state)["_as_layered"]
