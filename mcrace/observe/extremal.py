"""Extremal directions of a data set, to which neurons converge while f = 0 (THEORY.md, extremal-directions)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.alignment import held_by_fewest
from mcrace.observe.base import observable
from mcrace.observe.clusters import clusters_of
from mcrace.observe.snapshot import Snapshot, norms_of
from mcrace.seeds import SHARED, Stream

STARTS, STEPS = 1000, 3000
DISTINCT = 0.99  # cosine below which two limits are two
NEAR = np.cos(np.radians(10))
WIDE_CUT = 0.03
REMEMBERED = 2048  # data sets whose directions a process keeps


@compiled
def _drift(u, X, columns, y, lengths, z, out):
    """Put D(u)/|D(u)| at f = 0 into `out`; returns how far u is from the nearest gate, -1 where it is on at no sample."""
    z[:] = 0.0
    for k in range(len(u)):
        for n in range(len(z)):
            z[n] += columns[k, n] * u[k]
    out[:], nearest = 0.0, np.inf
    for n in range(len(z)):
        if lengths[n] > 0:
            nearest = min(nearest, abs(z[n]) / lengths[n])
        if z[n] > 0:
            for k in range(len(u)):
                out[k] += y[n] * X[n, k]
    length = 0.0
    for k in range(len(u)):
        length += out[k] * out[k]
    if length == 0:
        return -1.0
    for k in range(len(u)):
        out[k] /= np.sqrt(length)
    return nearest


@compiled
def follow_map(u, X, columns, y, lengths, sign, steps):
    """u ← unit(u + 0.1/(1+k/100) sign D(u)/|D(u)|), in place; False where u is on at no sample.

    D is computed anew only where u has moved as far as to the nearest gate: before, no gate can have changed.
    """
    D, z, room = np.zeros(len(u)), np.zeros(len(X)), -1.0
    for k in range(steps):
        if room <= 0:
            room = _drift(u, X, columns, y, lengths, z, D) * (1 - 1e-9)
            if room < 0:
                return False
        size, length = 0.1 / (1 + k / 100), 0.0
        for i in range(len(u)):
            moved = u[i] + size * sign * D[i]
            length += moved * moved
        length, moved_by = np.sqrt(length), 0.0
        for i in range(len(u)):
            to = (u[i] + size * sign * D[i]) / length
            moved_by += (to - u[i]) ** 2
            u[i] = to
        room -= np.sqrt(moved_by)
    return True


@compiled
def limits(starts, X, y, steps):
    """The distinct limits of the map, of both signs, in the order in which they are found.

    Returns
    -------
    directions : array [limit, input]
    signs : array [limit]
    """
    columns, lengths = X.T.copy(), np.sqrt((X * X).sum(axis=1))
    found, signs, count = np.empty((2 * len(starts), starts.shape[1])), np.empty(2 * len(starts)), 0
    for sign in (-1.0, 1.0):
        first = count
        for start in starts:
            u = start.copy()
            if not follow_map(u, X, columns, y, lengths, sign, steps):
                continue
            new = True
            for j in range(first, count):
                cosine = 0.0
                for k in range(len(u)):
                    cosine += u[k] * found[j, k]
                if cosine >= DISTINCT:
                    new = False
                    break
            if new:
                found[count], signs[count] = u, sign
                count += 1
    return found[:count].copy(), signs[:count].copy()


_known: OrderedDict[bytes, tuple[np.ndarray, np.ndarray]] = OrderedDict()


def extremal_directions(X: np.ndarray, y: np.ndarray, entropy: int) -> tuple[np.ndarray, np.ndarray]:
    """The limits of 1,000 random starts on a data set, computed once a process and then remembered.

    Parameters
    ----------
    X : float64 array [sample, input]
    y : float64 array [sample]
        Labels, which are the residuals at f = 0 but for a factor.
    entropy : int
        The starts are the same for all data sets of a study.

    Returns
    -------
    directions : array [limit, input]
    signs : array [limit]
        +1 or -1: of the output weight.
    """
    key = hashlib.sha256(X.tobytes()).digest() + hashlib.sha256(y.tobytes()).digest()
    key += entropy.to_bytes(16)
    if key not in _known:
        starts = Stream(entropy, "directions", SHARED + 1).normals(STARTS, X.shape[1])
        starts /= norms_of(starts[None])[0][:, None]
        _known[key] = limits(starts, np.ascontiguousarray(X), np.ascontiguousarray(y), STEPS)
        while len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return _known[key]


@compiled
def _share_near(W, v, product, directions, signs, near):
    """Share of Σa within an angle of a direction of the neuron's sign."""
    held, total = 0.0, 0.0
    for a in range(len(W)):
        total += product[a]
        length = 0.0
        for k in range(W.shape[1]):
            length += W[a, k] * W[a, k]
        for j in range(len(directions)):
            cosine = 0.0
            for k in range(W.shape[1]):
                cosine += W[a, k] * directions[j, k]
            if v[a] * signs[j] > 0 and cosine >= near * np.sqrt(length):
                held += product[a]
                break
    return held / total


def _data_of(state: Snapshot, y: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray, int]:
    X = state.X[i] if state.X.ndim == 3 else state.X
    return X, y[i], state.origin.entropy


def _shares(state: Snapshot, y: np.ndarray) -> np.ndarray:
    out = np.empty(len(state.W))
    for i, (W, v, product) in enumerate(zip(state.W, state.v, state.norm_product)):
        out[i] = _share_near(np.ascontiguousarray(W), v, product, *extremal_directions(*_data_of(state, y, i)), NEAR)
    return out


@observable("extremal_share", relu=True, samples=True)
def _extremal_share(state: Snapshot) -> np.ndarray:
    """Share of Σa within 10° of an extremal direction of the neuron's sign."""
    return _shares(state, state.y)


@observable("extremal_share_permuted", relu=True, samples=True)
def _extremal_share_permuted(state: Snapshot) -> np.ndarray:
    """The same with the extremal directions that shuffled labels would give: a control."""
    return _shares(state, state.shuffled_labels)


@observable("extremal_count", dtype=int, relu=True, samples=True)
def _extremal_count(state: Snapshot) -> np.ndarray:
    """Number of extremal directions of the data, both signs together."""
    return np.array([len(extremal_directions(*_data_of(state, state.y, i))[1]) for i in range(len(state.W))], np.int32)


@observable("clusters_95_wide")
def _clusters_95_wide(state: Snapshot) -> np.ndarray:
    """N95 with the dendrogram cut at 0.03."""
    return held_by_fewest(clusters_of(state.trees, state.norm_product, state.usable, WIDE_CUT), state.norm_product)
