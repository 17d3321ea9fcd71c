"""layer-tickets: a part of every hidden layer trained again from its own start (THEORY.md, lottery-ticket, depth-transfer)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mcrace.initial import initial_weights
from mcrace.kernels import Weights
from mcrace.observe.capacity import fewest_kept
from mcrace.recording import LEVELS, Recorder
from mcrace.schedule import times_at
from mcrace.sections import Config, Until, recording_steps
from mcrace.seeds import Stream
from mcrace.stages.base import Stage, Trained, stage
from mcrace.store import Variable
from mcrace.training import train

END = "level=0.1"
LEAST, MOST = 4, 16  # neurons of a ticket in a layer
TO_ONSET = 0.7  # of the steps of a run: a guess
VARIANTS = ("winners", "handicap", "a0", "random")
AT_START = ("norm_product", "input_norm", "score", "active")


def highest(score: np.ndarray, usable: np.ndarray, size: np.ndarray, width: int) -> np.ndarray:
    """The usable neurons of highest score of a layer: int array [network, slot], -1 where there is none.

    Parameters
    ----------
    score : array [network, neuron]
    usable : bool array [network, neuron]
    size : int array [network]
        How many are taken.
    width : int
        Slots.
    """
    known = np.where(usable & np.isfinite(score), score, -np.inf)
    order = np.argsort(-known, axis=1, kind="stable")[:, :width]
    taken = np.isfinite(np.take_along_axis(known, order, axis=1)) & (np.arange(order.shape[1]) < size[:, None])
    return np.where(taken, order, -1)


def packed(weights: Weights, chosen: list[np.ndarray], biases: bool) -> Weights:
    """The chosen neurons of every hidden layer alone, side by side; those that are none have weights 0, and never move.

    Parameters
    ----------
    weights : tuple of arrays [network, ...]
        W_1, ..., W_H, V, then b_1, ..., b_H, b_out where there are biases; or W and v.
    chosen : list of int arrays [network, slot]
        Of each hidden layer; -1: none.
    """
    H = len(chosen)
    rows = np.arange(len(weights[0]))[:, None]
    out = []
    for l, W in enumerate(weights[: H + 1]):
        if l < H:
            W = np.where((chosen[l] >= 0)[:, :, None], W[rows, chosen[l]], 0.0)
        if l > 0:
            below = chosen[l - 1] if W.ndim == 2 else chosen[l - 1][:, None]  # v of a single output, or V
            W = np.where(below >= 0, np.take_along_axis(W, np.maximum(below, 0), -1), 0.0)
        out.append(W)
    if biases:
        out += [np.where(c >= 0, b[rows, c], 0.0) for b, c in zip(weights[H + 1 :], chosen)] + [weights[2 * H + 1]]
    return tuple(out)


@stage("layer-tickets")
class LayerTickets(Stage):
    """Parts of each network are trained again from their own initial weights, with the same step, up to the onset: of every
    hidden layer max(4, K_merge) neurons, 16 at most, the winners, or those of highest handicap (|w_out| + |w_in| score)²/4 or
    norm product at the start, or random ones.
    """

    layered = True
    observables = (*(f"layer_{name}@start" for name in AT_START), "zero_loss@start", f"layer_norm_product@{END}",
                   f"layer_merge_curve@{END}")

    def work(self, config: Config) -> float:
        m = max(config.network.hidden)
        return TO_ONSET * len(VARIANTS) * (min(MOST, m) / m) ** min(2, len(config.network.hidden))

    def run(self, trained: Trained) -> dict[str, Variable]:
        size, tickets = _tickets(trained)
        shape = (len(trained.seeds), len(VARIANTS))
        time = np.full(shape, np.nan)
        for k, name in enumerate(VARIANTS):
            record = _train_again(trained, tickets[name])
            step = record.state_step[:, record.states.index("onset")]
            time[:, k] = np.where(step >= 0, times_at(trained.config.training, step), np.nan)
        told = "time of the first step with L ≤ 0.99 L_0 of each layer ticket trained alone; NaN: never"
        return {"layer_ticket": Variable(("layer_ticket",), np.array(VARIANTS, object)),
                "layer_ticket_size": Variable(("seed", "layer"), size, {"description": "neurons of a ticket", "units": "1"}),
                "layer_ticket_onset_time": Variable(("seed", "layer_ticket"), time,
                                                    {"description": told, "units": "sum of step sizes"})}


def _tickets(trained: Trained) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """How many neurons of each layer a ticket has [network, layer], and which [network, slot] by variant and layer."""
    hidden = trained.config.network.hidden
    start = {name: trained.at(f"layer_{name}", "start") for name in AT_START}
    end, zero = trained.at("layer_norm_product", END), trained.at("zero_loss", "start")
    curves = trained.at("layer_merge_curve", END)
    sizes: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {name: [] for name in VARIANTS}
    uniform = [Stream(trained.entropy, "layer-tickets", int(i)).uniforms(len(hidden), max(hidden)) for i in trained.seeds]
    for l, m in enumerate(hidden):
        fewest = fewest_kept(curves[:, l], zero)
        size = np.where(np.isfinite(fewest), np.clip(np.nan_to_num(fewest), LEAST, min(MOST, m)), 0).astype(int)
        a, w, score, active = (start[name][:, l, :m] for name in AT_START)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = {"winners": end[:, l, :m], "handicap": (a / w + w * np.nan_to_num(score)) ** 2 / 4, "a0": a,
                      "random": np.stack(uniform)[:, l, :m]}
        for name in VARIANTS:
            found[name].append(highest(scores[name], active == 1, size, min(MOST, m)))
        sizes.append(size)
    return np.stack(sizes, axis=1), found


def _train_again(trained: Trained, chosen: list[np.ndarray]) -> Recorder:
    config = trained.config

    def beginning(seeds: np.ndarray) -> Weights:
        weights = initial_weights(config, trained.entropy, seeds)
        places = np.searchsorted(trained.seeds, seeds)
        return packed(weights, [c[places] for c in chosen], config.network.bias)

    training = config.training.model_copy(update={"initial_velocity": 0.0, "until": Until(loss_drop=1 - LEVELS["onset"])})
    record = config.record.model_copy(update={"observables": (), "weights": "none"})
    network = config.network.model_copy(update={"hidden": tuple(c.shape[1] for c in chosen)})
    return train(replace(config, network=network, training=training, record=record), trained.pool, trained.entropy,
                 trained.seeds, recording_steps(config.record.times, training.steps), trained.batch, beginning)
