"""tickets: parts of a network trained again from their own start (text R; THEORY.md, lottery-ticket)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mcrace.compiled import compiled
from mcrace.initial import initial_weights
from mcrace.kernels import Weights
from mcrace.observe.capacity import fewest_kept
from mcrace.recording import LEVELS, Recorder
from mcrace.schedule import times_at
from mcrace.sections import Config, Until, recording_steps
from mcrace.seeds import SHARED, Stream
from mcrace.stages.base import Stage, Trained, stage
from mcrace.store import Variable
from mcrace.training import train

END = "level=0.1"
LEAST, MOST = 4, 16  # neurons of the tickets of the network's own size: two of each sign and class, and room in the packed one
FEW = 10  # neurons of the tickets that the quantitative law is tested on
SUBSETS = 10  # random ones among these
TO_ONSET = 0.7  # of the steps of a run: a guess
OWN = ("winners", "handicap", "random", "a0", "snip", "fresh")
TEN = ("handicap", "cosine", "a0", "matched", *(f"random-{k}" for k in range(SUBSETS)))
VARIANTS = (*OWN, *(f"ten:{name}" for name in TEN), *(f"other:{name}" for name in TEN))
AT_START = ("norm_product", "input_norm", "output_weight", "cosine", "drift_norm", "active")


def another_direction(entropy: int, X: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Labels sign(x·u), with u random and orthogonal to the first drift, ½ mean(y x) (THEORY.md, lottery-ticket).

    Parameters
    ----------
    X, y : arrays [network, sample, input] and [network, sample], or without the network where they are shared
    seeds : int64 array [network]
        u comes from the stream (entropy, another, network).
    """
    shared = X.ndim == 2
    samples, labels, networks = (X[None], y[None], [SHARED]) if shared else (X, y, seeds.tolist())
    out = np.empty(labels.shape)
    for i, network in enumerate(networks):
        drift = np.cumsum(labels[i][:, None] * samples[i], axis=0)[-1]
        u = Stream(entropy, "another", network).normals(len(drift))
        u -= np.cumsum(u * drift)[-1] / np.cumsum(drift * drift)[-1] * drift
        out[i] = np.where(np.cumsum(samples[i] * u, axis=1)[:, -1] > 0, 1.0, -1.0)
    return out[0] if shared else out


