"""What normalised networks do, in networks of plain NumPy: observables of their growth, and the verdicts on it."""

from types import SimpleNamespace

import numpy as np
import pytest

from mcrace.observe import OBSERVABLES
from mcrace.observe.normalised import projections, psi
from mcrace.observe.snapshot import Moment
from mcrace.predictions import PREDICTIONS
from mcrace.predictions.base import Evidence

# ------------------------------------------------------------------------------------------------- plain NumPy


def suppression(X, kind):
    """exp(-ψ(E)), or 1/(1 + E), by E of the input in windows of three."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(X, ((0, 0), (1, 1)), mode="reflect"), 3, axis=1)
    E = windows.var(axis=2).mean(axis=1) / X.var(axis=1)
    return {"layernorm": 1 + 0 * E, "r_layernorm": 1 / (1 + E), "bayesian_r_layernorm": np.exp(E / (1 + E)) / (1 + E)}[kind]


def evaluate(W, v, X, y, g=None):
    """Activations, residuals and slopes (W', v') of LayerNorm networks with eps = 0, times g of each sample; mse."""
    g = np.ones(len(X)) if g is None else g
    h = X @ W.T
    c = h - h.mean(axis=1, keepdims=True)
    sigma = np.sqrt((c**2).mean(axis=1, keepdims=True))
    u = c / sigma
    A = np.maximum(u, 0)
    r = y - g * (A @ v)
    p = (g * r)[:, None] * v * (u > 0)
    dc = (p - u * (p * u).mean(axis=1, keepdims=True)) / sigma
    return A, r, (dc - dc.mean(axis=1, keepdims=True)).T @ X / len(X), (g * r) @ A / len(X)


class NaiveMoment(Moment):
    """Some networks at a moment; `normalised`, by a kind, or plain ones."""

    loss = "mse"

    def __init__(self, W, v, X, y, step, eta, normalised="layernorm"):
        self.W, self.v, self.y, self.normalised = W, v, np.broadcast_to(y, (len(W), len(y))), normalised
        training = SimpleNamespace(step_size=eta)
        norm = SimpleNamespace(kind=normalised, eps=0.0, alpha=1.0, roughness="own", roughness_of="input", image=None)
        network = SimpleNamespace(hidden=(W.shape[1],), norm=norm if normalised else None)
        config = SimpleNamespace(training=training, network=network, task=SimpleNamespace(image=lambda: None))
        self.origin = SimpleNamespace(X=X, config=config, entropy=1, seeds=np.arange(len(W)))
        self.step, self.time = np.full(len(W), step), np.full(len(W), step * eta)

    @property
    def weights(self):
        return self.W, self.v[:, None], np.ones(len(self.W))

    def normalised_by(self, kind):
        eta = self.origin.config.training.step_size
        return NaiveMoment(self.W, self.v, self.X, self.y[0], int(self.step[0]), eta, kind)

    @property
    def slopes(self):
        if self.normalised:
            g = suppression(self.X, self.normalised)
            found = [evaluate(W, v, self.X, y, g)[2:] for W, v, y in zip(self.W, self.v, self.y)]
        else:
            gates = [self.X @ W.T > 0 for W in self.W]
            rs = [y - (on * (self.X @ W.T)) @ v for W, v, y, on in zip(self.W, self.v, self.y, gates)]
            drifts = [(on * r[:, None]).T @ self.X / len(self.X) for on, r in zip(gates, rs)]
            found = [(v[:, None] * D, (W * D).sum(1)) for W, v, D in zip(self.W, self.v, drifts)]
        return np.stack([f[0] for f in found]), np.stack([f[1] for f in found])[:, None]

    @property
    def outputs(self):
        if self.normalised:
            g = suppression(self.X, self.normalised)
            return np.stack([g * (evaluate(W, v, self.X, y)[0] @ v) for W, v, y in zip(self.W, self.v, self.y)])
        return np.stack([np.maximum(self.X @ W.T, 0) @ v for W, v in zip(self.W, self.v)])


def along(names, steps, eta, every=1, normalised="layernorm", scale=1.0, small=1e-6):
    """What paths say of three networks that take steps of descent, recorded at every so many steps."""
    rng = np.random.default_rng(3)
    X, W, v = rng.normal(size=(20, 5)), scale * rng.normal(size=(3, 12, 5)), small * rng.choice([-1.0, 1.0], (3, 12))
    y = np.where(X[:, 0] > 0, 1.0, -1.0)
    state = NaiveMoment(W, v, X, y, 0, eta, normalised)
    carried = {name: OBSERVABLES[name].path.begin(state) for name in names}
    for step in range(1, steps + 1):
        dW, dv = state.slopes
        state = NaiveMoment(state.W + eta * dW, state.v + eta * dv[:, 0], X, y, step, eta, normalised)
        if step % every == 0 or step == steps:
            for name, carry in carried.items():
                OBSERVABLES[name].path.follow(carry, state)
    for name, carry in carried.items():
        OBSERVABLES[name].path.follow(carry, state)  # the last moment may come twice
    return [OBSERVABLES[name].path.end(carry) for name, carry in carried.items()], state


GROWTH = "incoming_growth", "incoming_growth_predicted", "incoming_traded"


def test_incoming_norms_grow_by_what_the_step_adds():
    (growth, predicted, traded), state = along(GROWTH, 60, 0.2)
    assert np.allclose(growth / predicted, 1, rtol=1e-9) and (growth > 1e-4).all()
    squares = [(moment.W**2).sum(axis=(1, 2)) for moment in (along(GROWTH, 0, 0.2)[1], state)]
    assert np.allclose(growth, squares[1] - squares[0], rtol=1e-9)
    assert ((traded > 0.01) & (traded < 1)).all()
    assert np.abs(OBSERVABLES["incoming_radial"].compute(state)).max() < 1e-14


def test_incoming_norms_are_conserved_by_the_flow():
    whole, half = (along(GROWTH[:1], round(8 / eta), eta)[0][0] for eta in (0.04, 0.02))
    assert np.allclose(np.log2(whole / half), 1, atol=0.05)


def test_sums_between_records_that_are_apart():
    (_, exact), _ = along(GROWTH[:2], 120, 0.05)
    (_, apart), _ = along(GROWTH[:2], 120, 0.05, every=7)
    error = np.abs(apart / exact - 1)  # of a rule of second order, where gates open and close between records
    assert (error < 0.01).all() and (error > 1e-9).all()


def test_networks_that_are_not_normalised_have_nothing_to_share():
    (growth, predicted, _), state = along(GROWTH, 60, 0.2, normalised=None, scale=0.1, small=0.1)
    assert (growth / predicted > 5).all()
    assert np.abs(OBSERVABLES["incoming_radial"].compute(state)).max() > 0.01


def test_outgoing_weights_grow_linearly_or_exponentially():
    (slope,), _ = along(["early_growth_slope"], 400, 1e-4)
    assert np.allclose(slope, 1, atol=0.01)
    (slope,), _ = along(["early_growth_slope"], 400, 0.05, normalised=None, scale=1e-4, small=1e-4)
    assert (slope > 1.4).all()


def test_growth_before_the_drop_is_what_counts():
    """Steps after the loss has dropped by 1 % change nothing."""
    (few,), _ = along(["early_growth_slope"], 200, 1e-3)
    (more,), state = along(["early_growth_slope"], 400, 1e-3)
    assert np.isfinite(few).all() and np.array_equal(few, more) and (state.losses.mean(axis=1) < 0.9 * 0.5).all()


# ------------------------------------------------------------------------------------------------- what E takes


def test_psi():
    """ψ(0) = 0, ψ ≈ t²/2, 0 ≤ ψ' ≤ 1 (THEORY.md, normalised-growth)."""
    t = np.linspace(0, 50, 2001)
    assert psi(np.array(0.0)) == 0 and psi(np.array(1e-3)) == pytest.approx(5e-7, rel=2e-3)
    slope = np.diff(psi(t)) / np.diff(t)
    assert (slope >= 0).all() and (slope <= 1).all()


