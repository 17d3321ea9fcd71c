"""How normalised networks grow: the zero-sum race of incoming norms, and what the roughness E takes (THEORY.md,
normalised-growth)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import Carry, Path, observable, path
from mcrace.observe.calibration import separations
from mcrace.observe.layered import sample_roughness
from mcrace.observe.outputs import loss_of, zero_loss_of
from mcrace.observe.products import products_of
from mcrace.observe.snapshot import Moment, residuals_of
from mcrace.seeds import SHARED, Stream
from mcrace.tasks.corruption import CLEAN, Condition
from mcrace.tasks.roughness import roughness_of

if TYPE_CHECKING:
    from mcrace.sections import Norm

EARLY = 0.99  # of the loss of the zero output
NOISE = 0.5  # of the images whose roughness is compared with that of clean ones


@compiled
def _dots(A, B):
    """Inner product of each network's array with another's [network], and its size relative to |A||B|."""
    out, cosine = np.empty(len(A)), np.empty(len(A))
    for i in range(len(A)):
        ab, aa, bb = 0.0, 0.0, 0.0
        for k in range(A.shape[1]):
            ab += A[i, k] * B[i, k]
            aa += A[i, k] * A[i, k]
            bb += B[i, k] * B[i, k]
        out[i], cosine[i] = ab, ab / np.sqrt(aa * bb)
    return out, cosine


def _flat(A: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(A).reshape(len(A), -1)


def dots(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Sum of the products of entries of two arrays [network, ...], for each network."""
    return _dots(_flat(A), _flat(B))[0]


def _output_weights(state: Moment) -> np.ndarray:
    """v [network, output and neuron]."""
    return _flat(state.weights[len(state.origin.config.network.hidden)])


# ------------------------------------------------------------------------------------------------- incoming norms


@observable("incoming_radial", networks="any")
def _incoming_radial(state: Moment) -> np.ndarray:
    """Cosine of the incoming weights W of the first hidden layer and ∂L/∂W: 0 where what follows does not change with |W|."""
    return _dots(_flat(state.weights[0]), _flat(state.slopes[0]))[1]


@observable("incoming_square", networks="any")
def _incoming_square(state: Moment) -> np.ndarray:
    """|W|², the sum of the squares of the incoming weights of the first hidden layer."""
    return dots(state.weights[0], state.weights[0])


@path("incoming_growth", networks="any")
class IncomingGrowth(Path):
    """|W|² of the first hidden layer at the last recording time, or the network's end, less what it was at the start."""

    def begin(self, state: Moment) -> Carry:
        W = state.weights[0]
        return {"W": W.copy(), "growth": np.zeros(len(W))}

    def follow(self, carry: Carry, state: Moment) -> None:
        W, first = state.weights[0], carry["W"]
        carry["growth"][:] = dots(W - first, W + first)

    def end(self, carry: Carry) -> np.ndarray:
        return carry["growth"]


@path("incoming_growth_predicted", networks="any")
class PredictedGrowth(Path):
    """Σ η²|∂L/∂W|² over the steps up to the same moment, what descent adds to |W|² where W and ∂L/∂W are orthogonal.

    Exact where every step is recorded; over k steps between two records η²(k(g + g') + g - g')/2, by their squares g and g'.
    """

    def begin(self, state: Moment) -> Carry:
        return {"square": dots(state.slopes[0], state.slopes[0]), "step": state.step.copy(), "sum": np.zeros(len(state.step))}

    def follow(self, carry: Carry, state: Moment) -> None:
        square, steps = dots(state.slopes[0], state.slopes[0]), state.step - carry["step"]
        before, eta = carry["square"], state.origin.config.training.step_size
        carry["sum"] += np.where(steps > 0, eta**2 * (steps * (before + square) + before - square) / 2, 0)
        carry["square"][:], carry["step"][:] = square, state.step

    def end(self, carry: Carry) -> np.ndarray:
        return carry["sum"]


