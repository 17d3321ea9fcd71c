"""Unlocking, the early phase, extremal directions, unbalanced starts, winners: on networks made by hand."""

import math

import numpy as np
import pytest

from mcrace.kernels import Samples
from mcrace.observe import OBSERVABLES, Snapshot, extremal
from mcrace.observe.snapshot import Origin
from mcrace.predictions import early_phase, half_rise, unbalanced_start, unlocking, winner_stability
from mcrace.predictions.base import Evidence
from mcrace.predictions.judging import with_options
from mcrace.predictions.racing import handicap_slopes

INIT = {"scale": 1e-3, "norms": "normal", "direction": None, "balanced": True, "ratio": 1.0, "paired": False}
TRAINING = {"step_size": 0.1, "steps": 100, "batch": None, "dtype": "float32",
            "schedule": {"kind": "constant", "warm_up": 0, "every": 1000, "factor": 0.5, "floor": 0.0}}


class Cell:
    """What predictions see of a cell of a results file."""

    def __init__(self, name="main", at=None, variables=None, steps=None, init=None, training=None, task=None):
        self.name, self._at, self.variables, self.steps = name, at or {}, variables or {}, steps or {}
        count = len(next(iter((self._at or self.variables).values())))
        self.seeds = np.arange(count)
        self.variables.setdefault("status", np.zeros(count, np.int8))
        network, task = {"hidden": [8], "init": {**INIT, **(init or {})}}, {"samples": 100, "fresh": True, **(task or {})}
        self.config = {"network": network, "training": {**TRAINING, **(training or {})}, "task": task}

    def __getitem__(self, name):
        return self.variables[name]

    def at(self, observable, state):
        return self._at[observable, state]

    def state_step(self, state):
        return self.steps[state]


def judge(name, main, control=None, cells=(), needs_half_step=False, **options):
    prediction, options = with_options(name, options)
    return prediction.judge(Evidence(5, main, control, None, needs_half_step, tuple(cells)), options)


# ------------------------------------------------------------------------------------------------- closed forms


def fixed_gate(v, c, across, tau):
    """The law with gates and residual as they are (THEORY.md, fixed-gate-race)."""
    v_then, along = v * np.cosh(tau) + c * np.sinh(tau), c * np.cosh(tau) + v * np.sinh(tau)
    return v_then, along, np.sqrt(along**2 + across**2)


def starts(networks=40, neurons=30, ratio=1.0, seed=0, widest=0.9):
    rng = np.random.default_rng(seed)
    shape = (networks, neurons)
    w, cosine = np.exp(0.3 * rng.normal(size=shape)) * math.sqrt(ratio), rng.uniform(-widest, widest, shape)
    return w, cosine, w / ratio * rng.choice([-1.0, 1.0], shape), 0.1 * np.exp(0.2 * rng.normal(size=shape))


# ------------------------------------------------------------------------------------------------- racing


@pytest.mark.parametrize("balance", [0.3, 1.0, 3.0])
def test_the_slope_on_the_handicap_of_unbalanced_starts(balance):
    w, cosine, v, _ = starts(ratio=balance)
    v *= np.exp(0.5 * np.random.default_rng(1).normal(size=v.shape))
    late, _, norm = fixed_gate(np.abs(v), w * cosine, w * np.sqrt(1 - cosine**2), 12.0)
    at = {("output_weight", "start"): v, ("input_norm", "start"): w, ("cosine", "start"): cosine,
          ("norm_product", "start"): np.abs(v) * w, ("norm_product", "level=0.1"): np.abs(late) * norm,
          ("active", "level=0.1"): np.ones(v.shape, int)}
    assert np.allclose(handicap_slopes(Cell(at=at)), 1, atol=1e-6)
    at["norm_product", "level=0.1"] = at["norm_product", "start"]
    assert np.allclose(handicap_slopes(Cell(at=at)), 0, atol=1e-6), "where nothing grows"


# ------------------------------------------------------------------------------------------------- unlocking


def moments(W, v, X, y, time, config=None):
    samples, step = Samples(X, y, "logistic"), np.full(len(W), round(time * 10), np.int64)
    origin = Origin(config, 1, np.arange(len(W)), X, lambda: (W, v))
    return Snapshot(W, v, np.broadcast_to(y, (len(W), len(y))), samples, "logistic", origin, step, np.full(len(W), time))