def test_the_projected_growth_is_the_law():
    """v' with and without g, at the same W and v = 0, in plain NumPy; the ratio of norms is another number."""
    rng = np.random.default_rng(5)
    X, W, g = rng.normal(size=(20, 5)), rng.normal(size=(4, 12, 5)), rng.uniform(0.4, 1, (4, 20))
    y = rng.choice([-1.0, 1.0], 20)
    found, expected, norms = [], [], []
    for w, shrunk in zip(W, g):
        A, r, _, plain = evaluate(w, np.zeros(12), X, y)
        *_, taken = evaluate(w, np.zeros(12), X, y, shrunk)
        expected.append(taken @ plain / (plain @ plain))
        norms.append(np.linalg.norm(taken) / np.linalg.norm(plain))
        found.append(projections(np.ascontiguousarray(A.T)[None], r[None], shrunk[None])[0])
    assert np.allclose(found, expected, rtol=1e-12) and np.abs(np.array(norms) / expected - 1).min() > 1e-4


@pytest.mark.parametrize("kind", ["bayesian_r_layernorm", "r_layernorm", "layernorm"])
def test_observables_of_the_projected_growth_agree(kind):
    """What is measured and what the law says, by kind; the ratio of norms is another number, but for LayerNorm itself."""
    rng = np.random.default_rng(6)
    X, W, v = rng.normal(size=(30, 6)), rng.normal(size=(4, 12, 6)), 1e-8 * rng.choice([-1.0, 1.0], (4, 12))
    state = NaiveMoment(W, v, X, np.where(X[:, 0] > 0, 1.0, -1.0), 0, 0.1, kind)
    measured, law, ratio = (OBSERVABLES[name].compute(state)
                            for name in ("projected_growth", "projected_growth_law", "growth_norm_ratio"))
    assert np.allclose(measured, law, rtol=1e-6) and (kind == "layernorm" or (np.abs(ratio / law - 1) > 1e-4).all())
    assert np.allclose(measured, 1) == (kind == "layernorm")