@path("incoming_traded", networks="any")
class IncomingTraded(Path):
    """Σ_a ||w_a|² - |w_a(0)|²|/(2|W(0)|²) at the end: which share of the incoming norm has gone from some neurons to others."""

    def begin(self, state: Moment) -> Carry:
        squares = _neuron_squares(state)
        return {"first": squares, "now": squares.copy()}

    def follow(self, carry: Carry, state: Moment) -> None:
        carry["now"][:] = _neuron_squares(state)

    def end(self, carry: Carry) -> np.ndarray:
        first = carry["first"]
        return np.cumsum(np.abs(carry["now"] - first), axis=1)[:, -1] / (2 * np.cumsum(first, axis=1)[:, -1])


def _neuron_squares(state: Moment) -> np.ndarray:
    """|w|² [network, neuron]."""
    W = state.weights[0]
    return dots(*[W.reshape(prod(W.shape[:2]), -1)] * 2).reshape(W.shape[:2])


# ------------------------------------------------------------------------------------------------- outgoing weights


@path("early_growth_slope", networks="any")
class EarlyGrowthSlope(Path):
    """Least-squares slope of log|v(t) - v(0)| on log t over the recording times before the loss has dropped by 1 %."""

    def begin(self, state: Moment) -> Carry:
        v = _output_weights(state)
        zero = np.zeros(len(v))
        return {"v": v.copy(), "limit": EARLY * zero_loss_of(state), "time": zero.copy(),
                **{name: zero.copy() for name in ("n", "x", "y", "xx", "xy")}}

    def follow(self, carry: Carry, state: Moment) -> None:
        moved = _output_weights(state) - carry["v"]
        passed = loss_of(state) <= carry["limit"]
        carry["limit"][passed] = np.inf
        used = (carry["limit"] < np.inf) & (state.time > carry["time"])
        carry["time"][:] = state.time
        x, y = np.log(np.where(used, state.time, 1)), np.log(np.where(used, np.sqrt(dots(moved, moved)), 1))
        for name, value in (("n", 1.0), ("x", x), ("y", y), ("xx", x * x), ("xy", x * y)):
            carry[name] += np.where(used, value, 0)

    def end(self, carry: Carry) -> np.ndarray:
        n, x, y, xx, xy = (carry[name] for name in ("n", "x", "y", "xx", "xy"))
        spread = n * xx - x * x
        return np.where((n > 2) & (spread > 0), (n * xy - x * y) / np.where(spread > 0, spread, 1), np.nan)


# ------------------------------------------------------------------------------------------------- what E takes


@compiled
def projections(A, r, g):
    """Σ ω g/Σ ω with ω_n = r_n A_n.Σ_k r_k A_k, for A [network, neuron, sample], r and g [network, sample]."""
    out = np.empty(len(A))
    for i in range(len(A)):
        omega = np.zeros(A.shape[2])
        for a in range(A.shape[1]):
            along = 0.0
            for n in range(A.shape[2]):
                along += r[i, n] * A[i, a, n]
            for n in range(A.shape[2]):
                omega[n] += r[i, n] * A[i, a, n] * along
        top, bottom = 0.0, 0.0
        for n in range(A.shape[2]):
            top += omega[n] * g[i, n]
            bottom += omega[n]
        out[i] = top / bottom
    return out


def psi(t: np.ndarray) -> np.ndarray:
    """ψ(t) = log(1 + t) - t/(1 + t) (THEORY.md, normalised-growth).

    >>> float(psi(np.array(0.0))), round(float(psi(np.array(1e-3))) / 5e-7, 2)
    (0.0, 1.0)
    """
    return np.log1p(t) - t / (1 + t)


