"""Small studies for the tests, how to compare what came of them, and how to run the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import psutil

TOKEN = "MCRACE_TEST_TOKEN"  # in the environment of a command and of all that it starts
COMMAND = [sys.executable, "-c", "from mcrace.cli import main; main()"]


def race(seeds: int = 40, more: str = "", **changes: str) -> str:
    """The text of a small study with both predictions and a lazy, paired control.

    Parameters
    ----------
    more : str
        What is added at the end.
    changes : str
        TOML values in place of those here: dimension, hidden, steps, loss, ...
    """
    values = {"name": '"small"', "entropy": "11", "samples": "20", "dimension": "5", "fresh": "true",
              "loss": '"logistic"', "hidden": "[8]", "scale": "1e-2", "step_size": "0.5", "steps": "300",
              "until": "{ loss_drop = 0.9 }", "dtype": '"float32"', "times": '{ spacing = "log", count = 12 }',
              "weights": '"none"', "observables": '["loss", "accuracy"]'} | changes
    v = values
    return f"""
[study]
name = {v["name"]}
seeds = {seeds}
entropy = {v["entropy"]}

[task]
kind = "gaussian"
samples = {v["samples"]}
dimension = {v["dimension"]}
fresh = {v["fresh"]}
loss = {v["loss"]}

[network]
hidden = {v["hidden"]}
init = {{ scale = {v["scale"]} }}

[training]
step_size = {v["step_size"]}
steps = {v["steps"]}
until = {v["until"]}
dtype = {v["dtype"]}

[record]
times = {v["times"]}
observables = {v["observables"]}
weights = {v["weights"]}

[[cells]]
name = "lazy"
"network.init.scale" = 1.0
"network.init.paired" = true

[predictions]
racing = {{ control = "lazy" }}
mutual-alignment = {{ control = "lazy" }}
{more}
"""
