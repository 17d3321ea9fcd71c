"""The bits of a few networks: whoever changes them raises ENGINE in plan.py, and then these digests."""

import numpy as np
import pytest

import mcrace
from mcrace import store
from mcrace.completion import complete
from mcrace.kernels import choose
from mcrace.plan import ENGINE
from mcrace.recording import Recorder
from mcrace.sections import recording_steps
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
GOLDEN = {
    (6, "one-layer-lanes"): "1b61ad071619de4d335cfb660f9e341d2d0610357096ae665334c5ca4c7c82ff",
    (6, "one-layer-gram"): "6a3b9354c407ac4677675b6f76ca4a48d9dbf733d3f31162b1ae4a3634c69016",
}


def run(dimension: int) -> Recorder:
    study = complete(mcrace.parse_study(STUDY.replace("dimension = 5", f"dimension = {dimension}")))
    config = study.cells[0].config
    return train(config, {}, study.entropy, np.arange(20), recording_steps(config.record.times, 60), 16)


@pytest.mark.parametrize("dimension, kernel", [(5, "one-layer-lanes"), (100, "one-layer-gram")])
def test_the_bits_are_those_of_this_engine(dimension, kernel):
    assert choose(dimension, 7, 12, "float64", True).kernel == kernel
    found = run(dimension)
    assert len(set(found.stop_step)) > 3
    weights = np.concatenate([found.weights["W_final"], found.weights["v_final"][:, :, None]], axis=2)
    assert store.digest(weights) == GOLDEN[ENGINE, kernel]
