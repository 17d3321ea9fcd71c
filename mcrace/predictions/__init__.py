"""Predictions by name: each a law, what it needs recorded, its statistic, and the control that must fail.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions import (
           balancedness,
           capacity,
           corruption_robustness,
           depth_transfer,
           early_phase,
           extremal_directions,
           fixed_gate_race,
           growth_law,
           lottery_ticket,
           merging,
           mutual_alignment,
           normalised_growth,
           racing,
           sign_and_death,
           span_freezing,
           unbalanced_start,
           unlocking,
           winner_stability,
)
from mcrace.predictions.base import PREDICTIONS, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean
from mcrace.predictions.judging import cases, test
from mcrace.predictions.panels import Panel

__all__ = ["PREDICTIONS", "Evidence", "Needs", "Options", "Panel", "Prediction", "Verdict", "balancedness", "capacity",
           "cases", "corruption_robustness", "depth_transfer", "early_phase", "extremal_directions", "fixed_gate_race",
           "growth_law", "judge_mean", "lottery_ticket", "merging", "mutual_alignment", "normalised_growth", "prediction",
           "racing", "sign_and_death", "span_freezing", "test", "unbalanced_start", "unlocking", "winner_stability"]
