"""Times to an event that does not always come."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy

from mcrace.compiled import compiled


@dataclass(frozen=True)
class Survival:
    """A share that is left, by time.

    Attributes
    ----------
    times : array [time]
        The distinct times, of events and of censoring.
    share : array [time]
        Share without the event just after each (Kaplan & Meier 1958).
    low, high : arrays [time]
        Its 95 % interval at each time; NaN where the share is 0 or 1, of which the formula says nothing.
    """

    times: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def survival(times: np.ndarray, observed: np.ndarray) -> Survival:
    """Share without the event by time, with its pointwise band (log-log form of Greenwood's; Kalbfleisch & Prentice 1980).

    The band takes the times as independent: one a network, or it describes these networks alone.

    Parameters
    ----------
    times : float array [unit]
        Of the event, or until when none had come; a NaN is left out.
    observed : bool array [unit]
        Whether the event came.

    Examples
    --------
    >>> found = survival(np.array([1.0, 2.0, 3.0, 3.0]), np.array([True, True, False, True]))
    >>> found.times.tolist(), found.share.round(4).tolist()
    ([1.0, 2.0, 3.0], [0.75, 0.5, 0.25])
    """
    data = _censored(times, observed)
    if len(data) == 0:
        return Survival(*(np.zeros(0) for _ in range(4)))
    found = scipy.stats.ecdf(data).sf
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined")  # where the share is 0 or 1
        band = found.confidence_interval(0.95, method="log-log")
    return Survival(found.quantiles, found.probabilities, band.low.probabilities, band.high.probabilities)


def logrank_p(times: np.ndarray, observed: np.ndarray, other_times: np.ndarray, other_observed: np.ndarray) -> float:
    """Two-sided p-value of the log-rank test that two groups of independent units have one law of times (Mantel 1966)."""
    return float(scipy.stats.logrank(_censored(times, observed), _censored(other_times, other_observed)).pvalue)


def _censored(times: np.ndarray, observed: np.ndarray) -> scipy.stats.CensoredData:
    known = ~np.isnan(times)
    came = known & np.asarray(observed, bool)
    return scipy.stats.CensoredData(uncensored=times[came], right=times[known & ~came])


def harrell_c(predicted: np.ndarray, observed: np.ndarray, event: np.ndarray) -> np.ndarray:
    """How well predicted times order the observed ones in each network (Harrell et al. 1982).

    The share, among pairs of neurons of which it is known who comes first, of those predicted in this order; equal
    predictions count half.  Of two neurons the first is known if the earlier time is an event, and at equal times if one
    is an event and the other is censored.

    Parameters
    ----------
    predicted : float array [network, neuron]
        The time predicted; may be infinite.  Neurons with a NaN here or in `observed` are left out.
    observed : float array [network, neuron]
        The time of the event, or until when none had come.
    event : bool array [network, neuron]
        Whether the event came.

    Returns
    -------
    array [network]
        1 for the right order, about 1/2 for none; NaN where no pair can be compared.

    Examples
    --------
    >>> t = np.array([[1.0, 2.0, 3.0, 3.0]])
    >>> harrell_c(np.array([[1.0, 2.0, 4.0, 3.0]]), t, np.array([[True, True, False, False]])).tolist()
    [1.0]
    """
    out = np.full(len(predicted), np.nan)
    _concordance(np.asarray(predicted, float), np.asarray(observed, float), np.asarray(event, bool), out)
    return out


@compiled
def _concordance(predicted, observed, event, out):
    for i in range(len(predicted)):
        halves, pairs = 0, 0
        for a in range(predicted.shape[1]):
            if not event[i, a] or np.isnan(predicted[i, a]) or np.isnan(observed[i, a]):
                continue
            for b in range(predicted.shape[1]):
                later = observed[i, a] < observed[i, b] or (observed[i, a] == observed[i, b] and not event[i, b])
                if later and not np.isnan(predicted[i, b]):
                    pairs += 1
                    if predicted[i, a] < predicted[i, b]:
                        halves += 2
                    elif predicted[i, a] == predicted[i, b]:
                        halves += 1
        if pairs:
            out[i] = halves / (2 * pairs)
