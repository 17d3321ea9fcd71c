"""Alignment of neurons with each other, and with their drifts."""

from __future__ import annotations

import numpy as np

from mcrace.observe.base import observable
from mcrace.observe.clusters import alignment_of, cosines_between
from mcrace.observe.snapshot import Snapshot

HELD = 0.95  # share of the norm that the counted clusters hold
SOME = 64  # neurons whose cosines with each other are stored


@observable("mean_cosine")
def _mean_cosine(state: Snapshot) -> np.ndarray:
    """Σ a cos δ / Σ a over active neurons."""
    a = np.where(state.active, state.norm_product, 0)
    return np.sum(a * np.where(state.active, state.cosine, 0), axis=1) / np.sum(a, axis=1)


@observable("alignment")
def _alignment_of_neurons(state: Snapshot) -> np.ndarray:
    """A, the mean cosine of pairs of neurons of one sign, weighted by their norm products."""
    return alignment_of(state.W, state.v, state.norm_product)


@observable("cluster", ("neuron",), dtype=int)
def _cluster(state: Snapshot) -> np.ndarray:
    """Number of the neuron's cluster, the one that holds most norm first; 0: dead; -1: not computed."""
    return state.clusters


@observable("clusters_95")
def _clusters_95(state: Snapshot) -> np.ndarray:
    """N95, the fewest clusters that hold 95 % of Σa."""
    return held_by_fewest(state.clusters, state.norm_product)


def held_by_fewest(clusters: np.ndarray, product: np.ndarray) -> np.ndarray:
    """The fewest clusters that hold 95 % of the norm products of each network; NaN where clusters are not known."""
    counts = np.full(len(clusters), np.nan)
    for i in np.flatnonzero(clusters.max(axis=1) > 0):
        held = np.bincount(clusters[i], product[i])[1:]
        counts[i] = np.argmax(np.cumsum(held) >= HELD * held.sum() * (1 - 1e-12)) + 1
    return counts


@observable("some_cosine", ("some_neuron", "some_neuron_2"))
def _some_cosine(state: Snapshot) -> np.ndarray:
    """Cosines of the weights of the first 64 neurons with each other."""
    return cosines_between(state.W[:, :SOME])
