"""Weights and velocities at the start: functions of the configuration, the entropy and the seed alone."""

from __future__ import annotations

import numpy as np

from mcrace.seeds import SHARED, Stream, directional_cosines, normals_of
from mcrace.study import Config, Direction

Weights = tuple[np.ndarray, np.ndarray]


def initial_weights(config: Config, entropy: int, seeds: np.ndarray) -> Weights:
    """W [network, neuron, input] and v [network, neuron] at the start, from the stream (entropy, init, network).

    w ~ scale N(0, I/d), or of the norm `scale` where norms are equal; directions are uniform or von Mises-Fisher.
    Balanced: v = ±|w|, or at a ratio |w|/|v| with the same product; otherwise v ~ scale N(0, 1).  Numbers are taken neuron
    by neuron, so a wider network extends a narrower one.
    """
    init, neurons, inputs = config.network.init, config.network.hidden[0], config.task.inputs()
    drawn = neurons // 2 if init.paired else neurons
    numbers = normals_of(entropy, "init", seeds, drawn, inputs + 1)
    W, extra = init.scale * numbers[:, :, :inputs] / np.sqrt(inputs), numbers[:, :, inputs]
    if init.direction is not None:
        W = _turned(W, init.direction, entropy, seeds)
    if init.norms == "equal":
        W = W * (init.scale / _norms(W))[:, :, None]
    if init.balanced:
        norm, root = _norms(W), np.sqrt(init.ratio)
        W, v = W * root, np.where(extra > 0, norm, -norm) / root
    else:
        v = init.scale * extra
    if init.paired:
        W, v = np.repeat(W, 2, axis=1), np.stack([v, -v], axis=2).reshape(len(seeds), -1)
    return W, v


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


def initial_velocities(config: Config, entropy: int, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Velocities of W and v in units of a step, from the stream (entropy, velocity, network); empty for plain descent.

    w' and v' are drawn like unbalanced weights, in the time sqrt(step_size) a step.
    """
    training, neurons, inputs = config.training, config.network.hidden[0], config.task.inputs()
    if training.kept_velocity == 0 and training.weight_decay == 0:
        return np.empty((0, neurons, inputs)), np.empty((0, neurons))
    scale = training.initial_velocity * np.sqrt(training.step_size)
    if scale == 0:
        return np.zeros((len(seeds), neurons, inputs)), np.zeros((len(seeds), neurons))
    drawn = normals_of(entropy, "velocity", seeds, neurons, inputs + 1)
    return scale * drawn[:, :, :inputs] / np.sqrt(inputs), scale * drawn[:, :, inputs]