def followed(names, path, X, y):
    """What paths say of networks that go through some (time, W, v); the last moment comes twice."""
    first, *rest = [moments(W, v, X, y, time) for time, W, v in path]
    out = []
    with np.errstate(all="ignore"):
        for name in names:
            kind = OBSERVABLES[name].path
            carry = kind.begin(first)
            for state in [*rest, rest[-1]]:
                kind.follow(carry, state)
            out.append(kind.end(carry))
    return out


SYMMETRIC = np.concatenate([np.eye(3), -np.eye(3)]) + 0.0
LABELS = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])


def turning(signs, angles, times):
    """One neuron in the plane of the drift (1, 1, 1) and a vector at right angles to it, at some angles to the drift."""
    along, across = np.ones(3) / math.sqrt(3), np.array([1.0, -1.0, 0.0]) / math.sqrt(2)
    W = [1e-9 * (math.cos(a) * along + math.sin(a) * across) for a in angles]
    return [(t, w[None, None], np.array([[1e-9 * s]])) for t, w, s in zip(times, W, signs)]


@pytest.mark.parametrize("cosines, expected", [
    ([-0.5, -0.1, 0.1, 0.3, 0.5, 0.6], 1.5), ([-0.5, 0.1, 0.2, -0.1, 0.1, 0.2, 0.3], 3.5), ([-0.5, -0.4, 0.1, 0.2], np.inf),
    ([-0.5, -0.4, -0.3, -0.2], np.inf), ([0.5, 0.6, 0.7, 0.8], np.nan), ([-0.5, 0.1, 0.2, 0.3, -0.5, -0.6], 0.5)])
def test_a_neuron_unlocks_where_three_records_hold(cosines, expected):
    path = turning(np.ones(len(cosines)), np.arccos(cosines), np.arange(len(cosines), dtype=float))
    found, change = followed(["unlocking_time", "unlocking_change"], path, SYMMETRIC, LABELS)
    assert found[0, 0] == pytest.approx(expected, nan_ok=True)
    if np.isfinite(expected):
        assert change[0, 0] == pytest.approx(cosines[int(expected + 0.5)] - cosines[0])
    else:
        assert change[0, 0] == pytest.approx(cosines[-1] - cosines[0] if cosines[0] < 0 else np.nan, nan_ok=True)


def test_what_turns_a_neuron_is_told_apart():
    """By its own motion in a drift that stays, and, from |w| = 5 |v|, by a flip of sign(v)."""
    step, size = 0.02, 1e-9
    drift = np.linalg.norm(Samples(SYMMETRIC, LABELS, "logistic").evaluate(np.ones((1, 1, 3)) * size, np.ones((1, 1)))[1])
    for ratio, flips in ((1.0, False), (5.0, True)):
        times, path = np.arange(0, 120) * step / drift, []
        for t in times:
            v, along, _ = fixed_gate(1.0, -0.6 * ratio, 0.8 * ratio, t * drift)
            ((_, W, _),) = turning([1], [math.atan2(0.8 * ratio, along)], [t])
            path.append((t, W * math.hypot(along, 0.8 * ratio), np.array([[size * v]])))
        names = ["unlocking_time", "unlocking_change", "unlocking_rotation", "unlocking_jumps"]
        time, change, rotation, jumps = (a[0, 0] for a in followed(names, path, SYMMETRIC, LABELS))
        q = 0.6 * ratio
        assert time * drift == pytest.approx(math.atanh(min(q, 1 / q)), abs=step)
        assert rotation + jumps == pytest.approx(change, abs=0.01) and (jumps > 0.5) == flips
        assert flips or (jumps == 0 and rotation == pytest.approx(change, abs=0.002))


