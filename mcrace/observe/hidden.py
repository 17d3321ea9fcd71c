"""Hidden layers neuron by neuron: what goes into a neuron, what comes out of it, and how both move; plain arrays only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcrace.compiled import compiled

GOLDEN = (5**0.5 - 1) / 2
MOST_ITERATIONS, CONVERGED = 20_000, 1e-13  # of the power iteration, and what a step of it may still add


@compiled
def _row_products(A, B):
    """Inner products of rows [network, row], one by one."""
    out = np.empty(A.shape[:2])
    for i in range(A.shape[0]):
        for a in range(A.shape[1]):
            total = 0.0
            for k in range(A.shape[2]):
                total += A[i, a, k] * B[i, a, k]
            out[i, a] = total
    return out


@compiled
def top_direction(W):
    """|W|_2² and its right singular vector, by power iteration on WᵀW of W [row, column] from a vector without symmetry.

    It ends where a step adds a share of 1e-13 to |W|_2² or less; where the two largest singular values are that close, the
    vector is some direction between theirs.
    """
    rows, columns = W.shape
    q, start = np.empty(columns), 0.0
    for k in range(columns):
        q[k] = 1 + (k * GOLDEN) % 1
        start += q[k] * q[k]
    q /= np.sqrt(start)
    square, new = 0.0, np.empty(columns)
    for _ in range(MOST_ITERATIONS):
        new[:] = 0.0
        found = 0.0
        for a in range(rows):
            along = 0.0
            for k in range(columns):
                along += W[a, k] * q[k]
            found += along * along
            for k in range(columns):
                new[k] += along * W[a, k]
        length = 0.0
        for k in range(columns):
            length += new[k] * new[k]
        for k in range(columns):
            q[k] = new[k] / np.sqrt(length)
        if not length > 0:  # W is 0, or not finite
            return found, q
        if found - square <= CONVERGED * found:
            return found, q
        square = found
    return square, q


@compiled
def stable_ranks(W):
    """|W|_F²/|W|_2² of each W [network, row, column] (THEORY.md, depth-transfer)."""
    out = np.empty(len(W))
    for i in range(len(W)):
        total = 0.0
        for a in range(W.shape[1]):
            for k in range(W.shape[2]):
                total += W[i, a, k] * W[i, a, k]
        out[i] = total / top_direction(W[i])[0]
    return out


@dataclass(frozen=True)
class Hidden:
    """The neurons of one hidden layer of many networks.

    Attributes
    ----------
    w_in : float64 array [network, neuron, input]
        Incoming weights, with the bias last where there is one.
    w_out : float64 array [network, neuron, output]
        Outgoing weights.
    d_in, d_out : float64 arrays of the same shapes
        w_in' and w_out', minus the gradients of the loss.
    """

    w_in: np.ndarray
    w_out: np.ndarray
    d_in: np.ndarray
    d_out: np.ndarray

    @cached_property
    def squares_in(self) -> np.ndarray:
        """|w_in|² [network, neuron]."""
        return _row_products(self.w_in, self.w_in)

    @cached_property
    def squares_out(self) -> np.ndarray:
        """|w_out|² [network, neuron]."""
        return _row_products(self.w_out, self.w_out)

    @cached_property
    def along_in(self) -> np.ndarray:
        """w_in·w_in' [network, neuron]."""
        return _row_products(self.w_in, self.d_in)

    @cached_property
    def along_out(self) -> np.ndarray:
        """w_out·w_out' [network, neuron]."""
        return _row_products(self.w_out, self.d_out)

    @cached_property
    def speeds_in(self) -> np.ndarray:
        """|w_in'| [network, neuron]."""
        return np.sqrt(_row_products(self.d_in, self.d_in))

    @cached_property
    def speeds_out(self) -> np.ndarray:
        """|w_out'| [network, neuron]."""
        return np.sqrt(_row_products(self.d_out, self.d_out))

    @property
    def norm_product(self) -> np.ndarray:
        """a = |w_in||w_out| [network, neuron]."""
        return np.sqrt(self.squares_in) * np.sqrt(self.squares_out)

    @property
    def score(self) -> np.ndarray:
        """cos∠(w_in, w_in') [network, neuron]; NaN where w_in does not move."""
        with np.errstate(invalid="ignore"):
            return self.along_in / (np.sqrt(self.squares_in) * self.speeds_in)

    @property
    def balancedness(self) -> np.ndarray:
        """|w_in|² - |w_out|² [network, neuron]."""
        return self.squares_in - self.squares_out

    @property
    def growth(self) -> np.ndarray:
        """d log a/dt, from how both weights move [network, neuron]."""
        return self.along_in / self.squares_in + self.along_out / self.squares_out

    def growth_law(self, shift: int = 0) -> np.ndarray:
        """(w_in·w_in')(1/|w_in|² + 1/|w_out|²), what d log a/dt should be (THEORY.md, depth-transfer) [network, neuron].

        `shift`: with the outgoing weights of the neuron so many places on.
        """
        return self.along_in * (1 / self.squares_in + 1 / np.roll(self.squares_out, -shift, axis=1))

    def growth_error(self, shift: int = 0) -> np.ndarray:
        """|d log a/dt - law| over |w_in'|/|w_in| + |w_out'|/|w_out|, which it can be at most; 0 where nothing moves."""
        fastest = self.speeds_in / np.sqrt(self.squares_in) + self.speeds_out / np.sqrt(self.squares_out)
        return np.abs(self.growth - self.growth_law(shift)) / np.where(fastest == 0, 1.0, fastest)

    def imbalance(self, shift: int = 0) -> np.ndarray:
        """|w_in·w_in' - w_out·w_out'| over the larger of |w_in||w_in'| and |w_out||w_out'|; 0 where nothing moves.

        Half the rate at which |w_in|² - |w_out|² changes under the flow.  `shift`: with the outgoing weights of the neuron
        so many places on.
        """
        out, square, speed = (np.roll(x, -shift, axis=1) for x in (self.along_out, self.squares_out, self.speeds_out))
        size = np.maximum(np.sqrt(self.squares_in) * self.speeds_in, np.sqrt(square) * speed)
        return np.abs(self.along_in - out) / np.where(size == 0, 1.0, size)

    @property
    def clock_rates(self) -> np.ndarray:
        """|w_in'|/|w_out|, by which a neuron's clock goes [network, neuron]."""
        return self.speeds_in / np.sqrt(self.squares_out)


