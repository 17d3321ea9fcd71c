"""Where weights lie to the tangent spaces of the manifold that samples come from (THEORY.md, tangent-convergence).

A tangent space is taken at one of three base points: "active", the point of the manifold nearest to the mean of the samples
that the neuron is on at; "centre", that nearest to the mean of all data (of a paraboloid its apex); "nearest", the foot of
that sample whose tangent space is at the least angle.  All are NaN where the samples come from no manifold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import Carry, Path, observable, path
from mcrace.observe.snapshot import Snapshot
from mcrace.tasks import Embedding, Manifold

EARLY, LATE = 0.5, 2.0  # of the clock τ = ∫|D_a| dt: the window in which a neuron is seen to turn to its drift
REMEMBERED = 4096  # embeddings that a process keeps
Bases = Callable[[Manifold, Embedding, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@compiled
def _take_out(direction, x):
    along = 0.0
    for e in range(len(x)):
        along += direction[e] * x[e]
    for e in range(len(x)):
        x[e] -= along * direction[e]


@compiled
def _length(x):
    total = 0.0
    for e in range(len(x)):
        total += x[e] * x[e]
    return np.sqrt(total)


@compiled
def _sine_to(w, tangents, point, cone, x, p):
    """sin of the angle of w to a tangent space, or with the point itself to that of the cone; x and p are room to work in."""
    x[:] = w
    for j in range(len(tangents)):
        _take_out(tangents[j], x)
    if cone:
        p[:] = point
        for j in range(len(tangents)):
            _take_out(tangents[j], p)
        length = _length(p)
        if length > 1e-12 * _length(point):  # the point does not lie in the tangent space itself
            for e in range(len(p)):
                p[e] /= length
            _take_out(p, x)
    return _length(x) / _length(w)


@compiled
def _sines(W, tangents, points, which, cone, out):
    """sin of the angles of W [neuron, input] to the spaces [base, direction, input] that `which` tells; < 0: the nearest."""
    x, p = np.empty(W.shape[1]), np.empty(W.shape[1])
    for a in range(len(W)):
        if which[a] >= 0:
            b = which[a]
            out[a] = _sine_to(W[a], tangents[b], points[b], cone, x, p)
            continue
        out[a] = 2.0
        for b in range(len(points)):
            sine = _sine_to(W[a], tangents[b], points[b], cone, x, p)
            if not sine >= out[a]:
                out[a] = sine


@compiled
def _means_of_active(W, X, means, shares):
    """Mean of the samples that each neuron is on at [neuron, input], NaN where there is none; and the share of them."""
    for a in range(len(W)):
        count = 0
        means[a] = 0.0
        for n in range(len(X)):
            product = 0.0
            for k in range(X.shape[1]):
                product += W[a, k] * X[n, k]
            if product > 0:
                count += 1
                for k in range(X.shape[1]):
                    means[a, k] += X[n, k]
        for k in range(X.shape[1]):
            means[a, k] = means[a, k] / count if count > 0 else np.nan
        shares[a] = count / len(X)


@compiled
def _mean(X):
    out = np.zeros((1, X.shape[1]))
    for n in range(len(X)):
        for k in range(X.shape[1]):
            out[0, k] += X[n, k]
    return out / len(X)


def _active(task: Manifold, embedding: Embedding, W: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base points by neuron [neuron, coordinate], and which one is whose; a dead neuron has that of no samples, 0."""
    means, shares = np.empty(W.shape), np.empty(len(W))
    _means_of_active(W, X, means, shares)
    means[shares == 0] = 0.0
    return task.feet(embedding.coordinates(means)), np.arange(len(W))