def unlocked(noise=0.0, grid=0.01, late=None, seed=0):
    """A cell whose neurons unlock when the law says, up to a factor, all before T, except as `late` says."""
    rng = np.random.default_rng(100 + seed)
    w, cosine, v, drift = starts(seed=seed)
    q = w * np.abs(cosine) / np.abs(v)
    times = np.arctanh(np.minimum(q, 1 / q)) / drift * np.exp(noise * rng.normal(size=w.shape))
    stuck = np.zeros(w.shape, bool) if late is None else rng.random(w.shape) < late
    times = np.where(cosine < 0, np.where(stuck, np.inf, times), np.nan)
    part = np.where(cosine < 0, 0.2, np.nan)
    at = {("cosine", "start"): cosine, ("input_norm", "start"): w, ("output_weight", "start"): v,
          ("drift_norm", "start"): drift,
          ("cosine_permuted", "start"): rng.uniform(-1, 1, w.shape), ("norm_product", "start"): np.ones(w.shape),
          ("norm_product", "level=0.2"): np.where(stuck, 0.5, 2.0), ("cosine_late", "level=0.2"): np.where(stuck, -0.1, 0.9),
          ("active", "level=0.2"): np.ones(w.shape, int)}
    variables = {"unlocking_time": times, "unlocking_change": 2 * part, "unlocking_rotation": part, "unlocking_jumps": 0 * part,
                 "time": np.arange(0, 1001) * grid / 0.1, "step": np.arange(1001) * 100}
    return Cell("main" if late is None else "lazy", at, variables, {"level=0.2": np.full(len(w), 100_000)},
                training={"steps": 100_000})


def test_unlocking_on_neurons_that_unlock_in_time_and_a_control_where_they_do_not():
    lazy = unlocked(late=0.5, seed=1)
    order, locked, ratio, *rest = judge("unlocking", unlocked(noise=0.01), lazy)
    assert order.verdict == locked.verdict == ratio.verdict == "supported" and order.primary
    assert order.estimate > 0.95 and abs(order.control.estimate - 0.5) < 0.15 and locked.estimate == 0
    assert locked.control.estimate == pytest.approx(0.5, abs=0.05) and ratio.control.estimate == locked.control.estimate
    assert [v.verdict for v in rest] == ["reported"] * 4
    assert [round(v.estimate, 6) for v in rest] == [1, 0.5, 0, 0.5]


@pytest.mark.parametrize("change", ["slower", "disordered", "stuck"])
def test_unlocking_is_refuted_where_neurons_do_something_else(change):
    main = unlocked(noise=3.0 if change == "disordered" else 0.0, late=0.3 if change == "stuck" else None)
    if change == "slower":
        main.variables["unlocking_time"] *= 1.4
    verdict = judge("unlocking", main, unlocked(late=0.5, seed=1))[0]
    assert verdict.verdict == "refuted" and ("decided by" in verdict.note) == (change == "slower")


def test_unlocking_asks_for_records_that_are_fine_enough():
    (found,) = judge("unlocking", unlocked(grid=0.05), unlocked(late=0.5))
    assert found.verdict == "not testable here" and "record.times" in found.note
    cell = unlocked(grid=0.05)
    cell.config["training"]["step_size"] = 10.0
    assert "training.step_size" in unlocking.too_coarse(cell) and unlocking.too_coarse(unlocked(grid=0.01)) == ""


# ------------------------------------------------------------------------------------------------- early phase


def rising(scale, slope=1.0, shift=0.0, networks=40, **init):
    """Σ a cos δ/Σ a rises to 1 by half at t = 10, and the loss drops at τ = slope log(1/s) + 3, D* = 0.1."""
    rng = np.random.default_rng(3)
    drift, step = 0.1 * np.exp(0.1 * rng.normal(size=networks)), 0.01
    tau = slope * -math.log(scale) + 3
    onset = np.round(tau / np.log1p(step * drift)).astype(int)
    times = np.linspace(0, 300, 3001)
    curve = np.clip(times / 20, 0, 1) * np.ones((networks, 1)) if not shift else \
        np.clip(times / (20 + shift * -math.log(scale)), 0, 1) * np.ones((networks, 1))
    at = {("mean_cosine", "start"): np.zeros(networks), ("mean_cosine", "onset"): np.ones(networks),
          ("norm_product", "onset"): np.ones((networks, 4)), ("drift_norm", "onset"): np.tile(drift[:, None], 4)}
    return Cell(f"scale={scale:g}", at, {"mean_cosine": curve, "time": times, "step": np.arange(3001) * 10},
                {"onset": onset}, init={"scale": scale, **init}, training={"step_size": step})


SCALES = (1e-2, 1e-3, 1e-5)


@pytest.mark.parametrize("slope, shift, verdicts", [
    (1.0, 0.0, ["supported", "supported"]), (0.8, 0.0, ["refuted", "supported"]), (1.0, 3.0, ["supported", "refuted"])])
