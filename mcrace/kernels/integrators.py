"""From one step of the time grid to the next along a field: descent, heavy ball, signs, and the flow itself.

A *field* gives the directions in which a group of networks descends (`SampleField`, `PopulationField`).  Parameters of a
group are one after the other, [parameter, L], and a method treats all of them alike.  Everything hangs on the weights at the
beginning of a step alone, so that no bit depends on where one records.

`flow` takes each step of size h once whole and then in 2, 4, ... 2^k halves, all by descent, and extrapolates what they give
to a step of no size (Richardson; Aitken-Neville in h).  Descent errs by a power series in h as long as the field is smooth, so
each halving takes away its next power: the method is of order 1 + halvings while no gate changes.  Where a weight crosses
w·x_n = 0, its drift jumps by r_n x_n/N: then each step that holds a crossing errs by h times that jump, whatever the order,
and where gates chatter that is every step.  It is the step that is extrapolated, not the run: so the states and the stop are
those of the extrapolated network, and errors do not grow in two runs that part from each other.

`adaptive` takes each step of the grid by as many steps of the 5(4) pair of Dormand and Prince as the tolerances ask for,
beginning with one step for the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from mcrace.compiled import compiled
from mcrace.kernels.marks import note
from mcrace.kernels.one_layer import TILE
from mcrace.kernels.population_field import PopulationField, population_slopes
from mcrace.kernels.sample_field import SampleField, sample_slopes
from mcrace.kernels.tiles import dot, fma, inline, lane_bits, lanes_on, load, own, size, store, where, zeros

BALL, SIGN, FLOW, ADAPTIVE = 0, 1, 2, 3
GOES_ON, TOLERANCE, EVALUATIONS, CHATTER = 0, 1, 2, 3  # why an adaptive method gave up

STAGES = 7  # the last at the end of the step, so it is the first of the next one
TABLEAU = np.zeros((STAGES, STAGES))
TABLEAU[1, :1] = [1 / 5]
TABLEAU[2, :2] = [3 / 40, 9 / 40]
TABLEAU[3, :3] = [44 / 45, -56 / 15, 32 / 9]
TABLEAU[4, :4] = [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729]
TABLEAU[5, :5] = [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656]
TABLEAU[6, :6] = [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]
ERROR = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])
SHORTEST = 1e-12  # of a step of the grid
FEW = 100  # refused steps


class Rule(NamedTuple):
    """What is done at every step."""

    kind: int
    moving: bool  # whether there are velocities
    decay: float
    momentum: float
    halvings: int
    rtol: float
    atol: float
    evaluations: int  # of the field in a step of the grid, at most


class Room(NamedTuple):
    """Room for one group, and what became of all."""

    K: np.ndarray  # [direction and parameter, L]
    Y: np.ndarray  # [parameter, L] weights on trial
    saved: np.ndarray  # [parameter, L] weights at the beginning of the step
    passed: np.ndarray  # [L] time since then
    trial: np.ndarray  # [L] length to try next
    step: np.ndarray  # [L] length on trial
    error: np.ndarray  # [L] square of the error, in units of the tolerance
    refused: np.ndarray  # [L] int64 steps that were refused
    switched: np.ndarray  # [L] int64 of these, within which gates changed
    reason: np.ndarray  # [group, L] int64
    last: np.ndarray  # [group, L] int64 the step at which a network gave up


def slopes(field, g, P, start, D, at):
    """Drifts and slopes of v, by the kind of field."""


@overload(slopes)
def _slopes(field, g, P, start, D, at):
    if field.instance_class is PopulationField:
        return lambda field, g, P, start, D, at: population_slopes(field, g, P, start, D, at)
    if field.instance_class is SampleField:
        return lambda field, g, P, start, D, at: sample_slopes(field, g, P, start, D, at)
    return None


@compiled
def direction(field, g, P, start, G, at, length, decay):
    """The direction of descent at the parameters P[start] ..., into G[at] ...: v D for w, less decay times the weights."""
    slopes(field, g, P, start, G, at)
    d = field.inputs
    rows = length // (d + 1)
    drifts, v = own(G, at, rows, d), own(P, start + rows * d, rows, 1)
    for i in range(0, rows, TILE):
        out = load(v, i, 0, TILE, 1)
        for k in range(d):
            store(drifts, i, k, out * load(drifts, i, k, TILE, 1))
    if decay > 0:
        weights, G_all = own(P, start, length, 1), own(G, at, length, 1)
        for p in range(0, length, TILE):
            store(G_all, p, 0, fma(0 - decay, load(weights, p, 0, TILE, 1), load(G_all, p, 0, TILE, 1)))


@inline
def _copy(source, first, target, start, length):
    """Vectors from one array to another."""
    old, new = own(source, first, length, 1), own(target, start, length, 1)
    for p in range(length):
        store(new, p, 0, load(old, p, 0, 1, 1))


@inline
def _roll(P, U, start, G, length, eta, rule, alive):
    """Descent, or a heavy ball."""
    weights, slope = own(P, start, length, 1), own(G, 0, length, 1)
    still = lanes_on(weights, alive)
    for p in range(0, length, TILE):
        w, move = load(weights, p, 0, TILE, 1), eta * load(slope, p, 0, TILE, 1)
        if rule.moving:
            ball = own(U, start, length, 1)
            u = load(ball, p, 0, TILE, 1)
            move = fma(rule.momentum, u, move)
            store(ball, p, 0, where(still, move, u))
        store(weights, p, 0, where(still, w + move, w))


@inline
def _step_by_signs(P, start, G, length, eta, alive):
    """Each weight by eta, down the slope; by nothing where there is none."""
    weights, slope = own(P, start, length, 1), own(G, 0, length, 1)
    still = lanes_on(weights, alive)
    for p in range(0, length, TILE):
        w, d = load(weights, p, 0, TILE, 1), load(slope, p, 0, TILE, 1)
        sign = where(d > 0, 1.0, where(d < 0, -1.0, d))
        store(weights, p, 0, where(still, fma(eta, sign, w), w))


@inline
def _move(Y, X, start, G, at, length, eta):
    """Y = X + eta G"""
    new, old, slope = own(Y, 0, length, 1), own(X, start, length, 1), own(G, at, length, 1)
    for p in range(0, length, TILE):
        store(new, p, 0, fma(eta, load(slope, p, 0, TILE, 1), load(old, p, 0, TILE, 1)))


@compiled
def extrapolate(field, g, P, start, length, eta, rule, alive, room):
    """One step of the flow, whose direction at its beginning is the first of room.K; then there is the table's last row."""
    K, Y, weights = room.K, room.Y, own(P, start, length, 1)
    for level in range(rule.halvings + 1):
        parts = 1 << level
        _move(Y, P, start, K, 0, length, eta / parts)
        for _ in range(parts - 1):
            direction(field, g, Y, 0, K, length, length, rule.decay)
            _move(Y, Y, 0, K, length, length, eta / parts)
        for p in range(0, length, TILE):
            new = load(own(Y, 0, length, 1), p, 0, TILE, 1)
            for j in range(level):
                row = own(K, (2 + j) * length, length, 1)
                old = load(row, p, 0, TILE, 1)
                store(row, p, 0, new)
                new = new + (new - old) / ((2 << j) - 1)
            store(own(K, (2 + level) * length, length, 1), p, 0, new)
    still, best = lanes_on(weights, alive), own(K, (2 + rule.halvings) * length, length, 1)
    for p in range(0, length, TILE):
        store(weights, p, 0, where(still, load(best, p, 0, TILE, 1), load(weights, p, 0, TILE, 1)))


