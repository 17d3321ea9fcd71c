"""Angular momentum of the neurons, and the order of their directions in the plane (THEORY.md, angular-momentum, Topology).

J = Σ_a (w_a w_a'ᵀ - w_a' w_aᵀ) with the flow's w' = v D; it is told as j = |J|/(√2 Σ|w||w'|), between 0 and 1.
"""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.errors import StudyError
from mcrace.kernels import Weights
from mcrace.kernels.field_networks import population_drifts
from mcrace.observe.base import Carry, Path, observable, path
from mcrace.observe.layered import LayeredSnapshot
from mcrace.observe.snapshot import Moment, Snapshot, residuals_of

LEAST = 1e-3  # of a(0): below this a neuron has no direction to speak of, as it passes by 0
TOLERANCE = 0.01  # rad by which one direction has to pass another
MOST_TURN = np.pi / 2  # between two records; beyond this nobody knows which way it turned


@compiled
def _momenta(W, velocity, out):
    """j of networks [network]; NaN where nothing moves."""
    inputs = W.shape[2]
    for i in range(len(W)):
        J, scale = np.zeros((inputs, inputs)), 0.0
        for a in range(W.shape[1]):
            w, u = W[i, a], velocity[i, a]
            ww, uu = 0.0, 0.0
            for k in range(inputs):
                ww += w[k] * w[k]
                uu += u[k] * u[k]
                for l in range(k):
                    J[k, l] += w[k] * u[l] - w[l] * u[k]
            scale += np.sqrt(ww * uu)
        total = 0.0
        for k in range(inputs):
            for l in range(k):
                total += J[k, l] * J[k, l]
        out[i] = np.sqrt(total) / scale