def test_the_early_phase_by_its_two_slopes(slope, shift, verdicts):
    small = [rising(s, slope, shift) for s in SCALES]
    large = [rising(s, 0.1) for s in (1.0, 4.0)]
    onset, rise = judge("early-phase", small[0], large[1], [*small, large[0]])
    assert [onset.verdict, rise.verdict] == verdicts and onset.control.estimate == pytest.approx(0.1, abs=0.01)
    assert onset.estimate == pytest.approx(slope, abs=1e-3) and rise.estimate == pytest.approx(shift / 20, abs=0.01)


def test_the_early_phase_asks_for_what_it_needs():
    small, large = [rising(s) for s in SCALES], [rising(s, 0.1) for s in (1.0, 4.0)]
    for cells, said in (([*small[:2], *large], "three cells"), ([*small, large[0]], "two controls"),
                        ([*small[:2], rising(1e-5, paired=True), *large], "differ in more")):
        (found,) = judge("early-phase", cells[0], None, cells)
        assert found.verdict == "not testable here" and said in found.note
    for cell in small:
        cell.variables.update({k: cell[k][..., ::500] for k in ("time", "step", "mean_cosine")})
    assert "record.times" in judge("early-phase", small[0], None, [*small, *large])[0].note


def test_the_half_rise_is_interpolated():
    cell = rising(1e-3)
    assert np.allclose(half_rise.half_rise_times(cell), 10)
    cell.at("mean_cosine", "onset")[0] = 3.0  # never reached
    assert np.isnan(half_rise.half_rise_times(cell)[0])
    assert half_rise.clock(cell, np.array([5.0]), np.array([0.1]))[0] == pytest.approx(500 * math.log1p(0.001))
    cell.config["training"]["schedule"] = {"kind": "cosine", "warm_up": 0}
    assert half_rise.clock(cell, np.array([5.0]), np.array([0.1]))[0] == 0.5
    assert early_phase.scale_of(cell) == 1e-3


# ------------------------------------------------------------------------------------------------- unbalanced starts


def aligning(ratio, factor=1.0):
    """Neurons that go by the closed form of the flow, in a time that is stretched by a factor."""
    w, cosine, v, drift = starts(ratio=ratio, seed=7, widest=0.3)
    times = np.linspace(0, 40, 801)
    curve = np.empty((len(w), len(times)))
    for k, t in enumerate(times):
        v_then, along, norm = fixed_gate(np.abs(v), w * cosine, w * np.sqrt(1 - cosine**2), drift * t / factor)
        curve[:, k] = (v_then * along).sum(axis=1) / (np.abs(v_then) * norm).sum(axis=1)
    at = {("cosine", "start"): cosine, ("input_norm", "start"): w, ("output_weight", "start"): v,
          ("drift_norm", "start"): drift,
          ("mean_cosine", "start"): curve[:, 0], ("mean_cosine", "onset"): curve[:, -1]}
    return Cell(f"ratio={ratio:g}", at, {"mean_cosine": curve, "time": times}, init={"ratio": ratio},
                training={"step_size": 1e-5})


def test_unbalanced_starts_by_the_closed_form():
    cells = [aligning(r) for r in (0.125, 1.0, 8.0)]
    found = judge("unbalanced-start", cells[1], None, cells)
    assert [v.verdict for v in found] == ["supported"] * 4 and found[0].estimate < 0.01
    assert found[0].control.cell == "balanced law" and found[0].control.low > 0.5
    assert np.allclose(unbalanced_start.relative_error(cells[1], balanced=True), unbalanced_start.relative_error(cells[1]))
    late = [aligning(r, 1.2) for r in (0.125, 1.0, 8.0)]
    assert judge("unbalanced-start", late[1], None, late)[0].verdict == "refuted"
    assert "0.125" in judge("unbalanced-start", cells[1], None, cells[1:])[0].note


# ------------------------------------------------------------------------------------------------- extremal directions


def naive_map(u, X, y, sign):
    for k in range(extremal.STEPS):
        D = ((X @ u > 0) * y) @ X
        if not D.any():
            return None
        u = u + 0.1 / (1 + k / 100) * sign * D / np.linalg.norm(D)
        u /= np.linalg.norm(u)
    return u


@pytest.mark.parametrize("seed", range(4))
def test_the_map_to_extremal_directions_is_that_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(7, 3)), rng.choice([-1.0, 1.0], 7)
    columns, lengths = X.T.copy(), np.linalg.norm(X, axis=1)
    for sign in (-1.0, 1.0):
        for u in rng.normal(size=(5, 3)):
            u /= np.linalg.norm(u)
            expected, found = naive_map(u, X, y, sign), u.copy()
            on = extremal.follow_map(found, X, columns, y, lengths, sign, extremal.STEPS)
            assert on == (expected is not None) and (not on or np.allclose(found, expected, atol=1e-6))