def suppressions(norm: Norm, roughness: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """g = σ/σ_eff, by the formula, for E [network, sample] and λ [network]."""
    t = strength[:, None] * roughness
    return {"layernorm": np.ones_like(t), "r_layernorm": 1 / (1 + t),
            "bayesian_r_layernorm": np.exp(-norm.alpha * psi(t))}[norm.kind]


def _growths(state: Moment) -> tuple[np.ndarray, np.ndarray] | None:
    """v' under the network's own normalisation, and under LayerNorm [network, output and neuron]; None without any."""
    if state.origin.config.network.norm is None:
        return None
    place = len(state.origin.config.network.hidden)
    own, plain = (_flat(s.slopes[place]) for s in (state, state.normalised_by("layernorm")))
    return own, plain


@observable("projected_growth", networks="any")
def _projected_growth(state: Moment) -> np.ndarray:
    """v'.v'_LN/|v'_LN|², by the network's own normalisation and by LayerNorm at the same weights; NaN without any."""
    found = _growths(state)
    return np.full(len(state.step), np.nan) if found is None else dots(*found) / dots(found[1], found[1])


@observable("projected_growth_law", networks="any")
def _projected_growth_law(state: Moment) -> np.ndarray:
    """Σ ω g/Σ ω, what the projected growth is at β = 0 and v ≈ 0, by E, the activations under LayerNorm and the residuals."""
    norm = state.origin.config.network.norm
    if norm is None or norm.roughness != "own" or len(state.y.shape) > 2:
        return np.full(len(state.step), np.nan)
    X = state.X if state.X.ndim == 3 else state.X[None]
    h = products_of(state.weights[0], X)
    units = np.maximum(_normalised(h, norm.eps), 0)
    given = sample_roughness(state.origin.config, state.origin.entropy, state.origin.seeds, X)
    rough = roughness_of(h.swapaxes(1, 2), eps=norm.eps) if given is None else given
    g = suppressions(norm, np.broadcast_to(rough, state.y.shape), state.weights[-1])
    return projections(units, np.ascontiguousarray(residuals_of(state.outputs, state.y, state.loss)), g)


@compiled
def _normalised(h, eps):
    """(h - mean h)/σ over neurons, for h [network, neuron, sample]."""
    out = np.empty_like(h)
    for i in range(len(h)):
        for n in range(h.shape[2]):
            mean, square = 0.0, 0.0
            for a in range(h.shape[1]):
                mean += h[i, a, n]
            mean /= h.shape[1]
            for a in range(h.shape[1]):
                square += (h[i, a, n] - mean) ** 2
            sigma = np.sqrt(square / h.shape[1] + eps)
            for a in range(h.shape[1]):
                out[i, a, n] = (h[i, a, n] - mean) / sigma if sigma > 0 else 0.0
    return out


@observable("growth_norm_ratio", networks="any")
def _growth_norm_ratio(state: Moment) -> np.ndarray:
    """|v'|/|v'_LN|, likewise: what the law of the projected growth is not true of."""
    found = _growths(state)
    return np.full(len(state.step), np.nan) if found is None else np.sqrt(dots(found[0], found[0]) / dots(found[1], found[1]))


# ------------------------------------------------------------------------------------------------- what E tells


def _told(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """The chance that a noisy sample is rougher than a clean one, for roughnesses [network, sample]."""
    both = np.concatenate([clean, noisy], axis=1)
    return separations(both, np.arange(both.shape[1]) >= clean.shape[1])


@observable("roughness_auc", ("seen",), tests=True, images=True, networks="any")
def _roughness_auc(state: Moment) -> np.ndarray:
    """Area under the ROC curve of telling images with noise of 0.5 from clean ones by their roughness E: of the input, of the
    input with its pixels in a random order, and of h in the first hidden layer.
    """
    clean, noisy = (state.under(c).X for c in (CLEAN, Condition.noise(NOISE)))
    order = Stream(state.origin.entropy, "pixels", SHARED).permutation(clean.shape[-1])
    image = state.origin.config.task.image()
    count = len(state.weights[0])

    def each(measured):
        return _told(*(np.broadcast_to(measured(X), (count, X.shape[-2])) for X in (clean, noisy)))

    def of_hidden(X):
        h = products_of(state.weights[0], X if X.ndim == 3 else X[None])
        return roughness_of(np.ascontiguousarray(h.swapaxes(1, 2)))

    return np.stack([each(lambda X: roughness_of(X, image)), each(lambda X: roughness_of(X[..., order], image)),
                     each(of_hidden)], axis=1)
