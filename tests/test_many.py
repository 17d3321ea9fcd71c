"""A million networks in ten thousand shards: counting them, listing them, merging them, in little time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import studies

import mcrace
from mcrace import directory, plan, store
from mcrace.completion import complete
from mcrace.merging import merge
from mcrace.study import Study
from mcrace.worker import compute, environment

PART = 100  # networks in a shard
TEXT = studies.race(1000, steps="20", times='{ spacing = "log", count = 4 }', observables='["loss"]').partition("[[cells]]")[0]


def study_of(networks: int, steps: int = 20) -> Study:
    """One cell of tiny networks."""
    return complete(mcrace.parse_study(TEXT.replace("steps = 20", f"steps = {steps}")).with_seeds(networks))


def shard_of(study: Study) -> tuple[str, plan.Shard]:
    """The identity of the cell, and its first shard."""
    cell = study.cells[0]
    shard = next(plan.shards_of(study, cell, [(0, PART)], PART, ""))
    return plan.identity(cell.config, study.entropy), shard


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """Makes a directory with so many shards: the first is computed, the others are as it is, with seeds of their own."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no disk has to last here

    def fill(shards: int) -> tuple[Study, Path]:
        study = study_of(shards * PART)
        name, shard = shard_of(study)
        one = compute(shard, {})
        store.publish_text(tmp_path / "study.toml", study.text)
        first = store.shard_path(tmp_path, name, 0, PART)
        store.write_shard(first, one, {"identity": name, "seconds": 1.0, "kernel": shard.cell, **environment()})
        body = store.sealed_bytes(first)
        for k in range(1, shards):
            path = store.shard_path(tmp_path, name, k * PART, (k + 1) * PART)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body + store.SEAL + store.hashlib.sha256(body).digest())
        return study, tmp_path

    return fill


def peak(call, *arguments) -> tuple[object, int, float]:
    """What a call returns, the memory of Python's at its peak, and its seconds."""
    began = time.perf_counter()
    tracemalloc.start()
    try:
        return call(*arguments), tracemalloc.get_traced_memory()[1], time.perf_counter() - began
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------- arithmetic


def test_shards_are_counted_without_being_made():
    study = study_of(10_000)
    cell = study.cells[0]
    rng = np.random.default_rng(5)
    for _ in range(200):
        ends = np.sort(rng.choice(10_000, 2 * rng.integers(1, 6), replace=False)).tolist()
        missing, size = list(zip(ends[::2], ends[1::2])), int(rng.integers(1, 3000))
        cuts = list(plan.cuts(cell, missing, size))
        assert plan.shard_count(cell, missing, size) == len(cuts)
        assert [s for a, b in cuts for s in (a, b)] == sorted(s for a, b in cuts for s in (a, b))
        assert sum(b - a for a, b in cuts) == sum(b - a for a, b in missing)
        assert all(b - a <= size and a // size == (b - 1) // size for a, b in cuts)


@pytest.mark.parametrize("steps", [1, 1000, 10**6, 10**9])
def test_a_cell_has_shards_enough_for_workers_to_end_together(steps):
    """All about as large; but none shorter than half of what a start is worth, or longer than one likes to lose."""
    most = plan.shard_size(study_of(10**8, steps).cells[0])
    for count in (1, 100, 1300, 10_000, 20_000, 10**6, 10**8):
        size = plan.shard_size(study_of(count, steps).cells[0])
        shards = -(-count // size)
        assert 16 <= size <= most <= plan.MAX_SHARD and size % 16 == 0
        assert shards * (size - 16) < count, "the last is not much smaller"
        assert shards == 1 or 2 * size * plan.SHARD_SECONDS >= 0.9 * most * plan.SHORT_SHARD_SECONDS
        assert shards <= plan.SHARDS or size > most * (1 - 1 / plan.SHARDS) - 16
