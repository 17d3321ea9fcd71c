"""Robustness: what networks say of clean and of corrupted test samples, and how sure they are (THEORY.md,
corruption-robustness).

Nothing is trained again for corrupted tests: corruption and severity are dimensions.  Outputs are taken as the log odds of
the label +1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mcrace.observe.base import observable
from mcrace.observe.snapshot import Moment
from mcrace.statistics.calibration import calibration_errors, separations

UNDER = ("corruption", "severity")


def _right(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(f).all(axis=1), (f * y > 0).mean(axis=1), np.nan)


def _likelihoods(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.cumsum(np.logaddexp(0, -y * f), axis=1)[:, -1] / f.shape[1]


def _error_areas(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How well a low probability of the answer tells errors."""
    return separations(-np.abs(f), f * y <= 0)


def _clean(state: Moment, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    f, y = (a.reshape(len(a), -1) for a in (state.test.outputs, state.test.y))
    return reduce(f, y)


def _corrupted(state: Moment, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    f, y = state.corrupted_outputs, state.test.y
    labels = np.broadcast_to(y[:, None, None], f.shape)
    rows = [np.ascontiguousarray(a).reshape(np.prod(f.shape[:3]), -1) for a in (f, labels)]
    return reduce(*rows).reshape(f.shape[:3])


@observable("test_nll", tests=True)
def _test_nll(state: Moment) -> np.ndarray:
    """Mean negative log likelihood of the labels of test samples."""
    return _clean(state, _likelihoods)


@observable("test_ece", tests=True)
def _test_ece(state: Moment) -> np.ndarray:
    """Expected calibration error on test samples, in 15 bins of the probability of the answer."""
    return _clean(state, calibration_errors)


@observable("test_error_auc", tests=True)
def _test_error_auc(state: Moment) -> np.ndarray:
    """Area under the ROC curve of telling errors on test samples by a low probability of the answer; NaN without errors."""
    return _clean(state, _error_areas)


@observable("corrupted_accuracy", UNDER, tests=True, images=True)
def _corrupted_accuracy(state: Moment) -> np.ndarray:
    """Share of corrupted test samples whose output has the sign of the label."""
    return _corrupted(state, _right)


@observable("corrupted_nll", UNDER, tests=True, images=True)
def _corrupted_nll(state: Moment) -> np.ndarray:
    """Mean negative log likelihood of the labels of corrupted test samples."""
    return _corrupted(state, _likelihoods)


@observable("corrupted_ece", UNDER, tests=True, images=True)
def _corrupted_ece(state: Moment) -> np.ndarray:
    """Expected calibration error on corrupted test samples, in 15 bins of the probability of the answer."""
    return _corrupted(state, calibration_errors)


@observable("corrupted_error_auc", UNDER, tests=True, images=True)
def _corrupted_error_auc(state: Moment) -> np.ndarray:
    """Area under the ROC curve of telling errors on corrupted test samples by a low probability of the answer; NaN without
    errors.
    """
    return _corrupted(state, _error_areas)
