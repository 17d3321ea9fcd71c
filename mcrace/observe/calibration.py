"""How sure a classifier is, and whether it is right to be: calibration, and how well a score tells one group from another.

A row is what one network says of many samples; outputs are the log odds of the label +1.
"""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled

BINS = 15


def calibration_errors(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Expected calibration error of each row, in 15 bins of equal width between 0 and 1 (Guo et al., ICML 2017).

    The mean over samples of |share of right answers - mean probability of the answer|, both of the sample's bin.

    Parameters
    ----------
    outputs, labels : arrays [row, sample]
        Log odds of the label +1, and labels -1 or +1.

    Returns
    -------
    float64 array [row]
        NaN for a row that is not finite.

    Examples
    --------
    >>> surely, right = np.full((1, 4), 30.0), np.array([[1.0, 1.0, 1.0, -1.0]])
    >>> calibration_errors(surely, right).round(6).tolist()
    [0.25]
    """
    outputs = np.asarray(outputs, float)
    out = np.full(len(outputs), np.nan)
    _errors(1 / (1 + np.exp(-np.abs(outputs))), np.where(outputs * labels > 0, 1.0, 0.0), out)
    return np.where(np.isfinite(outputs).all(axis=1), out, np.nan)


@compiled
def _errors(probability, right, out):
    for i in range(len(out)):
        excess = np.zeros(BINS)
        for n in range(probability.shape[1]):
            p = probability[i, n]
            if np.isnan(p):
                continue
            excess[min(int(p * BINS), BINS - 1)] += right[i, n] - p
        total = 0.0
        for b in range(BINS):
            total += abs(excess[b])
        out[i] = total / probability.shape[1]


def separations(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row: the chance that a positive has a higher score than another; ties count half.

    Parameters
    ----------
    scores : array [row, sample]
    positive : bool array [row, sample]

    Returns
    -------
    float64 array [row]
        NaN for a row without a positive, or of nothing else, or that is not finite.

    Examples
    --------
    >>> separations(np.array([[0.1, 0.2, 0.2, 0.9]]), np.array([[False, True, False, True]])).tolist()
    [0.875]
    """
    scores = np.asarray(scores, float)
    out = np.full(len(scores), np.nan)
    _areas(scores, np.argsort(scores, axis=1, kind="stable"), np.broadcast_to(positive, scores.shape), out)
    return np.where(np.isfinite(scores).all(axis=1), out, np.nan)


@compiled
def _areas(scores, order, positive, out):
    samples = scores.shape[1]
    for i in range(len(out)):
        wins, below, start = 0.0, 0, 0
        while start < samples:
            stop, ups = start, 0
            while stop < samples and scores[i, order[i, stop]] == scores[i, order[i, start]]:
                ups += positive[i, order[i, stop]]
                stop += 1
            if stop == start:  # a NaN is equal to nothing
                break
            downs = stop - start - ups
            wins += ups * (below + downs / 2)
            below += downs
            start = stop
        pairs = below * (samples - below)
        if start == samples and pairs > 0:
            out[i] = wins / pairs
