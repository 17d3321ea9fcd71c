"""Hidden layers followed over time: where each stands when its own clock strikes 1, and neurons that come back to life."""

from __future__ import annotations

import numpy as np

from mcrace.observe.base import Carry, Path, path
from mcrace.observe.depth import LAYER, NEURONS, of_neurons
from mcrace.observe.layered import LayeredSnapshot


def clock_rates(state: LayeredSnapshot) -> np.ndarray:
    """median_a(|w_in'|/|w_out|) over the active neurons of each layer, dτ_ℓ/dt (THEORY.md, depth-transfer) [network, layer]."""
    rates = np.where(state.active, of_neurons(state, "clock_rates"), np.nan)
    out = np.zeros(rates.shape[:2])
    some = np.isfinite(rates).any(axis=2)
    out[some] = np.nanmedian(rates[some], axis=1)
    return out


class LayerClock(Path):
    """What something is at τ_ℓ = ∫ median_a(|w_in'|/|w_out|) dt = 1, between the two recording times round it."""

    def value(self, state: LayeredSnapshot) -> np.ndarray:
        """What is followed [network, layer, ...]."""
        raise NotImplementedError

    def begin(self, state: LayeredSnapshot) -> Carry:
        value, rate = self.value(state), clock_rates(state)
        return {"tau": np.zeros(rate.shape), "rate": rate, "time": np.array(state.time, float), "value": value,
                "found": np.full(value.shape, np.nan)}

    def follow(self, carry: Carry, state: LayeredSnapshot) -> None:
        value, rate = self.value(state), clock_rates(state)
        passed = (state.time - carry["time"])[:, None]
        tau = carry["tau"] + passed * (carry["rate"] + rate) / 2
        strikes = (carry["tau"] < 1) & (tau >= 1)
        share = np.where(strikes, (1 - carry["tau"]) / np.where(strikes, tau - carry["tau"], 1), 0)
        share = share.reshape(*share.shape, *[1] * (value.ndim - 2))
        between = carry["value"] + share * (value - carry["value"])
        carry["found"][strikes] = between[strikes]
        for key, new in {"tau": tau, "rate": rate, "time": state.time, "value": value}.items():
            carry[key][...] = new

    def end(self, carry: Carry) -> np.ndarray:
        return carry["found"]


@path("layer_clock_score", NEURONS, networks="layered")
class ClockScore(LayerClock):
    """cos∠(w_in, -∂L/∂w_in) of each neuron at its layer's clock τ_ℓ = 1; NaN where that was never reached."""

    def value(self, state: LayeredSnapshot) -> np.ndarray:
        return of_neurons(state, "score")


@path("layer_clock_score_permuted", NEURONS, networks="layered")
class ClockScorePermuted(LayerClock):
    """The same score with the gradient that shuffled labels would give: a control."""

    def value(self, state: LayeredSnapshot) -> np.ndarray:
        labels = state.shuffled_labels
        return of_neurons(state.on(state.X, labels if state.X.ndim == 3 else labels[0]), "score")


@path("layer_clock_log_norm_product", NEURONS, networks="layered")
class ClockLogNormProduct(LayerClock):
    """log a of each neuron at its layer's clock τ_ℓ = 1; NaN where that was never reached."""

    def value(self, state: LayeredSnapshot) -> np.ndarray:
        return np.log(of_neurons(state, "norm_product"))


@path("layer_clock_time", LAYER, units="sum of step sizes", networks="layered")
class ClockTime(LayerClock):
    """When the clock of each layer is at τ_ℓ = 1; NaN where that was never reached."""

    def value(self, state: LayeredSnapshot) -> np.ndarray:
        return np.broadcast_to(state.time[:, None], state.active.shape[:2]).astype(float)


@path("layer_revivals", NEURONS, dtype=int, networks="layered")
class Revivals(Path):
    """How often a neuron that was on at no sample is on again at the next recording time; -1: beyond the layer's width."""

    def begin(self, state: LayeredSnapshot) -> Carry:
        there = np.isfinite(of_neurons(state, "squares_in")) | state.active
        return {"active": state.active.copy(), "count": np.where(there, 0, -1).astype(np.int32)}

    def follow(self, carry: Carry, state: LayeredSnapshot) -> None:
        carry["count"] += state.active & ~carry["active"]
        carry["active"][...] = state.active

    def end(self, carry: Carry) -> np.ndarray:
        return carry["count"]


@path("layer_deaths", NEURONS, dtype=int, networks="layered")
class Deaths(Revivals):
    """Whether a neuron was on at no sample at some recording time, 0 or 1; -1: beyond the layer's width."""

    def begin(self, state: LayeredSnapshot) -> Carry:
        carry = super().begin(state)
        carry["count"] += (carry["count"] == 0) & ~state.active
        return carry

    def follow(self, carry: Carry, state: LayeredSnapshot) -> None:
        carry["count"] |= ((carry["count"] == 0) & ~state.active).astype(np.int32)