@inline
def _combined(K, length, p, weights, stages):
    """The sum of weights times directions at the parameters p ..."""
    total = zeros(own(K, 0, length, 1), TILE, 1)
    for j in range(stages):
        total = fma(weights[j], load(own(K, j * length, length, 1), p, 0, TILE, 1), total)
    return total


@compiled
def fifth_root(x):
    """x^(1/5) of 1e-5 <= x <= 1e5, by Newton's method from above, so that no system library decides a bit."""
    y = max(x, 1.0)
    for _ in range(60):
        y -= (y - x / (y * y * y * y)) / 5
    return y


@compiled
def _measure(P, start, Y, K, length, rule, step, error):
    """The squares of the errors, in units of the tolerance, of a step from P to Y, into `error`."""
    old, new, by = own(P, start, length, 1), own(Y, 0, length, 1), load(own(step, 0, 1, 1), 0, 0, 1, 1)
    total = zeros(old, 1, 1)
    for p in range(0, length, TILE):
        a, b = size(load(old, p, 0, TILE, 1)), size(load(new, p, 0, TILE, 1))
        ratio = by * _combined(K, length, p, ERROR, STAGES) / (rule.atol + rule.rtol * where(a > b, a, b))
        total = dot(ratio, ratio, total)
    store(own(error, 0, 1, 1), 0, 0, total)


