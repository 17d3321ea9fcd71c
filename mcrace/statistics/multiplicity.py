"""Corrections for many tests."""

from __future__ import annotations

import numpy as np
import scipy


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values that control the chance of any false positive (Holm 1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values that control the share of false positives (Benjamini & Hochberg 1995)."""
    return scipy.stats.false_discovery_control(p) if len(p) else np.asarray(p, float)