def _centre(task: Manifold, embedding: Embedding, W: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return task.centre(embedding.coordinates(_mean(X))), np.zeros(len(W), np.int64)


def _nearest(task: Manifold, embedding: Embedding, W: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return task.feet(embedding.coordinates(X)), np.full(len(W), -1)


_known: OrderedDict[tuple[str, int, int], Embedding] = OrderedDict()


def embedding_of(state: Snapshot, i: int) -> tuple[Manifold, Embedding] | None:
    """The manifold of the i-th network and where it lies, found once a process and then remembered; None without one."""
    task = state.origin.config.task
    if not isinstance(task, Manifold):
        return None
    key = task.model_dump_json(), state.origin.entropy, int(state.origin.seeds[i]) if task.fresh else -1
    if key not in _known:
        _known[key] = task.embedding({}, state.origin.entropy, key[2])
        while len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return task, _known[key]


def _of_networks(state: Snapshot, W: np.ndarray, bases: Bases, cone: bool = False) -> np.ndarray:
    """sin of the angles of vectors W [network, neuron, input] to tangent spaces, or to those of the cone."""
    out = np.full(W.shape[:2], np.nan)
    for i in range(len(W)):
        if (found := embedding_of(state, i)) is None:
            continue
        task, embedding = found
        w, weights = np.ascontiguousarray(W[i]), np.ascontiguousarray(state.W[i])
        feet, which = bases(task, embedding, weights, np.ascontiguousarray(state.X[i] if state.X.ndim == 3 else state.X))
        tangents = laid(embedding, task.tangents(feet))
        _sines(w, tangents, embedding.inputs(feet), which, cone, out[i])
    return np.where(np.isfinite(state.norms), out, np.nan)


def laid(embedding: Embedding, tangents: np.ndarray) -> np.ndarray:
    """Tangent bases [base, direction, coordinate] among the inputs [base, direction, input]."""
    out = np.empty((*tangents.shape[:2], len(embedding.basis)))
    _laid(embedding.basis, tangents, out)
    return out


@compiled
def _laid(basis, tangents, out):
    for b in range(tangents.shape[0]):
        for j in range(tangents.shape[1]):
            for k in range(len(basis)):
                out[b, j, k] = 0.0
                for e in range(basis.shape[1]):
                    out[b, j, k] += basis[k, e] * tangents[b, j, e]


@observable("tangent_sine_active", ("neuron",))
def _tangent_sine_active(state: Snapshot) -> np.ndarray:
    """sin of the angle of w to the tangent space at the point nearest to the mean of the neuron's active samples."""
    return np.where(state.active, _of_networks(state, state.W, _active), np.nan)


@observable("tangent_sine_centre", ("neuron",))
def _tangent_sine_centre(state: Snapshot) -> np.ndarray:
    """sin of the angle of w to the tangent space at the point nearest to the mean of all data; a paraboloid's apex."""
    return _of_networks(state, state.W, _centre)


@observable("tangent_sine_nearest", ("neuron",))
def _tangent_sine_nearest(state: Snapshot) -> np.ndarray:
    """sin of the least angle of w to the tangent spaces at the samples."""
    return _of_networks(state, state.W, _nearest)


@observable("cone_sine_active", ("neuron",))
def _cone_sine_active(state: Snapshot) -> np.ndarray:
    """As `tangent_sine_active`, to the span of the tangent space and of the point."""
    return np.where(state.active, _of_networks(state, state.W, _active, cone=True), np.nan)


@observable("cone_sine_centre", ("neuron",))
def _cone_sine_centre(state: Snapshot) -> np.ndarray:
    """As `tangent_sine_centre`, to the span of the tangent space and of the point."""
    return _of_networks(state, state.W, _centre, cone=True)


@observable("cone_sine_nearest", ("neuron",))
def _cone_sine_nearest(state: Snapshot) -> np.ndarray:
    """As `tangent_sine_nearest`, to the spans of each tangent space and its point."""
    return _of_networks(state, state.W, _nearest, cone=True)


@observable("drift_sine_centre", ("neuron",))
def _drift_sine_centre(state: Snapshot) -> np.ndarray:
    """sin ∠(D, T), of the drift to the tangent space at the point nearest to the mean of all data; NaN for a dead neuron."""
    return _of_networks(state, state.drift, _centre)


@observable("curvature", ("neuron",))
def curvature_of(state: Snapshot) -> np.ndarray:
    """Root mean square of the manifold's principal curvatures, among the prepared inputs, at the point nearest to the mean of
    the neuron's active samples; NaN for a dead neuron.
    """
    out = np.full(state.v.shape, np.nan)
    for i in range(len(out)):
        if (found := embedding_of(state, i)) is not None:
            task, embedding = found
            X = np.ascontiguousarray(state.X[i] if state.X.ndim == 3 else state.X)
            feet, _ = _active(task, embedding, np.ascontiguousarray(state.W[i]), X)
            out[i] = task.curvatures(feet) * embedding.factor
    return np.where(state.active & np.isfinite(state.norms), out, np.nan)


@observable("gate_share", ("neuron",))
def gate_share_of(state: Snapshot) -> np.ndarray:
    """Share of the samples that a neuron is on at."""
    out, room = np.empty(state.v.shape), np.empty(state.W.shape[1:])
    for i in range(len(out)):
        X = np.ascontiguousarray(state.X[i] if state.X.ndim == 3 else state.X)
        _means_of_active(np.ascontiguousarray(state.W[i]), X, room, out[i])
    return np.where(np.isfinite(state.norms), out, np.nan)


# ------------------------------------------------------------------------------------------------- how fast neurons turn


@compiled
def _log_tangents(W, v, D):
    """log tan(δ/2) by |u - e|/|u + e|, u = ŵ and e = sign(v) D̂, which is exact at small angles too."""
    out = np.empty(v.shape)
    for i in range(W.shape[0]):
        for a in range(W.shape[1]):
            w, d = _length(W[i, a]), _length(D[i, a])
            apart, together = 0.0, 0.0
            for k in range(W.shape[2]):
                u, e = W[i, a, k] / w, np.sign(v[i, a]) * D[i, a, k] / d
                apart += (u - e) ** 2
                together += (u + e) ** 2
            out[i, a] = np.log(apart / together) / 2
    return out


class _Window(Path):
    """The mean over the window 0.5 <= τ <= 2 of each neuron, τ = ∫|D_a| dt, of what subclasses add up between recordings."""

    def now(self, state: Snapshot) -> Carry:
        """What is needed of a moment."""
        raise NotImplementedError

    def between(self, before: Carry, now: Carry, passed: np.ndarray) -> np.ndarray:
        """The integral between two moments [network, neuron]; `passed` is the time between them [network, 1]."""
        raise NotImplementedError

    def begin(self, state: Snapshot) -> Carry:
        nothing = np.zeros((3, *state.v.shape))
        return {"drift": state.drift_norms.copy(), "clock": nothing[0], "sum": nothing[1], "inside": nothing[2],
                "time": np.array(state.time, float), **{key: np.array(value) for key, value in self.now(state).items()}}

    def follow(self, carry: Carry, state: Snapshot) -> None:
        passed = (np.asarray(state.time, float) - carry["time"])[:, None]
        here = carry["clock"] + passed * (carry["drift"] + state.drift_norms) / 2
        if ((carry["clock"] < LATE) & (carry["drift"] > 0)).any():  # else all have been seen, but for the dead
            inside = np.minimum(here, LATE) - np.maximum(carry["clock"], EARLY)
            part = np.where(inside > 0, inside / np.where(inside > 0, here - carry["clock"], 1), 0)
            now = self.now(state)
            carry["sum"] += np.where(part > 0, part * self.between(carry, now, passed), 0)
            carry["inside"] += part * passed
            for key, value in now.items():
                carry[key][...] = value
        carry["clock"][...], carry["drift"][...], carry["time"][...] = here, state.drift_norms, state.time

    def end(self, carry: Carry) -> np.ndarray:
        return np.where(carry["clock"] >= LATE, carry["sum"] / np.where(carry["inside"] > 0, carry["inside"], 1), np.nan)


class _Mean(_Window):
    """The mean of an observable, by trapezoids."""

    def value(self, state: Snapshot) -> np.ndarray:
        """The observable [network, neuron]."""
        raise NotImplementedError

    def now(self, state: Snapshot) -> Carry:
        return {"value": self.value(state)}

    def between(self, before: Carry, now: Carry, passed: np.ndarray) -> np.ndarray:
        return passed * (before["value"] + now["value"]) / 2


@path("turning_drift", ("neuron",))
class TurningDrift(_Mean):
    """Mean of |D| over the window 0.5 <= τ <= 2, τ = ∫|D_a| dt; NaN for a neuron that does not get to its end."""

    def value(self, state: Snapshot) -> np.ndarray:
        return state.drift_norms


@path("turning_curvature", ("neuron",))
class TurningCurvature(_Mean):
    """Mean of `curvature` over the window 0.5 <= τ <= 2."""

    def value(self, state: Snapshot) -> np.ndarray:
        return curvature_of(state)


@path("turning_gates", ("neuron",))
class TurningGates(_Mean):
    """Mean of `gate_share` over the window 0.5 <= τ <= 2."""

    def value(self, state: Snapshot) -> np.ndarray:
        return gate_share_of(state)


@path("turning_rate", ("neuron",))
class TurningRate(_Window):
    """-d log tan(δ/2)/dt over the window 0.5 <= τ <= 2, between flips of gates: each recording interval with the mean
    drift of its ends.
    """

    def now(self, state: Snapshot) -> Carry:
        return {"W": np.array(state.W), "v": np.array(state.v), "D": np.array(state.drift)}

    def between(self, before: Carry, now: Carry, passed: np.ndarray) -> np.ndarray:
        held = (before["D"] + now["D"]) / 2
        return _log_tangents(before["W"], before["v"], held) - _log_tangents(now["W"], now["v"], held)


@path("turning_rate_whole", ("neuron",))
class WholeTurningRate(_Window):
    """As `turning_rate`, but with each moment's own drift, so that what flips of gates turn the drift by counts too."""

    def now(self, state: Snapshot) -> Carry:
        return {"value": _log_tangents(np.array(state.W), np.array(state.v), np.array(state.drift))}

    def between(self, before: Carry, now: Carry, passed: np.ndarray) -> np.ndarray:
        return before["value"] - now["value"]