def hidden_layers(
    matrices: Sequence[np.ndarray], biases: Sequence[np.ndarray], rates: Sequence[np.ndarray], bias_rates: Sequence[np.ndarray]
) -> list[Hidden]:
    """The hidden layers of networks of weights W_1, ..., W_H, V [network, unit, input].

    Parameters
    ----------
    matrices, rates : sequences of arrays [network, unit, input]
        Weights from the first hidden layer to the outputs, and minus the gradients of the loss.
    biases, bias_rates : sequences of arrays [network, unit]
        The same of the biases; empty where there are none.
    """
    def into(W: Sequence[np.ndarray], b: Sequence[np.ndarray], l: int) -> np.ndarray:
        return np.concatenate([W[l], b[l][:, :, None]], axis=2) if b else np.ascontiguousarray(W[l])

    def out_of(W: Sequence[np.ndarray], l: int) -> np.ndarray:
        return np.ascontiguousarray(W[l + 1].swapaxes(1, 2))

    return [Hidden(into(matrices, biases, l), out_of(matrices, l), into(rates, bias_rates, l), out_of(rates, l))
            for l in range(len(matrices) - 1)]


def stacked(layers: Iterable[np.ndarray], widest: int) -> np.ndarray:
    """Numbers of neurons [network, neuron] of each layer as one array [network, layer, neuron], NaN beyond its width."""
    found = list(layers)
    out = np.full((len(found[0]), len(found), widest), np.nan)
    for l, values in enumerate(found):
        out[:, l, : values.shape[1]] = values
    return out
