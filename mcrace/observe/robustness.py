"""Robustness: what networks say of clean and of corrupted test samples, and how sure they are (THEORY.md,
corruption-robustness).

Nothing is trained again for corrupted tests: corruption and severity are dimensions.  Outputs are taken as the log odds of
the label +1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mcrace.kernels.losses import mean_losses_of
from mcrace.observe.base import observable
from mcrace.observe.calibration import calibration_errors, separations
from mcrace.observe.snapshot import NORMALISATIONS, Moment
from mcrace.tasks.corruption import CONDITIONS

UNDER = ("corruption", "severity")


def _right(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(f).all(axis=1), (f * y > 0).mean(axis=1), np.nan)


def _likelihoods(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    return mean_losses_of(f, y, "logistic")


def _error_areas(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How well a low probability of the answer tells errors."""
    return separations(-np.abs(f), f * y <= 0)


def _clean(state: Moment, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    f, y = (a.reshape(len(a), -1) for a in (state.test.outputs, state.test.y))
    return reduce(f, y)


def _corrupted(state: Moment, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    return _under_each(state.corrupted_outputs, state.test.y, reduce)


def _under_each(
    found: np.ndarray, y: np.ndarray, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """What is found [network, corruption, severity, sample(, output)] and the labels, reduced over samples."""
    labels = np.broadcast_to(y[:, None, None], found.shape)
    rows = [np.ascontiguousarray(a).reshape(np.prod(found.shape[:3]), -1) for a in (found, labels)]
    return reduce(*rows).reshape(found.shape[:3])


@observable("test_nll", tests=True, networks="any")
def _test_nll(state: Moment) -> np.ndarray:
    """Mean negative log likelihood of the labels of test samples."""
    return _clean(state, _likelihoods)


@observable("test_ece", tests=True, networks="any")
def _test_ece(state: Moment) -> np.ndarray:
    """Expected calibration error on test samples, in 15 bins of the probability of the answer."""
    return _clean(state, calibration_errors)


@observable("test_error_auc", tests=True, networks="any")
def _test_error_auc(state: Moment) -> np.ndarray:
    """Area under the ROC curve of telling errors on test samples by a low probability of the answer; NaN without errors."""
    return _clean(state, _error_areas)


@observable("corrupted_accuracy", UNDER, tests=True, images=True, networks="any")
def _corrupted_accuracy(state: Moment) -> np.ndarray:
    """Share of corrupted test samples whose output has the sign of the label."""
    return _corrupted(state, _right)


@observable("corrupted_nll", UNDER, tests=True, images=True, networks="any")
def _corrupted_nll(state: Moment) -> np.ndarray:
    """Mean negative log likelihood of the labels of corrupted test samples."""
    return _corrupted(state, _likelihoods)


@observable("corrupted_ece", UNDER, tests=True, images=True, networks="any")
def _corrupted_ece(state: Moment) -> np.ndarray:
    """Expected calibration error on corrupted test samples, in 15 bins of the probability of the answer."""
    return _corrupted(state, calibration_errors)


@observable("corrupted_error_auc", UNDER, tests=True, images=True, networks="any")
def _corrupted_error_auc(state: Moment) -> np.ndarray:
    """Area under the ROC curve of telling errors on corrupted test samples by a low probability of the answer; NaN without
    errors.
    """
    return _corrupted(state, _error_areas)


# ------------------------------------------------------------------------------------------------- of the normalisation


def _nothing(state: Moment, *sizes: int) -> np.ndarray:
    return np.full((len(state.step), *sizes), np.nan)


@observable("test_uncertainty", tests=True, networks="any")
def _test_uncertainty(state: Moment) -> np.ndarray:
    """The first hidden layer's own uncertainty 1/σ_eff², mean over test samples; NaN where it is not normalised."""
    if state.origin.config.network.norm is None:
        return _nothing(state)
    found = state.test.uncertainties[0]
    return np.cumsum(found, axis=1)[:, -1] / found.shape[1]


@observable("corrupted_uncertainty", UNDER, tests=True, images=True, networks="any")
def _corrupted_uncertainty(state: Moment) -> np.ndarray:
    """The first hidden layer's own uncertainty 1/σ_eff², mean over corrupted test samples; NaN where it is not normalised."""
    if state.origin.config.network.norm is None:
        return _nothing(state, *map(len, (CONDITIONS, CONDITIONS[0])))
    found = state.corrupted_uncertainties
    return np.cumsum(found, axis=3)[..., -1] / found.shape[3]


@observable("uncertainty_error_auc", UNDER, tests=True, images=True, networks="any")
def _uncertainty_error_auc(state: Moment) -> np.ndarray:
    """Area under the ROC curve of telling errors on corrupted test samples by 1/σ_eff² of the first hidden layer."""
    if state.origin.config.network.norm is None:
        return _nothing(state, *map(len, (CONDITIONS, CONDITIONS[0])))
    wrong = state.corrupted_outputs * state.test.y[:, None, None] <= 0
    wrong = wrong if wrong.ndim == 4 else wrong.any(axis=4)
    return _under_each(state.corrupted_uncertainties, np.zeros(wrong.shape[:1] + wrong.shape[3:]),
                       lambda found, _: separations(found, wrong.reshape(found.shape)))


def _swapped(state: Moment, reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    if state.origin.config.network.norm is None:
        return _nothing(state, len(NORMALISATIONS), *map(len, (CONDITIONS, CONDITIONS[0])))
    each = np.moveaxis(state.swapped_outputs, 3, 0)
    return np.stack([_under_each(outputs, state.test.y, reduce) for outputs in each], axis=1)


@observable("swapped_accuracy", ("test_norm", *UNDER), tests=True, images=True, networks="any")
def _swapped_accuracy(state: Moment) -> np.ndarray:
    """Accuracy on corrupted test samples behind each of the normalisations, whatever it was trained with; NaN without any."""
    return _swapped(state, _right)


@observable("swapped_nll", ("test_norm", *UNDER), tests=True, images=True, networks="any")
def _swapped_nll(state: Moment) -> np.ndarray:
    """Mean negative log likelihood on corrupted test samples behind each of the normalisations; NaN without any."""
    return _swapped(state, _likelihoods)
