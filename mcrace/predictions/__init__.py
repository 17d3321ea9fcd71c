"""Predictions by name: each a law, what it needs recorded, its statistic, and the control that must fail.

A new one is one file here, or an installed plug-in (group ``mcrace.predictions``).
"""

from mcrace.predictions import (
    angular_momentum,
    balancedness,
    capacity,
    corruption_robustness,
    cyclic_order,
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
    tangent_convergence,
    unbalanced_start,
    unlocking,
    winner_concentration,
    winner_stability,
)
from mcrace.predictions.base import PREDICTIONS, Evidence, Needs, Options, Prediction, Verdict, prediction
from mcrace.predictions.forms import judge_mean
from mcrace.predictions.judging import cases, test
from mcrace.predictions.panels import Panel

__all__ = ["PREDICTIONS", "Evidence", "Needs", "Options", "Panel", "Prediction", "Verdict", "angular_momentum",
           "balancedness", "capacity", "cases", "corruption_robustness", "cyclic_order", "depth_transfer", "early_phase",
           "extremal_directions", "fixed_gate_race", "growth_law", "judge_mean", "lottery_ticket", "merging",
           "mutual_alignment", "normalised_growth", "prediction", "racing", "sign_and_death", "span_freezing",
           "tangent_convergence", "test", "unbalanced_start", "unlocking", "winner_concentration", "winner_stability"]
