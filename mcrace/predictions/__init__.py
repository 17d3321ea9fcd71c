"""Predictions, one file each: a law, what its test needs, the test, and the control that must fail it.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions.base import PREDICTIONS, Evidence, Needs, Options, Prediction, Verdict, judge_mean, prediction
from mcrace.predictions.judging import cases, test
from mcrace.predictions.mutual_alignment import MutualAlignment
from mcrace.predictions.panels import Panel
from mcrace.predictions.racing import Racing

__all__ = [
    "PREDICTIONS",
    "Evidence",
    "MutualAlignment",
    "Needs",
    "Options",
    "Panel",
    "Prediction",
    "Racing",
    "Verdict",
    "cases",
    "judge_mean",
    "prediction",
    "test",
]
