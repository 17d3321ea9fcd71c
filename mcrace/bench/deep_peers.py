"""Peers that train layered networks: several plain hidden layers, or one or more with LayerNorm over their units.

All descend on the mean over the samples of (f - y)²/2, all matrices W_1, ..., V and, where there is LayerNorm, gains and
shifts trained, the samples shared by all networks.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

EPS = 1e-5
Arrays = list[np.ndarray]


class DeepPeer:
    """Many layered networks in training.

    Parameters
    ----------
    weights : list of arrays [network, unit, input]
        W_1, ..., V; with LayerNorm then gains [network, unit] and shifts [network, unit] of each hidden layer.
    hidden : int
        Hidden layers.
    X : array [sample, input]
    y : array [sample]
    eta : float
        Step size.
    """

    library: ClassVar[str]
    module: ClassVar[str]

    def __init__(self, weights: Arrays, hidden: int, X: np.ndarray, y: np.ndarray, eta: float) -> None:
        raise NotImplementedError

    def run(self, steps: int) -> None:
        """Take steps; returns when they are done."""
        raise NotImplementedError

    def weights(self) -> Arrays:
        """The weights, float64, as they stand."""
        raise NotImplementedError


def outputs(np: Any, weights: Any, hidden: int, X: Any) -> Any:
    """f [sample] of one network, by the functions of a library."""
    x, normalised = X.T, len(weights) > hidden + 1
    for l in range(hidden):
        h = weights[l] @ x
        if normalised:
            h = h - h.mean(0)
            gain, shift = weights[hidden + 1 + 2 * l], weights[hidden + 2 + 2 * l]
            h = gain[:, None] * h / np.sqrt((h * h).mean(0) + EPS) + shift[:, None]
        x = np.maximum(h, 0 * h)
    return (weights[hidden] @ x)[0]


class _ByHand(DeepPeer):
    """Forward and backward by batched products, written out; NumPy and PyTorch differ in a few names only."""

    state: Any
    hidden: int
    X: Any
    y: Any
    eta: float

    def relu(self, h: Any) -> Any:
        """In place where nothing else needs h."""
        raise NotImplementedError

    def _steps(self, xp: Any, steps: int) -> None:
        weights, hidden, rate = self.state, self.hidden, self.eta / len(self.X)
        normalised = len(weights) > hidden + 1
        for _ in range(steps):
            layers, units, scales = [self.X.T], [], []
            for l in range(hidden):
                h = weights[l] @ layers[-1]
                if normalised:
                    h -= h.mean(1)[:, None]
                    scales.append(1 / xp.sqrt((h * h).mean(1) + EPS)[:, None])
                    h *= scales[-1]
                    units.append(h)
                    h = weights[hidden + 1 + 2 * l][:, :, None] * h + weights[hidden + 2 + 2 * l][:, :, None]
                layers.append(self.relu(h))
            slope = (self.y - weights[hidden] @ layers[-1]) * rate
            for l in range(hidden, -1, -1):
                W, below = weights[l], layers[l]
                down = W.mT @ slope if l else None
                W += slope @ below.mT
                if down is None:
                    break
                down *= below > 0
                if normalised:
                    gain, shift, u = weights[hidden - 1 + 2 * l], weights[hidden + 2 * l], units[l - 1]
                    pulled = down * u
                    p = down * gain[:, :, None]
                    gain += pulled.sum(2)
                    shift += down.sum(2)
                    down = p - p.mean(1)[:, None] - u * (p * u).mean(1)[:, None]
                    down *= scales[l - 1]
                slope = down


class DeepNumpy(_ByHand):
    """One batched product for all networks."""

    library = module = "numpy"

    def __init__(self, weights, hidden, X, y, eta):
        self.state, self.hidden, self.X, self.y, self.eta = [w.copy() for w in weights], hidden, X, y, eta

    def relu(self, h):
        return np.maximum(h, 0, out=h) if len(self.state) == self.hidden + 1 else np.maximum(h, 0)

    def run(self, steps):
        self._steps(np, steps)

    def weights(self):
        return [w.astype(float) for w in self.state]


class DeepTorchBmm(_ByHand):
    """An ensemble by bmm, with gradients by hand."""

    library, module = "torch bmm", "torch"

    def __init__(self, weights, hidden, X, y, eta):
        import torch

        self.torch, self.hidden, self.eta = torch, hidden, eta
        self.state, (self.X, self.y) = [torch.tensor(w) for w in weights], (torch.tensor(a) for a in (X, y))

    def relu(self, h):
        return h.relu_()

    def run(self, steps):
        with self.torch.inference_mode():
            self._steps(self.torch, steps)

    def weights(self):
        return [w.double().numpy() for w in self.state]


class DeepTorchFunc(DeepPeer):
    """Gradients of one network by `torch.func`, mapped over all."""

    library, module = "torch.func", "torch"

    def __init__(self, weights, hidden, X, y, eta):
        import torch

        self.state, (X, y) = tuple(torch.tensor(w) for w in weights), (torch.tensor(a) for a in (X, y))
        self.eta = eta
        self.slopes = torch.func.vmap(torch.func.grad(lambda w: ((outputs(torch, w, hidden, X) - y) ** 2).mean() / 2))

    def run(self, steps):
        for _ in range(steps):
            for weight, slope in zip(self.state, self.slopes(self.state)):
                weight.sub_(slope, alpha=self.eta)

    def weights(self):
        return [w.double().numpy() for w in self.state]


class DeepJaxVmap(DeepPeer):
    """jit(vmap(grad)) of one network, in a compiled loop; products for all networks are batched by XLA."""

    library, module = "jax vmap", "jax"

    def __init__(self, weights, hidden, X, y, eta):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax, xp = jax, jax.numpy
        self.state, self.data = [xp.asarray(w) for w in weights], (xp.asarray(X), xp.asarray(y), weights[0].dtype.type(eta))

        def loss(state, X, y):
            return xp.mean((outputs(xp, state, hidden, X) - y) ** 2) / 2

        def step(state, X, y, eta):
            slopes = jax.vmap(jax.grad(loss), (0, None, None))(state, X, y)
            return jax.tree.map(lambda weight, slope: weight - eta * slope, state, slopes)

        self.loop = jax.jit(lambda state, n, data: jax.lax.fori_loop(0, n, lambda _, s: step(s, *data), state))

    def run(self, steps):
        self.state = self.jax.block_until_ready(self.loop(self.state, steps, self.data))

    def weights(self):
        return [np.asarray(w, float) for w in self.state]


DEEP_PEERS: tuple[type[DeepPeer], ...] = (DeepNumpy, DeepTorchBmm, DeepTorchFunc, DeepJaxVmap)


def installed() -> list[type[DeepPeer]]:
    """The peers whose library is there."""
    return [peer for peer in DEEP_PEERS if find_spec(peer.module)]