def test_extremal_directions_of_what_is_known():
    """Samples of one label along the axes, two to a quarter of the plane."""
    X, y = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]]), np.array([1.0, 1.0, -1.0, -1.0])
    directions, signs = extremal.extremal_directions(X, y, 3)
    assert sorted(signs) == [-1, 1]
    assert np.allclose(directions, signs[:, None] * np.array([1.0, 0.0]), atol=1e-3)
    again, _ = extremal.extremal_directions(X.copy(), y.copy(), 3)
    assert again is directions, "remembered by the data"


def test_norm_near_extremal_directions():
    X, y = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]]), np.array([1.0, 1.0, -1.0, -1.0])
    angle = np.radians([0.0, 8.0, 12.0, 180.0, 180.0])
    W = np.stack([np.cos(angle), np.sin(angle)], axis=1)[None]
    v = np.array([[1.0, 2.0, 4.0, 8.0, -16.0]])  # of the fourth, the sign is wrong
    value = lambda name: OBSERVABLES[name].compute(moments(W, v, X, y, 0.0))
    assert value("extremal_share")[0] == pytest.approx((1 + 2 + 16) / 31) and value("extremal_count")[0] == 2
    assert value("clusters_95_wide")[0] == 3


@pytest.mark.parametrize("scale, dtype, said", [
    (1e-3, "float32", "scale"), (1e-20, "float32", "float64"), (1e-20, "float64", "")])
def test_extremal_directions_are_for_scales_that_a_number_can_hold(scale, dtype, said):
    at = {(name, "onset"): np.full(40, value) for name, value in
          (("extremal_share", 0.99), ("extremal_share_permuted", 0.1), ("clusters_95_wide", 2.0), ("extremal_count", 2))}
    lazy = {(name, "onset"): np.full(40, value) for name, value in
            (("extremal_share", 0.05), ("extremal_share_permuted", 0.1), ("clusters_95_wide", 20.0), ("extremal_count", 2))}
    found = judge("extremal-directions", Cell("main", at, init={"scale": scale}, training={"dtype": dtype}), Cell("lazy", lazy))
    assert (found[0].verdict == "supported") == (not said) and said in found[0].note


# ------------------------------------------------------------------------------------------------- winners


def winners(name, norm, **training):
    rng = np.random.default_rng(5)
    at = {("norm_product", "level=0.1"): norm, ("norm_product", "start"): rng.exponential(size=norm.shape),
          ("output_weight", "start"): np.resize([1.0, -1.0], norm.shape)}
    return Cell(name, at, training=training)


def test_winners_stay_on_large_minibatches_and_others_are_reported():
    rng = np.random.default_rng(6)
    norm, other = rng.exponential(size=(40, 40)), rng.exponential(size=(40, 40))
    full, half, few = winners("full", norm), winners("half", norm * 1.01, batch=50), winners("few", other, batch=10)
    labels = winners("other-labels", rng.exponential(size=(40, 40)))
    found = judge("winner-stability", full, labels, [full, few, half])
    assert [v.statistic.split(", ")[-1] for v in found] == ["half", "few", "overlap with the highest a_0"]
    assert [v.verdict for v in found] == ["supported", "reported", "reported"]
    assert found[0].primary and found[0].estimate == 1 and found[0].control.failed and found[1].estimate < 0.2
    same = judge("winner-stability", full, winners("other-labels", norm), [full, half])[0]
    assert same.verdict == "not discriminating" and not same.control.failed
    changed = judge("winner-stability", full, labels, [full, winners("half", other, batch=50)])[0]
    assert changed.verdict == "refuted"


def test_winners_are_of_cells_that_start_alike():
    norm = np.ones((40, 10))
    full, half, few = winners("full", norm), winners("half", norm, batch=25), winners("few", norm, batch=24)
    assert winner_stability.is_large_batch(full, half) and not winner_stability.is_large_batch(full, few)
    half.config["network"]["hidden"] = [9]
    assert "starts from the same weights" in judge("winner-stability", full, None, [full, half])[0].note
    assert "all samples at once" in judge("winner-stability", full, None, [full, half], reference="half")[0].note