@dataclass(frozen=True)
class Start:
    """What is known of the neurons of the whole networks before training; arrays [network, neuron].

    Attributes
    ----------
    v, a, cosine : output weights, norm products, and cos δ to the drift
    handicap : H = (|v| + |w| cos δ)²/4
    drift : |D|
    usable : whether a neuron is on at any sample
    clock : array [network]
        Median |D| of the usable neurons.
    """

    v: np.ndarray
    a: np.ndarray
    cosine: np.ndarray
    handicap: np.ndarray
    drift: np.ndarray
    usable: np.ndarray
    clock: np.ndarray

    @classmethod
    def of(cls, record: Recorder) -> Start:
        """From what was recorded at the start."""
        at = {name: record.at[name][:, record.states.index("start")] for name in AT_START}
        usable = at["active"] == 1
        drift = np.where(usable, at["drift_norm"], np.nan)
        handicap = (np.abs(at["output_weight"]) + at["input_norm"] * at["cosine"]) ** 2 / 4
        clock = np.array([np.median(row[on]) if on.any() else np.nan for row, on in zip(drift, usable)])
        return cls(at["output_weight"], at["norm_product"], at["cosine"], handicap, drift, usable, clock)

    def highest(self, score: np.ndarray, size: np.ndarray, width: int) -> np.ndarray:
        """The neurons of highest score, half of each sign: int array [network, slot], -1 where there is none.

        Parameters
        ----------
        score : array [network, neuron]
        size : int array [network]
        width : int
            Slots.
        """
        slots = []
        for sign, count in ((1, (size + 1) // 2), (-1, size // 2)):
            room = (width + (sign > 0)) // 2
            usable = np.where(self.usable & (self.v * sign > 0) & np.isfinite(score), score, -np.inf)
            order = np.argsort(-usable, axis=1, kind="stable")[:, :room]
            taken = np.isfinite(np.take_along_axis(usable, order, axis=1)) & (np.arange(room) < count[:, None])
            slots.append(np.where(taken, order, -1))
        return np.concatenate(slots, axis=1)

    def sum_of(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Σ over chosen neurons [network]; NaN where none is, or one has no value."""
        known = (chosen >= 0) & (chosen < values.shape[1])
        picked = np.where(known, np.take_along_axis(values, np.where(known, chosen, 0), axis=1), 0)
        return np.where(known.any(axis=1) & (known == (chosen >= 0)).all(axis=1), np.cumsum(picked, axis=1)[:, -1], np.nan)


@compiled
def matched(chosen, v, a, usable, out):
    """For each chosen neuron one off the ticket, of its sign and of the nearest a, by ratio, that is still free; -1: none."""
    for i in range(len(chosen)):
        free = usable[i].copy()
        for slot in range(chosen.shape[1]):
            if chosen[i, slot] >= 0:
                free[chosen[i, slot]] = False
        for slot in range(chosen.shape[1]):
            one, best, found = chosen[i, slot], np.inf, -1
            if one >= 0:
                for other in range(v.shape[1]):
                    apart = max(a[i, other] / a[i, one], a[i, one] / a[i, other])
                    if free[other] and v[i, other] * v[i, one] > 0 and apart < best:
                        best, found = apart, other
                if found >= 0:
                    free[found] = False
            out[i, slot] = found


@stage("tickets")
class Tickets(Stage):
    """Parts of each network, half a sign of v, are trained again from their own initial weights, with the same step and as
    many steps: those of K = max(4, K_merge) neurons, made even and 16 at most, as long as the network was; those of ten up
    to the onset, on the task and on labels of another direction.
    """

    observables = (*(f"{name}@start" for name in AT_START), "zero_loss@start", f"norm_product@{END}", f"merge_curve@{END}")

    def work(self, config: Config) -> float:
        m = config.network.hidden[0]
        return (len(OWN) * min(MOST, m) + TO_ONSET * 2 * len(TEN) * min(FEW, m)) / m

    def run(self, trained: Trained) -> dict[str, Variable]:
        start, other = Start.of(trained.record), Start.of(_first_drift_of_another(trained))
        size, tickets = _tickets(trained, start)
        shape = (len(trained.seeds), len(VARIANTS))
        step, stop = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        loss, sums, others = (np.full(shape, np.nan) for _ in range(3))
        neurons = np.full((*shape, min(MOST, trained.config.network.hidden[0])), -1, np.int32)
        for k, (name, chosen) in enumerate(tickets):
            record = _train_again(trained, name, chosen)
            none = (chosen < 0).all(axis=1)
            step[:, k] = np.where(none, -1, record.state_step[:, record.states.index("onset")])
            if name in OWN:
                stop[:, k] = np.where(none, -1, record.stop_step)
                loss[:, k] = np.where(none, np.nan, record.at["loss"][:, record.states.index("final")])
            neurons[:, k, : chosen.shape[1]] = chosen
            sums[:, k], others[:, k] = start.sum_of(start.handicap, chosen), other.sum_of(other.handicap, chosen)
        time = np.where(step >= 0, times_at(trained.config.training, step), np.nan)
        values: tuple[np.ndarray, ...] = (size, neurons, sums, others, start.clock, other.clock, step, time, stop, loss)
        return {"variant": Variable(("variant",), np.array(VARIANTS, object)),
                **{name: Variable(dims, array, {"description": text, "units": units})
                   for (name, dims, text, units), array in zip(STORED, values, strict=True)}}


EACH = ("seed", "variant")
STORED = (
    ("ticket_size", ("seed",), "neurons of the tickets of the network's own size, max(4, K_merge) made even, 16 at most", "1"),
    ("ticket_neurons", (*EACH, "slot"), "neurons of each ticket; from the network's width on: new ones; -1: none", "1"),
    ("ticket_handicap", EACH, "sum of the handicaps H of a ticket on the labels of the task", "1"),
    ("ticket_handicap_other", EACH, "sum of the handicaps H of a ticket on labels of another direction", "1"),
    ("ticket_clock", ("seed",), "median |D| of the whole network at the start", "1"),
    ("ticket_clock_other", ("seed",), "median |D| of the whole network at the start on labels of another direction", "1"),
    ("ticket_onset_step", EACH, "first step with L ≤ 0.99 L_0 of a ticket trained alone; -1: never", "step"),
    ("ticket_onset_time", EACH, "time of that step", "sum of step sizes"),
    ("ticket_stop_step", EACH, "step at which a ticket of the network's own size ended; -1: not trained so far", "step"),
    ("ticket_final_loss", EACH, "loss at that step", "1"),
)


def _first_drift_of_another(trained: Trained) -> Recorder:
    """The start of the whole networks on labels of another direction."""
    config = trained.config
    short = config.training.model_copy(update={"steps": 1, "until": None})
    record = config.record.model_copy(update={"observables": tuple(f"{name}@start" for name in AT_START), "weights": "none"})
    return train(replace(config, training=short, record=record), trained.pool, trained.entropy, trained.seeds,
                 np.array([0]), trained.batch, labels=lambda *data: another_direction(trained.entropy, *data))


def _tickets(trained: Trained, start: Start) -> tuple[np.ndarray, Iterator[tuple[str, np.ndarray]]]:
    """How many neurons the tickets of the network's own size have, and the neurons of all tickets, in order."""
    m = trained.config.network.hidden[0]
    fewest = fewest_kept(trained.at("merge_curve", END), trained.at("zero_loss", "start"))
    got_there = np.isfinite(fewest)
    even = 2 * np.ceil(np.where(got_there, fewest, 0) / 2).astype(int)
    wide, few = min(MOST, m), min(FEW, m)
    size = np.where(got_there, np.clip(even, LEAST, wide), 0)
    uniform = np.stack([Stream(trained.entropy, "tickets", int(i)).uniforms(1 + SUBSETS, m) for i in trained.seeds])
    snip = start.a * start.drift * np.abs(start.cosine)
    own = {"winners": trained.at("norm_product", END), "handicap": start.handicap, "random": uniform[:, 0], "a0": start.a,
           "snip": snip}
    ten = {"handicap": start.handicap, "cosine": start.cosine, "a0": start.a,
           **{f"random-{k}": uniform[:, k + 1] for k in range(SUBSETS)}}
    found = {name: start.highest(score, size, wide) for name, score in own.items()}
    found["fresh"] = _new_neurons(trained, size, wide)
    for name, score in ten.items():
        found[f"ten:{name}"] = start.highest(score, np.full(len(size), few), few)
    alike = np.empty_like(found["ten:handicap"])
    matched(found["ten:handicap"], start.v, start.a, start.usable, alike)
    found["ten:matched"] = alike
    found.update({f"other:{name}": found[f"ten:{name}"] for name in TEN})
    return size, ((name, found[name]) for name in VARIANTS)


def _wider(config: Config) -> Config:
    """The configuration with new neurons behind its own, enough to find half a ticket of each sign among them."""
    hidden = (config.network.hidden[0] + 8 * MOST,)
    return replace(config, network=config.network.model_copy(update={"hidden": hidden}))


def _new_neurons(trained: Trained, size: np.ndarray, width: int) -> np.ndarray:
    """As many neurons that the network does not have, half of each sign: those behind its own."""
    m, out = trained.config.network.hidden[0], []
    for first in range(0, len(size), trained.batch):
        some = slice(first, first + trained.batch)
        _, v = initial_weights(_wider(trained.config), trained.entropy, trained.seeds[some])
        nothing = np.zeros(v.shape)
        new = Start(v, nothing, nothing, nothing, nothing, np.broadcast_to(np.arange(v.shape[1]) >= m, v.shape), nothing[:, 0])
        out.append(new.highest(-np.broadcast_to(np.arange(v.shape[1]), v.shape), size[some], width))
    return np.concatenate(out)


def _train_again(trained: Trained, name: str, chosen: np.ndarray) -> Recorder:
    """Train the chosen neurons alone from their own start: packed side by side, with neurons of weight 0, which never move,
    where there are fewer.
    """
    config = trained.config
    whole = _wider(config) if name == "fresh" else config

    def packed(seeds: np.ndarray) -> Weights:
        W, v = initial_weights(whole, trained.entropy, seeds)
        slots = chosen[np.searchsorted(trained.seeds, seeds)]
        rows = np.arange(len(seeds))[:, None]
        return np.where((slots >= 0)[:, :, None], W[rows, slots], 0.0), np.where(slots >= 0, v[rows, slots], 0.0)

    to_the_end = name in OWN
    training = config.training.model_copy(update={"initial_velocity": 0.0} if to_the_end else {
        "initial_velocity": 0.0, "until": Until(loss_drop=1 - LEVELS["onset"])})
    record = config.record.model_copy(update={"observables": ("loss@final",) if to_the_end else (), "weights": "none"})
    network = config.network.model_copy(update={"hidden": (chosen.shape[1],)})
    labels = (lambda *data: another_direction(trained.entropy, *data)) if name.startswith("other:") else None
    return train(replace(config, network=network, training=training, record=record), trained.pool, trained.entropy,
                 trained.seeds, recording_steps(config.record.times, training.steps), trained.batch, packed, labels)