# ------------------------------------------------------------------------------------------------- verdicts


class Cell:
    """What the prediction sees of a cell: the same numbers for all networks, but for a little spread."""

    def __init__(self, name, kind="bayesian_r_layernorm", count=60, eps=0.0, step_size=0.1, method="gd", excess=1.0, **found):
        self.given = {"excess": excess, **found}
        self.name, self.seeds, self.attributes = name, np.arange(count), {"role": "main"}
        training = {"step_size": step_size, "schedule": {"kind": "constant", "warm_up": 0}, "method": method, "weight_decay": 0,
                    "batch": None}
        self.config = {"network": {"norm": {"kind": kind, "eps": eps} if kind else None}, "training": training}
        means = {"incoming_growth": 10 * step_size * excess, "incoming_growth_predicted": 10 * step_size,
                 "incoming_traded": 0.1, "early_growth_slope": 1.0, "incoming_radial": 0.0, "projected_growth": 0.9,
                 "projected_growth_law": 0.9, "growth_norm_ratio": 0.91, "roughness_auc": np.array([0.95, 0.6, 0.5])} | found
        rng = np.random.default_rng(1)
        self.found = {k: np.asarray(m) * (1 + 1e-12 * rng.normal(size=(count, *np.shape(m)))) for k, m in means.items()}
        self.found["status"] = np.zeros(count, np.int8)

    def at(self, observable, state):
        return self.found[observable]

    def __getitem__(self, name):
        return self.found[name]


PLAIN = {"kind": "", "incoming_growth": 2.0, "early_growth_slope": 1.6, "incoming_radial": 0.3}


def verdicts(main, control=None, **options):
    """The verdicts by statistic, with both at half the step."""
    law, half = PREDICTIONS["normalised-growth"], {"step_size": 0.05}
    control = control or Cell("plain", **PLAIN)
    main_half = Cell("half", **{**main.given, **half})
    evidence = Evidence(1, main, control, main_half, True, (main,), {main.name: main_half, "plain": Cell("h", **PLAIN, **half)})
    return {v.statistic: v for v in law.judge(evidence, law.options(**options))}


def test_the_laws_hold_and_their_controls_fail():
    found = verdicts(Cell("main"))
    first = next(iter(found.values()))
    assert first.primary and first.statistic == "growth of |W|² over Σ η²|∂L/∂W|²"
    assert {k: v.verdict for k, v in found.items()} == {
        "growth of |W|² over Σ η²|∂L/∂W|²": "supported",
        "|cosine| of W and ∂L/∂W, onset": "supported",
        "slope of log growth of |W|² on log η": "supported",
        "slope of log|v(t) - v(0)| on log t": "supported",
        "share of |W|² that changed hands": "reported",
        "relative error of the projected growth": "supported",
        "AUC of E of the input at noise 0.5": "supported",
        "AUC of E of the input, control: E of h": "supported",
        "AUC of E of h at noise 0.5, start": "supported",
        "AUC of E of h at noise 0.5, end": "supported"}
    assert all(v.control.failed for v in found.values() if v.control)


@pytest.mark.parametrize("found, statistic", [
    ({"excess": 1.01}, "growth of |W|² over Σ η²|∂L/∂W|²"),
    ({"incoming_radial": -1e-3}, "|cosine| of W and ∂L/∂W, onset"),
    ({"early_growth_slope": 1.1}, "slope of log|v(t) - v(0)| on log t"),
    ({"projected_growth": 0.9001}, "relative error of the projected growth"),
    ({"roughness_auc": np.array([0.7, 0.6, 0.5])}, "AUC of E of the input at noise 0.5"),
    ({"roughness_auc": np.array([0.9, 0.6, 0.6])}, "AUC of E of h at noise 0.5, end")])
def test_a_law_that_does_not_hold_is_refuted(found, statistic):
    assert verdicts(Cell("main", **found))[statistic].verdict == "refuted"


def test_controls_that_do_not_fail():
    found = verdicts(Cell("main", roughness_auc=np.array([0.9, 0.9, 0.5]), growth_norm_ratio=0.9), Cell("plain"))
    for statistic in ("growth of |W|² over Σ η²|∂L/∂W|²", "AUC of E of the input at noise 0.5",
                      "relative error of the projected growth"):
        assert found[statistic].verdict == "not discriminating", statistic


@pytest.mark.parametrize("options, words", [
    ({"eps": 1e-5}, "eps = 0"), ({"kind": ""}, "eps = 0"), ({"method": "heavy-ball"}, "plain full-batch descent")])
def test_networks_that_the_law_does_not_speak_of(options, words):
    (found,) = verdicts(Cell("main", **options)).values()
    assert found.verdict == "not testable here" and words in found.note


def test_without_images_nothing_is_told():
    assert not [s for s in verdicts(Cell("main"), images=False) if "AUC" in s]
    law = PREDICTIONS["normalised-growth"]
    assert [n for n in law.needs(law.options()).observables if n.startswith("roughness")]
    assert not [n for n in law.needs(law.options(images=False)).observables if n.startswith("roughness")]
