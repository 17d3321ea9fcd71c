"""Predictions, one file each: a law, what its test needs, the test, and the control that must fail it.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions.balancedness import Balancedness
from mcrace.predictions.base import PREDICTIONS, Needs, Prediction, Verdict, prediction
from mcrace.predictions.fixed_gate_race import FixedGateRace
from mcrace.predictions.growth_law import GrowthLaw
from mcrace.predictions.judging import test
from mcrace.predictions.mutual_alignment import MutualAlignment
from mcrace.predictions.racing import Racing
from mcrace.predictions.sign_and_death import SignAndDeath
from mcrace.predictions.span_freezing import SpanFreezing

__all__ = ["PREDICTIONS", "Balancedness", "FixedGateRace", "GrowthLaw", "MutualAlignment", "Needs", "Prediction", "Racing",
           "SignAndDeath", "SpanFreezing", "Verdict", "prediction", "test"]