def momenta(W: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """j = |J|_F/(√2 Σ|w||w'|) of networks, from W and w' [network, neuron, input]."""
    out = np.empty(len(W))
    _momenta(W, velocity, out)
    return out


@observable("angular_momentum", networks="any")
def _angular_momentum(state: Moment) -> np.ndarray:
    """j = |J|/(√2 Σ|w||w'|) of the flow w' = v D, on the samples that the network trains on.  Where there are as many outputs
    as inputs, output weights count like input weights; NaN for any other layers.
    """
    if isinstance(state, Snapshot):
        return momenta(state.W, state.v[:, :, None] * state.drift)
    weights, slopes = _of_vectors(state.weights), _of_vectors(state.slopes)
    if weights is None or slopes is None:
        return np.full(len(state.y), np.nan)
    return momenta(np.concatenate(weights, axis=1), np.concatenate(slopes, axis=1))


@observable("angular_momentum_fresh", tests=True, networks="any")
def _angular_momentum_fresh(state: Moment) -> np.ndarray:
    """The same on test samples, which the network has not seen."""
    return _angular_momentum(state.test)


@observable("angular_momentum_population", networks="any", relu=True)
def _angular_momentum_population(state: Snapshot | LayeredSnapshot) -> np.ndarray:
    """The same on samples without end, in closed form; NaN for tasks whose population gradient has none, those with quadratic
    labels among them, and for networks of several layers or outputs.
    """
    origin = state.origin
    try:
        population = origin.config.task.population_of(origin.entropy, origin.seeds)
    except StudyError:
        population = None
    if population is None or isinstance(state, LayeredSnapshot):
        return np.full(len(state.weights[0]), np.nan)
    return momenta(state.W, state.v[:, :, None] * population_drifts(state.W, state.v, population)[0])


@compiled
def _sample_momenta(W, v, X, r, out):
    """r ∇f(x)∧x of each sample, components below the diagonal in rows [sample, component]."""
    neurons, inputs = W.shape
    slope = np.empty(inputs)
    for n in range(len(X)):
        slope[:] = 0.0
        for a in range(neurons):
            h = 0.0
            for k in range(inputs):
                h += W[a, k] * X[n, k]
            if h > 0:
                for k in range(inputs):
                    slope[k] += v[a] * W[a, k]
        c = 0
        for k in range(inputs):
            for l in range(k):
                out[n, c] = r[n] * (slope[k] * X[n, l] - slope[l] * X[n, k])
                c += 1


@compiled
def hotelling(sample):
    """Hotelling's T²(N-p)/(p(N-1)) that the mean of rows is 0; it follows F(p, N-p) where rows are normal.

    By Cholesky's factor L of the covariance, T² = N |L⁻¹ mean|².

    Parameters
    ----------
    sample : float64 array [sample, component]

    Returns
    -------
    float
        NaN where there are too few samples, or the covariance is singular.
    """
    count, p = sample.shape
    if count <= p:
        return np.nan
    mean, S = np.zeros(p), np.zeros((p, p))
    for n in range(count):
        for k in range(p):
            mean[k] += sample[n, k]
    mean /= count
    for n in range(count):
        for k in range(p):
            for l in range(k + 1):
                S[k, l] += (sample[n, k] - mean[k]) * (sample[n, l] - mean[l])
    S /= count - 1
    square = 0.0
    for k in range(p):
        left = S[k, k]
        for l in range(k):
            total = S[k, l]
            for q in range(l):
                total -= S[k, q] * S[l, q]
            S[k, l] = total / S[l, l]
            left -= S[k, l] * S[k, l]
        if not left > 1e-12 * S[k, k]:
            return np.nan
        S[k, k] = np.sqrt(left)
        for l in range(k):
            mean[k] -= S[k, l] * mean[l]
        mean[k] /= S[k, k]
        square += mean[k] * mean[k]
    return count * square * (count - p) / (p * (count - 1))


@compiled
def _vector_momenta(W, V, X, r, both, out):
    """Σ_k r_k ∇f_k(x)∧x, and f(x)∧r where both are asked for, of each sample: components below the diagonal in rows."""
    neurons, inputs = W.shape
    slope, f = np.empty(inputs), np.empty(inputs)
    for n in range(len(X)):
        slope[:], f[:] = 0.0, 0.0
        for a in range(neurons):
            h, pull = 0.0, 0.0
            for k in range(inputs):
                h += W[a, k] * X[n, k]
                pull += V[a, k] * r[n, k]
            if h > 0:
                for k in range(inputs):
                    slope[k] += pull * W[a, k]
                    f[k] += V[a, k] * h
        c = 0
        for k in range(inputs):
            for l in range(k):
                out[n, c] = slope[k] * X[n, l] - slope[l] * X[n, k]
                if both:
                    out[n, c] += f[k] * r[n, l] - f[l] * r[n, k]
                c += 1


def _of_vectors(weights: Weights) -> tuple[np.ndarray, np.ndarray] | None:
    """W and V [network, neuron, input] of networks with one hidden layer and as many outputs as inputs, or their slopes; None
    for any others.
    """
    W, V, *rest = weights
    return None if rest or V.shape[1] != W.shape[2] else (W, np.ascontiguousarray(V.swapaxes(1, 2)))


def _of_each(state: Moment) -> np.ndarray:
    """Samples [network, sample, input]."""
    return np.broadcast_to(state.X, (len(state.y), *state.X.shape[-2:]))


@observable("angular_momentum_f", tests=True, networks="any", relu=True)
def _angular_momentum_f(state: Moment) -> np.ndarray:
    """Hotelling's T² that J = mean of r ∇f(x)∧x over test samples is 0, as a number that follows F(p, N-p), p = d(d-1)/2.

    Where there are as many outputs as inputs, J is that of input and output weights together.
    """
    return _tested(state, True)


@observable("angular_momentum_inputs_f", tests=True, networks="any", relu=True)
def _angular_momentum_inputs_f(state: Moment) -> np.ndarray:
    """The same of input weights alone: a control where labels turn along, as that J is not 0."""
    return _tested(state, False)


def _tested(state: Moment, both: bool) -> np.ndarray:
    test = state.test
    X, r = _of_each(test), residuals_of(test.outputs, test.y, test.loss)
    components, out = X.shape[2] * (X.shape[2] - 1) // 2, np.full(len(X), np.nan)
    one_output = isinstance(test, Snapshot)
    vectors = None if one_output else _of_vectors(test.weights)
    if X.shape[1] <= components or not (one_output or vectors):
        return out
    sample = np.empty((X.shape[1], components))
    for i in range(len(out)):
        x = np.ascontiguousarray(X[i])
        if vectors is None:
            W, v = test.weights
            _sample_momenta(W[i], v[i], x, r[i], sample)
        else:
            _vector_momenta(vectors[0][i], vectors[1][i], x, np.ascontiguousarray(r[i]), both, sample)
        out[i] = hotelling(sample)
    return out


# ------------------------------------------------------------------------------------------------- of a heavy ball


@compiled
def _steps_momenta(before, after, out):
    """Σ_a w_k∧w_{k+1} of networks [network, component], which is Σ_a w_{k+1}∧(w_{k+1} - w_k)."""
    for i in range(len(after)):
        c = 0
        for k in range(after.shape[2]):
            for l in range(k):
                total = 0.0
                for a in range(after.shape[1]):
                    total += before[i, a, k] * after[i, a, l] - before[i, a, l] * after[i, a, k]
                out[i, c] = total
                c += 1


@path("momentum_decay", networks="any")
class MomentumDecay(Path):
    """The largest |J_k - μ^{k-1} J_1|/|J_1|, J_k = Σ_a w_k∧(w_k - w_{k-1}) of the actual steps, over the steps k with records
    before and after them; NaN where no step was recorded alone, and for networks of several layers or outputs.
    """

    def begin(self, state: Snapshot | LayeredSnapshot) -> Carry:
        if isinstance(state, LayeredSnapshot):
            return {"error": np.full(len(state.y), np.nan)}
        inputs = state.W.shape[2]
        first = np.full((len(state.W), inputs * (inputs - 1) // 2), np.nan)
        return {"W": np.array(state.W), "step": state.step.copy(), "first": first, "error": np.full(len(state.W), np.nan)}

    def follow(self, carry: Carry, state: Snapshot | LayeredSnapshot) -> None:
        if isinstance(state, LayeredSnapshot):
            return
        J = np.empty(carry["first"].shape)
        _steps_momenta(carry["W"], state.W, J)
        alone = state.step == carry["step"] + 1
        carry["first"][alone & (state.step == 1)] = J[alone & (state.step == 1)]
        kept = state.origin.config.training.kept_velocity ** (state.step - 1.0)
        error = _lengths(J - kept[:, None] * carry["first"]) / _lengths(carry["first"])
        carry["error"][alone] = np.fmax(carry["error"], error)[alone]
        carry["W"][...], carry["step"][...] = state.W, state.step

    def end(self, carry: Carry) -> np.ndarray:
        return carry["error"]


def _lengths(J: np.ndarray) -> np.ndarray:
    return np.sqrt(np.cumsum(J * J, axis=1)[:, -1])


# ------------------------------------------------------------------------------------------------- in the plane


@compiled
def _turns(W, v, sign, least, angle, counted, lost):
    """Follow the angles from one record to the next; a neuron that no longer counts stays so."""
    for i in range(len(W)):
        for a in range(W.shape[1]):
            norm = np.sqrt(W[i, a, 0] ** 2 + W[i, a, 1] ** 2)
            if not abs(v[i, a]) * norm >= least[i, a] or v[i, a] * sign[i, a] <= 0:
                counted[i, a] = False
            if not counted[i, a]:
                continue
            turn = np.arctan2(W[i, a, 1], W[i, a, 0]) - angle[i, a]
            turn -= 2 * np.pi * np.floor(turn / (2 * np.pi) + 0.5)
            angle[i, a] += turn
            if abs(turn) > MOST_TURN:
                lost[i, int(sign[i, a] > 0)] = True


@compiled
def _find_broken(order, sign, angle, counted, tolerance, broken):
    """Which groups of one sign have a neuron that has passed another, or been passed: angles are followed from the start."""
    for i in range(len(angle)):
        for group in range(2):
            highest, lowest = -np.inf, np.inf
            for a in order[i]:
                if int(sign[i, a] > 0) != group or not counted[i, a]:
                    continue
                here = angle[i, a]
                if highest - here > tolerance or here - lowest > 2 * np.pi + tolerance:
                    broken[i, group] = True
                highest, lowest = max(highest, here), min(lowest, here)


@path("order_broken")
class OrderBroken(Path):
    """Share of the groups of neurons of one sign, three or more, whose cyclic order of directions breaks on the way: one passes
    another by more than 0.01 rad.  In the plane; NaN in other dimensions, and where records are too far apart to follow.

    A neuron is left out once a < 1e-3 a(0), or sign(v) has changed.
    """

    def begin(self, state: Snapshot) -> Carry:
        W, v = state.W, state.v
        angle = np.arctan2(W[:, :, 1], W[:, :, 0]) if W.shape[2] == 2 else np.full(v.shape, np.nan)
        groups = (len(v), 2)
        return {"angle": angle, "order": np.argsort(angle, axis=1, kind="stable"), "sign": np.sign(v),
                "least": LEAST * state.norm_product, "counted": state.norm_product > 0,
                "lost": np.zeros(groups, bool), "broken": np.zeros(groups, bool)}

    def follow(self, carry: Carry, state: Snapshot) -> None:
        if state.W.shape[2] != 2:
            return
        _turns(state.W, state.v, carry["sign"], carry["least"], carry["angle"], carry["counted"], carry["lost"])
        broken = carry["broken"].copy()
        _find_broken(carry["order"], carry["sign"], carry["angle"], carry["counted"], TOLERANCE, broken)
        carry["broken"] |= broken & ~carry["lost"]

    def end(self, carry: Carry) -> np.ndarray:
        sizes = np.stack([np.sum(carry["sign"] < 0, axis=1), np.sum(carry["sign"] > 0, axis=1)], axis=1)
        known = np.where(carry["lost"] & ~carry["broken"], np.nan, carry["broken"])
        with np.errstate(invalid="ignore"):
            shares = np.sum(np.where(sizes >= 3, known, 0), axis=1) / np.sum(sizes >= 3, axis=1)
        return np.where(np.isnan(carry["angle"]).all(axis=1), np.nan, shares)


@path("swept_area", networks="any")
class SweptArea(Path):
    """Σ_a ∫|w|² dφ over Σ_a ∫|w|² |dφ|, by chords between recording times; in the plane, NaN in other dimensions and for
    networks of several layers or outputs.
    """

    def begin(self, state: Snapshot | LayeredSnapshot) -> Carry:
        if isinstance(state, LayeredSnapshot):
            return {"sums": np.zeros((len(state.y), 2))}
        return {"W": np.array(state.W), "sums": np.zeros((len(state.W), 2))}

    def follow(self, carry: Carry, state: Snapshot | LayeredSnapshot) -> None:
        if not isinstance(state, LayeredSnapshot) and state.W.shape[2] == 2:
            _sweep(carry["W"], state.W, carry["sums"])
            carry["W"][...] = state.W

    def end(self, carry: Carry) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return carry["sums"][:, 0] / carry["sums"][:, 1]


@compiled
def _sweep(before, after, sums):
    for i in range(len(after)):
        for a in range(after.shape[1]):
            area = before[i, a, 0] * after[i, a, 1] - before[i, a, 1] * after[i, a, 0]
            sums[i, 0] += area
            sums[i, 1] += abs(area)


@path("largest_drift")
class LargestDrift(Path):
    """The largest |D| of any neuron at any recording time: what the step size has to be small against."""

    def begin(self, state: Snapshot) -> Carry:
        return {"largest": state.drift_norms.max(axis=1)}

    def follow(self, carry: Carry, state: Snapshot) -> None:
        carry["largest"][...] = np.maximum(carry["largest"], state.drift_norms.max(axis=1))

    def end(self, carry: Carry) -> np.ndarray:
        return carry["largest"]
