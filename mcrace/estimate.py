"""What a study will cost: its own kernels are timed on a few networks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from mcrace import plan
from mcrace.study import Cell, Study


@dataclass(frozen=True)
class Estimate:
    """What a cell would cost."""

    cell: Cell
    shards: int
    core_seconds: float
    stored_bytes: int
    batch_bytes: int


def estimate(study: Study) -> list[Estimate]:
    """The cost of each cell, if every network took all its steps, by timing its own kernel on a few networks."""
    found = []
    for cell in study.cells:
        cell.config.task.pool()  # says what the data lack, as a run would
        size = plan.shard_size(cell.config)
        rate = _steps_per_second(cell)
        count = cell.seeds.count
        found.append(Estimate(cell, -(-count // size), count * cell.config.training.steps / rate,
                              count * plan.stored_bytes_per_network(cell.config),
                              plan.batch_bytes(cell.config)))
    return found


def _steps_per_second(cell: Cell) -> float:
    """Steps a second of one core on networks of the size of the cell's, timed for a tenth of a second and more."""
    from mcrace.kernels import networks

    config = cell.config
    n, N, m, d = 16, config.task.samples, config.network.hidden[0], config.task.inputs()
    rng = np.random.default_rng(0)
    W, v, y = rng.normal(size=(n, m, d)) / d, rng.normal(size=(n, m)) / m, rng.choice([-1.0, 1.0], (n, N))
    few = networks(W, v, rng.normal(size=(n, N, d)) / np.sqrt(d), y, config.task.loss, config.training.dtype)
    steps, spent = 1, 0.0
    few.advance(0, np.full(1, 1e-6))
    while spent < 0.1:
        steps *= 4
        began = time.perf_counter()
        few.advance(0, np.full(steps, 1e-6))
        spent = time.perf_counter() - began
    return n * steps / spent


