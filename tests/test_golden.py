"""The bits of a few networks: whoever changes them raises ENGINE in plan.py, and then these digests."""

import numpy as np

import mcrace
from mcrace import store
from mcrace.completion import complete
from mcrace.plan import ENGINE
from mcrace.recording import Recorder
from mcrace.study import recording_steps
from mcrace.training import train

STUDY = """
[study]
name = "golden"
seeds = 20
entropy = 5
[task]
kind = "gaussian"
dimension = 5
samples = 12
[network]
hidden = [7]
init = { scale = 0.3 }
[training]
step_size = 2.0
steps = 60
until = { loss_drop = 0.7 }
[record]
weights = "ends"
"""
GOLDEN = {1: "1b61ad071619de4d335cfb660f9e341d2d0610357096ae665334c5ca4c7c82ff"}


def run() -> Recorder:
    study = complete(mcrace.parse_study(STUDY))
    config = study.cells[0].config
    return train(config, {}, study.entropy, np.arange(20), recording_steps(config.record.times, 60), 16)


def test_the_bits_are_those_of_this_engine():
    found = run()
    assert len(set(found.stop_step)) > 3
    weights = np.concatenate([found.weights["W_final"], found.weights["v_final"][:, :, None]], axis=2)
    assert store.digest(weights) == GOLDEN[ENGINE]