@compiled
def _changed(gates, before):
    """In which lanes any gate is another than before."""
    out = 0
    for i in range(gates.shape[0]):
        for n in range(gates.shape[1]):
            out |= gates[i, n] ^ before[i, n]
    return out


@compiled
def _keep(gates, before, lanes):
    """Let the gates of some lanes be those to compare with."""
    for i in range(gates.shape[0]):
        for n in range(gates.shape[1]):
            before[i, n] = before[i, n] ^ ((gates[i, n] ^ before[i, n]) & lanes)


@compiled
def _take(P, start, Y, K, length, taken):
    """The weights on trial, and the direction there, for some lanes."""
    weights, new = own(P, start, length, 1), own(Y, 0, length, 1)
    first, last = own(K, 0, length, 1), own(K, (STAGES - 1) * length, length, 1)
    some = lanes_on(weights, taken)
    for p in range(0, length, TILE):
        store(weights, p, 0, where(some, load(new, p, 0, TILE, 1), load(weights, p, 0, TILE, 1)))
        store(first, p, 0, where(some, load(last, p, 0, TILE, 1), load(first, p, 0, TILE, 1)))


@compiled
def _judge(eta, count, busy, switched, room):
    """Which of the busy lanes take the step on trial, and which of them are done; lengths for the next one."""
    taken = done = 0
    for lane in range(len(room.step)):
        if not busy >> lane & 1:
            continue
        error, step, bit = np.sqrt(room.error[lane] / count), room.step[lane], 1 << lane
        factor = 0.2 if not error < 1e3 else min(5.0, 0.9 / fifth_root(max(error, 1e-4)))
        if error <= 1:
            taken |= bit
            rest = eta - room.passed[lane]
            done |= bit if step >= rest else 0
            room.passed[lane] += step
            room.trial[lane] = max(room.trial[lane], step * factor) if step < room.trial[lane] else step * factor
        else:
            room.refused[lane] += 1
            room.switched[lane] += switched >> lane & 1
            room.trial[lane] = step * max(0.2, factor)
    return taken, done


@inline
def chatters(refused, switched):
    """Whether gates are why steps are refused: most of these, and more than crossings for good explain.

    A crossing makes for a score of refusals: as many as bring a step down to the shortest.
    """
    return switched > FEW and 2 * switched > refused


