"""What the exact laws of the flow are checked by: growth, balance, signs, and who moved at all (THEORY.md, Exact laws)."""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled
from mcrace.observe.base import Carry, Path, observable, path
from mcrace.observe.neurons import balancedness_of
from mcrace.observe.outputs import loss_of
from mcrace.observe.snapshot import Snapshot, norms_of

PROBE = 1 / 64  # of the step size, where growth is measured: the error of 1e-11 that it leaves is above that of rounding
ONSET = 0.99  # of the loss of the zero output


@observable("growth", ("neuron",))
def _growth(state: Snapshot) -> np.ndarray:
    """d log a/dt, measured: probe steps of float64 to either side, of two lengths, extrapolated to none."""
    length = PROBE * state.origin.config.training.step_size

    def slope(h: float) -> np.ndarray:
        ahead, behind = (state.onward(np.array([step])).norm_product for step in (h, -h))
        return np.log(ahead / behind) / (2 * h)

    return (4 * slope(length / 2) - slope(length)) / 3


@observable("drift_norm_permuted", ("neuron",), samples=True)
def _drift_norm_permuted(state: Snapshot) -> np.ndarray:
    """|D| that shuffled labels would give: a control."""
    return norms_of(state.shuffled.evaluate(state.W, state.v)[1])


@compiled
def _moved(W, v, W0, v0):
    out = np.empty(v.shape)
    for i in range(W.shape[0]):
        for a in range(W.shape[1]):
            total = (v[i, a] - v0[i, a]) ** 2
            for k in range(W.shape[2]):
                total += (W[i, a, k] - W0[i, a, k]) ** 2
            out[i, a] = np.sqrt(total)
    return out


@observable("displacement", ("neuron",))
def _displacement(state: Snapshot) -> np.ndarray:
    """Distance of (w, v) from the start; exactly 0 for a neuron that never moved."""
    return _moved(state.W, state.v, state.start.W, state.start.v)


@path("sign_flips", ("neuron",), dtype=int)
class SignFlips(Path):
    """How often the output weight has another sign than at the recording time before."""

    def begin(self, state: Snapshot) -> Carry:
        return {"sign": np.sign(state.v), "flips": np.zeros(state.v.shape, np.int32)}

    def follow(self, carry: Carry, state: Snapshot) -> None:
        sign = np.sign(state.v)
        carry["flips"] += sign * carry["sign"] < 0
        carry["sign"][...] = np.where(sign == 0, carry["sign"], sign)

    def end(self, carry: Carry) -> np.ndarray:
        return carry["flips"]


@path("balance_drift", ("neuron",))
class BalanceDrift(Path):
    """|w|² - v² at the last recording time before the onset, less (1 - ηλ)^{2k} of what it was at the start."""

    def begin(self, state: Snapshot) -> Carry:
        zero_output = loss_of(state.with_weights(0 * state.W, 0 * state.v))
        nothing = np.full(state.v.shape, np.nan)
        return {"limit": ONSET * zero_output, "time": state.time.copy(), "step": state.step.copy(),
                "rate": _drift_rate(state), "balance": balancedness_of(state), "sum": np.zeros(state.v.shape), "drift": nothing}

    def follow(self, carry: Carry, state: Snapshot) -> None:
        passed, early = state.time - carry["time"], loss_of(state) > carry["limit"]
        carry["limit"][~early] = np.inf  # a loss that rises again opens nothing
        training, rate = state.origin.config.training, _drift_rate(state)
        kept = ((1 - training.step_size * training.weight_decay) ** (2.0 * (state.step - carry["step"])))[:, None]
        start, total = kept * carry["balance"], kept * carry["sum"] + passed[:, None] * (kept * carry["rate"] + rate) / 2
        new = {"time": state.time, "step": state.step, "rate": rate, "balance": start, "sum": total,
               "drift": balancedness_of(state) - start}
        for key, value in new.items():
            carry[key][early] = value[early]

    def end(self, carry: Carry) -> np.ndarray:
        return carry["drift"]


@path("balance_drift_predicted", ("neuron",))
class PredictedBalanceDrift(BalanceDrift):
    """Σ η²(v²|D|² - (w·D)²) up to the same time, by trapezoids over the recording times: what `balance_drift` should be."""

    def end(self, carry: Carry) -> np.ndarray:
        return np.where(np.isnan(carry["drift"]), np.nan, carry["sum"])


def _drift_rate(state: Snapshot) -> np.ndarray:
    """η(v²|D|² - (w·D)²), what descent with step η adds to |w|² - v² in a unit of time; 0 for a dead neuron."""
    along = np.where(state.drift_norms > 0, state.cosine * state.norms, 0)
    return state.origin.config.training.step_size * state.drift_norms**2 * (state.v**2 - along**2)
