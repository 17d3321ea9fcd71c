"""What a study will cost: a few of its own networks are timed, and the rest is arithmetic, for 10 networks or 10^9."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from mcrace import plan
from mcrace.plan import Shard
from mcrace.sections import Config, recording_steps
from mcrace.study import Cell, Study
from mcrace.worker import compute

SECONDS = 0.2  # that the longest of the timed trainings takes, at least
NETWORKS = 32  # that are timed together
RECORDINGS = 9


@dataclass(frozen=True)
class Estimate:
    """What a cell would cost."""

    cell: Cell
    shards: int
    core_seconds: float
    stored_bytes: int
    batch_bytes: int


@dataclass(frozen=True)
class Speed:
    """Seconds that one core spends on a network: once, at each recording time, and at each step."""

    once: float
    recording: float
    step: float


def estimate(study: Study) -> list[Estimate]:
    """The cost of each cell, if every network took all its steps, by timing some networks of each sort of cell.

    Raises
    ------
    StudyError
        If the data lack what the study asks for.
    """
    plan.check_memory(study, plan.memory_here())
    found, speeds, pools = [], {}, {}
    for cell in study.cells:
        config, count = cell.config, cell.seeds.count
        task, alike = config.task.model_dump_json(), _alike(config)
        if task not in pools:
            pools[task] = config.task.pool()
        if (key := plan.identity(alike, 0)) not in speeds:
            speeds[key] = _speed(alike, pools[task])
        recordings = len(recording_steps(config.record.times, config.training.steps))
        speed = speeds[key]
        seconds = speed.once + recordings * speed.recording + config.training.steps * speed.step
        found.append(Estimate(cell, plan.shard_count(cell, [(cell.seeds.first, cell.seeds.first + count)]), count * seconds,
                              count * plan.stored_bytes_per_network(config),
                              plan.batch_bytes(config)))
    return found


def queue_jobs(estimates: Iterable[Estimate], cores: int, hours: float) -> int:
    """How many jobs of so many cores and hours the estimates fill; no more than there are shards."""
    seconds, shards = (sum(values) for values in zip(*((e.core_seconds, e.shards) for e in estimates)))
    return max(1, min(math.ceil(seconds / (cores * hours * 3600)), math.ceil(shards / cores)))


def _alike(config: Config) -> Config:
    """What cells of one speed have in common: nothing stops, and steps are so small that nothing diverges."""
    training = config.training.model_copy(update={"steps": 1, "until": None, "step_size": 1e-9})
    init = config.network.init.model_copy(update={"scale": 1.0, "ratio": 1.0})
    record = config.record.model_copy(update={"times": (0,)})
    return replace(config, training=training, network=config.network.model_copy(update={"init": init}), record=record)


def _speed(config: Config, pool: dict[str, np.ndarray]) -> Speed:
    """Time trainings that differ in their steps, and in their recording times."""
    _seconds(config, pool, 1, 1)  # compiles
    first, steps = _seconds(config, pool, 1, 1), RECORDINGS
    short = _seconds(config, pool, steps, 1)
    recorded = _seconds(config, pool, steps, RECORDINGS)
    long, spent = steps, short
    while (spent - first) * min(NETWORKS, plan.batch_size(config)) < SECONDS:  # of which what is done once is no part
        long *= 4
        spent = _seconds(config, pool, long, 1)
    spent = min(spent, _seconds(config, pool, long, 1))  # of two, the one that was disturbed less
    step = max(spent - first, 0.0) / (long - 1)
    return Speed(max(first - step, 0.0), max(recorded - short, 0.0) / (RECORDINGS - 1), step)


def _seconds(config: Config, pool: dict[str, np.ndarray], steps: int, recordings: int) -> float:
    """How long one core takes for a network, among others; what else the core does meanwhile does not count."""
    training = config.training.model_copy(update={"steps": steps})
    record = config.record.model_copy(update={"times": tuple(range(recordings))})
    count = min(NETWORKS, plan.batch_size(config))
    shard = Shard("", "", replace(config, training=training, record=record).plain(), 0, 0, count, count, "")
    began = time.process_time()
    compute(shard, pool)
    return (time.process_time() - began) / count