@compiled
def adapt(field, g, P, start, length, count, eta, rule, alive, room, number):
    """One step of the grid by the 5(4) pair; returns which lanes got to its end.  The others are put back to its beginning.

    Parameters
    ----------
    count : how many of the parameters are real.
    number : of the step, to be told where a network gives up.
    """
    K, Y = room.K, room.Y
    _copy(P, start, room.saved, 0, length)
    for lane in range(len(room.step)):
        room.passed[lane], room.trial[lane], room.refused[lane], room.switched[lane] = 0, eta, 0, 0
    _keep(field.gates, field.before, -1)
    busy, failed, rounds = alive, 0, max(1, rule.evaluations // (STAGES - 1))
    while busy and rounds:
        rounds -= 1
        for lane in range(len(room.step)):
            room.step[lane] = min(room.trial[lane], eta - room.passed[lane]) if busy >> lane & 1 else 0
        switched, by = 0, load(own(room.step, 0, 1, 1), 0, 0, 1, 1)
        for stage in range(1, STAGES):
            for p in range(0, length, TILE):
                old, sum_ = load(own(P, start, length, 1), p, 0, TILE, 1), _combined(K, length, p, TABLEAU[stage], stage)
                store(own(Y, 0, length, 1), p, 0, fma(by, sum_, old))
            direction(field, g, Y, 0, K, stage * length, length, rule.decay)
            switched |= _changed(field.gates, field.before)
        _measure(P, start, Y, K, length, rule, room.step, room.error)
        taken, done = _judge(eta, count, busy, switched, room)
        _take(P, start, Y, K, length, taken)
        _keep(field.gates, field.before, taken)
        busy &= ~done
        for lane in range(len(room.step)):
            if busy >> lane & 1 and (room.trial[lane] < SHORTEST * eta or rounds == 0):
                failed |= 1 << lane
                reason = EVALUATIONS if rounds == 0 else TOLERANCE
                room.reason[g, lane] = CHATTER if chatters(room.refused[lane], room.switched[lane]) else reason
                room.last[g, lane] = number
        busy &= ~failed
    weights, saved = own(P, start, length, 1), own(room.saved, 0, length, 1)
    for p in range(length):
        store(weights, p, 0, where(lanes_on(weights, failed), load(saved, p, 0, 1, 1), load(weights, p, 0, 1, 1)))
    return alive & ~failed


@compiled
def train(P, flat, U, field, real, etas, rule, marks, first, look, room):
    """Training of every group: from step `first` on, one step for each entry of etas.

    Parameters
    ----------
    P, flat : parameters [group, parameter, L], and the same memory as [group and parameter, L]; changed in place.
    U : velocities, as `flat`; empty where there is no momentum.
    field : `SampleField` or `PopulationField`
    real : how many parameters of a network are not padded.
    etas : step sizes, of the dtype of the weights.
    rule, room : `Rule`, `Room`
    marks, look : as for `mcrace.kernels.one_layer.train`.
    """
    groups, length, lanes = P.shape
    for g in range(groups):
        start = g * length
        for t in range(len(etas) + look):
            if marks.alive[g] == 0:
                break
            direction(field, g, flat, start, room.K, 0, length, rule.decay)
            if marks.any:
                nearest = load(own(marks.nearest, 0, groups, 1), g, 0, 1, 1)
                if lane_bits(load(own(field.now, 0, 1, 1), 0, 0, 1, 1) <= nearest) or first + t >= marks.due[g]:
                    _copy(field.now, 0, marks.now, 0, 1)
                    note(marks, g, first + t, P[g].reshape(length, 1, lanes), P[g][:0].reshape(0, 1, lanes))
            if t == len(etas) or marks.alive[g] == 0:
                break
            if rule.kind == BALL:
                _roll(flat, U, start, room.K, length, etas[t], rule, marks.alive[g])
            elif rule.kind == SIGN:
                _step_by_signs(flat, start, room.K, length, etas[t], marks.alive[g])
            elif rule.kind == FLOW:
                extrapolate(field, g, flat, start, length, etas[t], rule, marks.alive[g], room)
            else:
                marks.alive[g] = adapt(field, g, flat, start, length, real, etas[t], rule, marks.alive[g], room, first + t)


@compiled
def observe_population(P, flat, field, D, losses):
    """Drifts and slopes of v of every group, as `flat`, and losses [group, L]."""
    groups, length, _ = P.shape
    for g in range(groups):
        slopes(field, g, flat, g * length, D, g * length)
        _copy(field.now, 0, losses, g, 1)


@compiled
def observe_samples(P, flat, field, D, f):
    """Drifts and slopes of v of every group, as `flat`, and outputs f [group, sample, L], from samples."""
    groups, length, _ = P.shape
    for g in range(groups):
        slopes(field, g, flat, g * length, D, g * length)
        _copy(field.f, 0, f, g * f.shape[1], f.shape[1])
