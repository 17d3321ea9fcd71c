"""Predictions, one file each: a law, what its test needs, the test, and the control that must fail it.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions.base import PREDICTIONS, Needs, Prediction, Verdict, prediction
from mcrace.predictions.early_phase import EarlyPhase
from mcrace.predictions.extremal_directions import ExtremalDirections
from mcrace.predictions.judging import test
from mcrace.predictions.mutual_alignment import MutualAlignment
from mcrace.predictions.racing import Racing
from mcrace.predictions.unbalanced_start import UnbalancedStart
from mcrace.predictions.unlocking import Unlocking
from mcrace.predictions.winner_stability import WinnerStability

__all__ = ["PREDICTIONS", "EarlyPhase", "ExtremalDirections", "MutualAlignment", "Needs", "Prediction", "Racing",
           "UnbalancedStart", "Unlocking", "Verdict", "WinnerStability", "prediction", "test"]
