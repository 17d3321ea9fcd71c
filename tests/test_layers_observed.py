"""Observables of hidden layers, of networks made by hand: against plain NumPy and against what they must be."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_depth import descent, layers_up, network

from mcrace.observe import OBSERVABLES


class State:
    """What the observables use of a moment; plain layers in plain NumPy, with one output or more."""

    def __init__(self, W, b, X, y, time=0.0, start=None):
        self.W, self.b, self.X, self.loss = W, b, X, "mse"
        networks = len(W[0])
        self.weights, self.time = (*W, *b), np.full(networks, float(time))
        count = len(W)
        parts = lambda arrays: SimpleNamespace(matrices=tuple(arrays[:count]), biases=tuple(arrays[count:]))
        self.layers = SimpleNamespace(parts=parts, residual=False, norm=None)
        up = [layers_up([w[i] for w in W], [c[i] for c in b], X) for i in range(networks)]
        self.outputs = np.stack([u[-1] for u in up])
        if start:
            self.outputs -= State(*start, X, y).outputs.reshape(self.outputs.shape)
        self.y = np.broadcast_to(y, self.outputs.shape)
        if y.shape[1] == 1:
            self.outputs, self.y = self.outputs[:, :, 0], self.y[:, :, 0]
        widest = max(w.shape[1] for w in W[:-1])
        self.active = np.zeros((networks, count - 1, widest), bool)
        for i in range(networks):
            for l in range(count - 1):
                self.active[i, l, : W[l].shape[1]] = (up[i][l] > 0).any(axis=0)

    @property
    def slopes(self):
        y = self.y if self.y.ndim == 3 else self.y[:, :, None]
        found = [descent([w[i] for w in self.W], [c[i] for c in self.b], self.X, y[i]) for i in range(len(self.y))]
        dW = [np.stack([f[0][l] for f in found]) for l in range(len(self.W))]
        return (*dW, *(np.stack([f[1][l] for f in found]) for l in range(len(self.b))))

    @property
    def shuffled_labels(self):
        return self.y[:, ::-1]

    def on(self, X, y):
        return State(self.W, self.b, X, y if y.ndim == 2 else y[:, None])

    def moved(self, h, time):
        """The same networks after a step of descent."""
        moved = [w + h * g for w, g in zip(self.weights, self.slopes)]
        y = self.y[0] if self.y.ndim == 3 else self.y[0][:, None]
        return State(moved[: len(self.W)], moved[len(self.W) :], self.X, y, time)


def value(name, state):
    with np.errstate(all="ignore"):
        return OBSERVABLES[name].compute(state)


def followed(name, states):
    path = OBSERVABLES[name].path
    with np.errstate(all="ignore"):
        carry = path.begin(states[0])
        for state in [*states[1:], states[-1]]:
            path.follow(carry, state)
        return path.end(carry)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_neurons_of_every_layer(bias, outputs):
    W, b, X, y = network([5, 7, 4], 1, bias, outputs=outputs)
    state = State(W, b, X, y)
    found = {name: value(f"layer_{name}", state) for name in ("norm_product", "input_norm", "score", "balancedness", "active")}
    dW, db = state.slopes[:4], state.slopes[4:]
    for l, m in enumerate((5, 7, 4)):
        w_in = np.concatenate([W[l], b[l][:, :, None]], axis=2) if bias else W[l]
        g_in = np.concatenate([dW[l], db[l][:, :, None]], axis=2) if bias else dW[l]
        n_in, n_out = np.linalg.norm(w_in, axis=2), np.linalg.norm(W[l + 1], axis=1)
        assert np.allclose(found["norm_product"][:, l, :m], n_in * n_out) and np.allclose(found["input_norm"][:, l, :m], n_in)
        assert np.allclose(found["balancedness"][:, l, :m], n_in**2 - n_out**2)
        with np.errstate(invalid="ignore"):
            score = (w_in * g_in).sum(axis=2) / n_in / np.linalg.norm(g_in, axis=2)
        assert np.allclose(found["score"][:, l, :m], score, equal_nan=True)
        for name in ("norm_product", "input_norm", "score", "balancedness"):
            assert np.isnan(found[name][:, l, m:]).all()
        assert (found["active"][:, l, m:] == -1).all() and (found["active"][:, l, :m] == state.active[:, l, :m]).all()
    assert (value("layer_imbalance", state) < 1e-12).all() and (value("layer_imbalance_mixed", state) > 1e-2).all()
    assert (value("layer_growth_error", state) < 1e-10).all() and (value("layer_growth_error_mixed", state) > 1e-2).all()


def test_numbers_of_layers():
    W, b, X, y = network([6, 5], 2)
    state = State(W, b, X, y)
    s = [np.linalg.svd(w, compute_uv=False) for w in W]
    expected = np.stack([(x**2).sum(axis=1) / x[:, 0] ** 2 for x in s[:2]], axis=1)
    assert np.allclose(value("layer_stable_rank", state), expected)
    assert value("layer_alignment", state).shape == (2, 2) and (np.abs(value("layer_alignment", state)) <= 1).all()


def test_duplicates_count_once():
    """Every neuron of every layer three times: as many clusters, and as many neurons needed, as without."""
    W, _, X, y = network([3, 4], 3, outputs=1)
    wide = [w.copy() for w in W]
    for l in (0, 1):
        wide[l] = np.repeat(wide[l], 3, axis=1)
        wide[l + 1] = np.repeat(wide[l + 1], 3, axis=2) / 3
    one, three = State(W, [], X, y), State(wide, [], X, y)
    assert np.allclose(one.outputs, three.outputs)
    assert (value("layer_clusters_95", three) == value("layer_clusters_95", one)).all()
    merged, joint = value("layer_merge_curve", three), value("joint_merge_curve", three)
    loss = ((three.outputs - three.y) ** 2 / 2).mean(axis=1)
    alive = three.active[:, :, ::3].sum(axis=2)  # dead ones come out for free
    for i in range(2):
        for l in (0, 1):
            assert np.allclose(merged[i, l, alive[i, l] - 1 :], loss[i])
        assert np.allclose(joint[i, alive[i].max() - 1 :], loss[i])
    assert (np.abs(value("layer_prune_curve", three)[:, :, :2] - loss[:, None, None]) > 1e-6).all()


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("curve", ["prune_curve", "prune_curve_rescaled", "merge_curve"])
def test_curves_end_at_the_loss_also_where_the_start_is_subtracted(curve, outputs):
    W, b, X, y = network([4, 6], 4, bias=True, outputs=outputs)
    for start in (None, network([4, 6], 5, bias=True, outputs=outputs)[:2]):
        state = State(W, b, X, y, start=start)
        losses = (state.outputs - state.y) ** 2 / 2
        loss = losses.reshape(2, 11, -1).sum(axis=2).mean(axis=1)
        assert np.allclose(value(f"layer_{curve}", state)[:, :, -1], loss[:, None])
        assert np.allclose(value(f"joint_{curve}", state)[:, -1], loss)


def test_no_curves_where_a_neuron_is_more_than_its_two_vectors():
    state = State(*network([4, 4], 6))
    state.layers.residual = True
    assert np.isnan(value("layer_merge_curve", state)).all() and np.isnan(value("joint_prune_curve", state)).all()


def test_a_network_that_is_not_finite_has_no_numbers():
    W, b, X, y = network([4, 3], 7)
    W[1][0, 0, 0] = np.nan
    state = State(W, b, X, y)
    for name in ("layer_merge_curve", "joint_merge_curve", "layer_clusters_95", "layer_stable_rank"):
        found = value(name, state)
        assert np.isnan(found[0]).any() and np.isfinite(found[1]).all(), name


# ------------------------------------------------------------------------------------------------- paths


def test_the_clock_of_a_layer():
    """By the same trapezoids in plain NumPy; where it strikes 1, numbers lie between those of the records round it."""
    state = State(*network([6, 5], 8, outputs=1))
    h = 0.05
    states = [state]
    for k in range(1, 250):
        states.append(states[-1].moved(h, k * h))
    rates = []
    for s in states:
        speeds = [np.linalg.norm(s.slopes[l], axis=2) / np.linalg.norm(s.W[l + 1], axis=1) for l in (0, 1)]
        rates.append([[np.median(speed[i][s.active[i, l, : speed.shape[1]]]) for l, speed in enumerate(speeds)]
                      for i in range(2)])
    rates = np.array(rates)
    tau = np.concatenate([np.zeros((1, 2, 2)), np.cumsum(h * (rates[1:] + rates[:-1]) / 2, axis=0)])
    time, log_a, score = (followed(f"layer_clock_{name}", states) for name in ("time", "log_norm_product", "score"))
    assert (tau[-1] >= 1).any() and (tau[-1] < 1).any()
    for i in range(2):
        for l in range(2):
            if tau[-1, i, l] < 1:
                assert np.isnan(time[i, l]) and np.isnan(log_a[i, l]).all()
                continue
            assert time[i, l] == pytest.approx(np.interp(1, tau[:, i, l], h * np.arange(250)), rel=1e-9)
            k = int(np.argmax(tau[:, i, l] >= 1))
            sides = [np.log(value("layer_norm_product", states[j])[i, l]) for j in (k - 1, k)]
            share = (1 - tau[k - 1, i, l]) / (tau[k, i, l] - tau[k - 1, i, l])
            assert np.allclose(log_a[i, l], sides[0] + share * (sides[1] - sides[0]), equal_nan=True)
    assert (np.abs(score[np.isfinite(score)]) <= 1).all()
    permuted = followed("layer_clock_score_permuted", states)
    assert (np.isfinite(permuted) == np.isfinite(score)).all() and (np.nanmax(np.abs(permuted - score)) > 0.1)


def test_the_dead_that_come_back_are_counted():
    state = State(*network([3, 2], 9))
    on = state.active.copy()
    states = [SimpleNamespace(active=a, W=state.W) for a in (on, on, on, on, on)]
    pattern = {(0, 0, 0): [0, 1, 0, 0, 1], (1, 1, 1): [1, 0, 0, 0, 0]}
    for k, s in enumerate(states):
        s.active = np.ones_like(on)
        s.active[:, 1, 2] = False  # beyond the width
        for place, alive in pattern.items():
            s.active[place] = alive[k]
        s.weights, s.slopes, s.layers = state.weights, state.slopes, state.layers
    deaths, revivals = followed("layer_deaths", states), followed("layer_revivals", states)
    assert revivals[0, 0, 0] == 2 and deaths[0, 0, 0] == 1 and deaths[1, 1, 1] == 1 and revivals[1, 1, 1] == 0
    assert (deaths[:, 1, 2] == -1).all() and (revivals[:, 1, 2] == -1).all()
    assert deaths.sum() == 2 - 2 and revivals.sum() == 2 - 2
