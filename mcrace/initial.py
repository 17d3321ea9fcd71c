"""Weights and velocities at the start: functions of the configuration, the entropy and the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

import numpy as np

from mcrace.kernels import Layers, Norm, Weights
from mcrace.sections import Config, Direction
from mcrace.seeds import SHARED, Stream, directional_cosines, normals_of


def layers_of(config: Config) -> Layers:
    """The architecture of the networks of a configuration, as layered kernels take it."""
    network, norm = config.network, config.network.norm
    made = None if norm is None else Norm(norm.kind, norm.roughness_of, norm.alpha, norm.eps, norm.trained)
    return Layers(config.task.inputs(), network.hidden, config.task.outputs(), network.bias, network.residual, made)


def parameters_of(config: Config) -> dict[str, dict[str, int]]:
    """The arrays that make up a network, by name and in order: the sizes of their dimensions by name.

    One hidden layer and one output have W and v; any other network what `mcrace.kernels.Layers` names.
    """
    if not config.layered:
        m = config.network.hidden[0]
        return {"W": {"neuron": m, "input": config.task.inputs()}, "v": {"neuron": m}}
    layers = layers_of(config)
    of_layer = [f"neuron{k}" for k in range(1, len(layers.hidden) + 1)]
    dims: list[tuple[str, ...]] = [(above, below) for below, above in pairwise(("input", *of_layer, "output"))]
    dims += [(one,) for one in (*of_layer, "output")] if layers.bias else []
    dims += [of_norm for one in of_layer for of_norm in ((one,), (one,), ())] if layers.norm else []
    return {name: dict(zip(d, shape, strict=True)) for name, d, shape in zip(layers.names, dims, layers.shapes, strict=True)}


def initial_weights(config: Config, entropy: int, seeds: np.ndarray) -> Weights:
    """The weights at the start, arrays [network, ...] as `parameters_of` orders them, from the stream (entropy, init, network).

    w ~ scale N(0, I/d), or of the norm `scale` where norms are equal; directions are uniform or von Mises-Fisher.
    Balanced: v = ±|w|, or at a ratio |w|/|v| with the same product; otherwise v ~ scale N(0, 1).  Numbers are taken neuron
    by neuron, so a wider network of one hidden layer extends a narrower one.

    Deeper layers are drawn like the first, d being the size of the layer below; v is of the last.  Several outputs have v in
    uniform directions, with the same |v|.  Biases and β start at 0, γ at 1, λ at its `strength`.
    """
    W, v = _first_and_last(config, entropy, seeds)
    if not config.layered:
        return W[0], v[:, :, 0]
    layers, norm = layers_of(config), config.network.norm
    start = {"gain": 1.0, "strength": norm.strength if norm else 0.0}
    rest = [np.full((len(seeds), *shape), start.get(name.rstrip("0123456789"), 0.0))
            for name, shape in zip(layers.names, layers.shapes)][len(W) + 1 :]
    return *W, np.ascontiguousarray(v.swapaxes(1, 2)), *rest


def _first_and_last(config: Config, entropy: int, seeds: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The weights of every hidden layer [network, neuron, input], and v [network, neuron, output] of the last."""
    init, hidden, outputs = config.network.init, config.network.hidden, config.task.outputs()
    drawn = hidden[0] // 2 if init.paired else hidden[0]
    shapes = [(m, below + 1) for m, below in zip((drawn, *hidden[1:]), (config.task.inputs(), *hidden))]
    more = (shapes[-1][0], outputs) if outputs > 1 else (0,)
    *layers, directions = _cut(normals_of(entropy, "init", seeds, sum(map(prod, (*shapes, more)))), (*shapes, more))
    W = [init.scale * numbers[:, :, :-1] / np.sqrt(numbers.shape[2] - 1) for numbers in layers]
    if init.direction is not None:
        W[0] = _turned(W[0], init.direction, entropy, seeds)
    if init.norms == "equal":
        W = [w * (init.scale / _norms(w))[:, :, None] for w in W]
    v = directions / _norms(directions)[:, :, None] if outputs > 1 else np.where(layers[-1][:, :, -1:] > 0, 1.0, -1.0)
    if init.balanced:
        norm, root = _norms(W[-1]), np.sqrt(init.ratio)
        W[-1], v = W[-1] * root, v * norm[:, :, None] / root
    else:
        v = init.scale * (directions if outputs > 1 else layers[-1][:, :, -1:])
    if init.paired:
        W, v = [np.repeat(W[0], 2, axis=1)], np.stack([v, -v], axis=2).reshape(len(seeds), -1, outputs)
    return W, v


def _cut(numbers: np.ndarray, shapes: tuple[tuple[int, ...], ...]) -> Iterator[np.ndarray]:
    first = 0
    for shape in shapes:
        yield numbers[:, first : first + prod(shape)].reshape(len(numbers), *shape)
        first += prod(shape)


def _norms(W: np.ndarray) -> np.ndarray:
    return np.sqrt(np.cumsum(W * W, axis=2)[:, :, -1])


def _turned(W: np.ndarray, direction: Direction, entropy: int, seeds: np.ndarray) -> np.ndarray:
    """Weights of the same norms in von Mises-Fisher directions; those given say which way they lean from the axis."""
    inputs = W.shape[2]
    axis = np.zeros(inputs)
    if direction.axis == "random":
        axis = Stream(entropy, "directions", SHARED).normals(inputs)
        axis /= np.sqrt(np.cumsum(axis * axis)[-1])
    else:
        axis[direction.axis] = 1.0
    cosine = directional_cosines(entropy, seeds, W.shape[1], inputs, direction.kappa)
    aside = W - np.cumsum(W * axis, axis=2)[:, :, -1:] * axis
    aside /= _norms(aside)[:, :, None]
    return _norms(W)[:, :, None] * (cosine[:, :, None] * axis + np.sqrt(1 - cosine**2)[:, :, None] * aside)


def initial_velocities(config: Config, entropy: int, seeds: np.ndarray) -> Weights:
    """Velocities of the weights in units of a step, from the stream (entropy, velocity, network); empty for plain descent.

    Those of weights are drawn like unbalanced weights, in the time sqrt(step_size) a step; all others are 0.
    """
    training = config.training
    shapes = [tuple(sizes.values()) for sizes in parameters_of(config).values()]
    if training.kept_velocity == 0 and training.weight_decay == 0:
        return tuple(np.empty((0, *shape)) for shape in shapes)
    scale = training.initial_velocity * np.sqrt(training.step_size)
    if scale == 0:
        return tuple(np.zeros((len(seeds), *shape)) for shape in shapes)
    if not config.layered:
        neurons, inputs = shapes[0]
        drawn = normals_of(entropy, "velocity", seeds, neurons, inputs + 1)
        return scale * drawn[:, :, :inputs] / np.sqrt(inputs), scale * drawn[:, :, inputs]
    matrices = tuple(shape for shape in shapes if len(shape) == 2)
    parts = _cut(normals_of(entropy, "velocity", seeds, sum(map(prod, matrices))), matrices)
    moving = tuple(scale * numbers / np.sqrt(numbers.shape[2]) for numbers in parts)
    return *moving, *(np.zeros((len(seeds), *shape)) for shape in shapes[len(matrices) :])
