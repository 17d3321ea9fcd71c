"""Predictions, one file each: a law, what its test needs, the test, and the control that must fail it.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions.base import PREDICTIONS, Needs, Prediction, Verdict, prediction
from mcrace.predictions.capacity import Capacity
from mcrace.predictions.judging import test
from mcrace.predictions.lottery_ticket import LotteryTicket
from mcrace.predictions.merging import Merging
from mcrace.predictions.mutual_alignment import MutualAlignment
from mcrace.predictions.racing import Racing

__all__ = ["PREDICTIONS", "Capacity", "LotteryTicket", "Merging", "MutualAlignment", "Needs", "Prediction", "Racing",
           "Verdict", "prediction", "test"]
