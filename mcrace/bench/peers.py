"""Peers: the same training of many networks, as a competent user of each library would write it.

All descend on the mean over the samples of (f - y)²/2 with both layers trained and the samples shared by all networks,
in the dtype of the weights.  Every product with the samples is one GEMM for all neurons of all networks.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

Weights = tuple[np.ndarray, np.ndarray]


class Peer:
    """Many networks in training.

    Parameters
    ----------
    W : array [network, neuron, input]
    v : array [network, neuron]
    X : array [sample, input]
    y : array [sample]
    eta : float
        Step size.
    """

    library: ClassVar[str]
    module: ClassVar[str]  # what has to be installed
    on_gram_matrix: ClassVar[bool] = False

    def __init__(self, W: np.ndarray, v: np.ndarray, X: np.ndarray, y: np.ndarray, eta: float) -> None:
        raise NotImplementedError

    def run(self, steps: int) -> None:
        """Take steps; returns when they are done."""
        raise NotImplementedError

    def weights(self) -> Weights:
        """W [network, neuron, input] and v [network, neuron], float64, as they stand."""
        raise NotImplementedError


def _few_inputs(inputs: int, samples: int) -> bool:
    """Whether the slope of v is cheaper as w.D, a sum over inputs, than as a.r, a sum over samples."""
    return 2 * inputs < samples


class NumpyBatched(Peer):
    """One computation for all networks, in place, in arrays that are allocated once."""

    library = module = "numpy"

    def __init__(self, W, v, X, y, eta):
        self.W, self.v, self.X, self.y = W.copy(), v[:, :, None].copy(), X, y
        self.rate = W.dtype.type(eta / len(X))
        self.A, self.D = np.empty((*v.shape, len(X)), W.dtype), np.empty_like(W)
        self.gates, self.r = np.empty(self.A.shape, bool), np.empty((len(W), 1, len(X)), W.dtype)
        self.dv = np.empty_like(self.v)

    def run(self, steps):
        W, v, X, A, D, r, dv = self.W, self.v, self.X, self.A, self.D, self.r, self.dv
        all_W, all_A, all_D = (a.reshape(-1, a.shape[2]) for a in (W, A, D))
        few = _few_inputs(*X.shape[::-1])
        for _ in range(steps):
            np.matmul(all_W, X.T, out=all_A)
            np.maximum(A, 0, out=A)
            np.matmul(v.mT, A, out=r)
            np.subtract(self.y, r, out=r)
            r *= self.rate
            if not few:
                np.matmul(A, r.mT, out=dv)
            np.greater(A, 0, out=self.gates)
            np.copyto(A, self.gates)  # a product of floats and bools converts them slowly, in a buffer
            A *= r
            np.matmul(all_A, X, out=all_D)
            if few:
                np.einsum("nad,nad->na", W, D, out=dv[:, :, 0])
            D *= v
            W += D
            v += dv

    def weights(self):
        return self.W.astype(float), self.v[:, :, 0].astype(float)


class TorchBmm(Peer):
    """An ensemble by mm and bmm, with gradients by hand."""

    library, module = "torch bmm", "torch"

    def __init__(self, W, v, X, y, eta):
        import torch

        self.torch, self.rate = torch, eta / len(X)
        self.W, self.v, self.X, self.y = (torch.tensor(a) for a in (W, v[:, :, None], X, y * W.dtype.type(self.rate)))
        self.A, self.D = torch.empty((*v.shape, len(X)), dtype=self.W.dtype), torch.empty_like(self.W)

    def run(self, steps):
        with self.torch.inference_mode():
            self._run(steps)

    def _run(self, steps):
        torch, W, v, X, A, D = self.torch, self.W, self.v, self.X, self.A, self.D
        all_W, all_A, all_D = (a.view(-1, a.shape[2]) for a in (W, A, D))
        few = _few_inputs(*X.shape[::-1])
        for _ in range(steps):
            torch.mm(all_W, X.T, out=all_A)
            A.relu_()
            r = torch.baddbmm(self.y, v.mT, A, alpha=-self.rate)
            dv = None if few else torch.bmm(A, r.mT)
            A.sign_().mul_(r)  # `where` is several times slower
            torch.mm(all_A, X, out=all_D)
            dv = torch.linalg.vecdot(W, D).unsqueeze(2) if few else dv
            W.addcmul_(v, D)
            v.add_(dv)

    def weights(self):
        return self.W.double().numpy(), self.v[:, :, 0].double().numpy()


class TorchFunc(Peer):
    """Gradients of one network by `torch.func`, mapped over all."""

    library, module = "torch.func", "torch"

    def __init__(self, W, v, X, y, eta):
        import torch

        self.W, self.v, X, y = (torch.tensor(a) for a in (W, v, X, y))
        self.eta = eta

        def loss(W, v):
            return ((v @ torch.relu(W @ X.T) - y) ** 2).mean() / 2

        self.slopes = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))

    def run(self, steps):
        for _ in range(steps):
            dW, dv = self.slopes(self.W, self.v)
            self.W.sub_(dW, alpha=self.eta)
            self.v.sub_(dv, alpha=self.eta)

    def weights(self):
        return self.W.double().numpy(), self.v.double().numpy()


class JaxPeer(Peer):
    """A compiled loop over `step`, which takes the state, the samples (or what stands for them), y and eta."""

    module = "jax"

    def __init__(self, W, v, X, y, eta):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax, self.np = jax, jax.numpy
        self.state = self.np.asarray(W), self.np.asarray(v)
        self.data = self.np.asarray(X), self.np.asarray(y), W.dtype.type(eta)
        self.loop = jax.jit(self._loop)

    def step(self, state: Any, X: Any, y: Any, eta: Any) -> Any:
        """The state after a step."""
        raise NotImplementedError

    def _loop(self, state, steps, data):
        return self.jax.lax.fori_loop(0, steps, lambda _, state: self.step(state, *data), state)

    def run(self, steps):
        self.state = self.jax.block_until_ready(self.loop(self.state, steps, self.data))

    def weights(self):
        W, v = (np.asarray(a, float) for a in self.state)
        return W, v


class JaxVmap(JaxPeer):
    """jit(vmap(grad)) of one network."""

    library = "jax vmap"

    def step(self, state, X, y, eta):
        def loss(weights):
            W, v = weights
            return self.np.mean((v @ self.jax.nn.relu(W @ X.T) - y) ** 2) / 2

        slopes = self.jax.vmap(self.jax.grad(loss))(state)
        return self.jax.tree.map(lambda weight, slope: weight - eta * slope, state, slopes)


class JaxGemms(JaxPeer):
    """Gradients by hand, as GEMMs."""

    library = "jax gemms"

    def step(self, state, X, y, eta):
        W, v = state
        A = self.np.maximum(W.reshape(-1, W.shape[2]) @ X.T, 0).reshape(*v.shape, -1)
        r = (y - self.np.einsum("na,nas->ns", v, A)) * (eta / len(y))
        G = self.np.where(A > 0, r[:, None], 0)
        D = (G.reshape(-1, len(y)) @ X).reshape(W.shape)
        few = _few_inputs(*X.shape[::-1])
        dv = self.np.einsum("nad,nad->na", W, D) if few else self.np.einsum("nas,ns->na", A, r)
        return W + v[:, :, None] * D, v + dv


class JaxGram(JaxPeer):
    """Gradients by hand on the Gram matrix K = X Xᵀ: W is W_0 + C X and H is H_0 + C K, so one GEMM a step.

    H by its definition is as fast as H brought up to date step by step, and is not rounded apart from C.
    """

    library, on_gram_matrix = "jax gram", True

    def __init__(self, W, v, X, y, eta):
        super().__init__(W, v, X, y, eta)
        self.W, self.X = self.state[0], self.data[0]
        H = self.W @ self.X.T
        self.state, self.data = (self.np.zeros_like(H), self.state[1]), ((self.X @ self.X.T, H), *self.data[1:])

    def step(self, state, X, y, eta):
        (C, v), (K, H) = state, X
        A = self.np.maximum(H + (C.reshape(-1, len(y)) @ K).reshape(C.shape), 0)
        r = (y - self.np.einsum("na,nas->ns", v, A)) * (eta / len(y))
        G = self.np.where(A > 0, v[:, :, None] * r[:, None], 0)
        return C + G, v + self.np.einsum("nas,ns->na", A, r)

    def weights(self):
        C, v = self.state
        return np.asarray(self.W + C @ self.X, float), np.asarray(v, float)


PEERS: tuple[type[Peer], ...] = (NumpyBatched, TorchBmm, TorchFunc, JaxVmap, JaxGemms, JaxGram)


def installed() -> list[type[Peer]]:
    """The peers whose library is there."""
    return [peer for peer in PEERS if find_spec(peer.module)]
