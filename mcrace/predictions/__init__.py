"""Predictions, one file each: a law, what its test needs, the test, and the control that must fail it.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions.base import PREDICTIONS, Needs, Prediction, Verdict, prediction
from mcrace.predictions.judging import cases, test
from mcrace.predictions.mutual_alignment import MutualAlignment
from mcrace.predictions.panels import Panel
from mcrace.predictions.racing import Racing

__all__ = ["PREDICTIONS", "MutualAlignment", "Needs", "Panel", "Prediction", "Racing", "Verdict", "cases", "prediction", "test"]
