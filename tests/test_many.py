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


def test_a_plan_of_a_hundred_million_networks_is_flat():
    study = study_of(10**8)
    cell = study.cells[0]
    shards, memory, seconds = peak(lambda: list(islice(plan.shards_of(study, cell, [(0, 10**8)], 16, ""), 5)))
    assert [s.first for s in shards] == [0, 16, 32, 48, 64]
    assert plan.shard_count(cell, [(0, 10**8)], 16) == 6_250_000
    assert memory < 2e6
    assert seconds < 1


def test_the_folders_of_many_shards(tmp_path):
    """From a million seeds on, each million has its folder."""
    paths = [store.shard_path(tmp_path, "abc", first, first + 10) for first in (0, 999_990, 1_000_000, 2_500_000, 10**9)]
    assert [p.relative_to(tmp_path / "shards" / "abc").as_posix() for p in paths] == [
        "0-10.h5", "999990-1000000.h5", "1/1000000-1000010.h5", "2/2500000-2500010.h5", "1000/1000000000-1000000010.h5"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "shards" / "abc" / "other").mkdir()
    assert [first for first, _ in store.stored_ranges(tmp_path, "abc")] == [0, 999_990, 1_000_000, 2_500_000, 10**9]
    assert store.missing_ranges(tmp_path, "abc", 999_985, 1_000_020) == [(999_985, 999_990), (1_000_010, 1_000_020)]


def test_a_study_that_starts_beyond_a_million(tmp_path):
    text = studies.race(6).replace("seeds = 6", "seeds = { first = 999_998, count = 6 }").partition("[[cells]]")[0]
    found = mcrace.run(mcrace.parse_study(text), tmp_path, workers=0, shard_size=2)
    assert found.cell("main").seeds.tolist() == list(range(999_998, 1_000_004))
    assert len(list(tmp_path.glob("shards/*/1/*.h5"))) == 2
    assert found.path.stat().st_mtime_ns == mcrace.run(mcrace.parse_study(text), tmp_path, workers=0).path.stat().st_mtime_ns


# ------------------------------------------------------------------------------------------------- files


def assert_merged(path: Path, shards: int) -> None:
    found = mcrace.open_results(path).cell("main")
    assert found["loss"].shape == (shards * PART, 4)
    assert np.array_equal(found["loss"][-PART:], found["loss"][:PART], equal_nan=True)
    assert np.array_equal(found["status"].reshape(shards, PART), np.tile(found["status"][:PART], (shards, 1)))


def test_merging_some_hundred_shards(filled):
    """The memory is that of a buffer, not of all shards."""
    study, where = filled(300)
    work = directory.survey(study, where)
    results, memory, _ = peak(merge, work)
    assert memory < 3 * merge.__globals__["BUFFER_BYTES"]
    assert_merged(results.path, 300)


def test_status_counts_many(filled):
    study, where = filled(300)
    name, _ = shard_of(study)
    store.shard_path(where, name, 500, 600).unlink()
    found = directory.status(where)
    assert (found.done, found.missing, found.merged) == (29_900, 100, 0)


PROBE = """
import re, resource, sys
from mcrace import cli
try:
    cli.main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = re.search(r"VmHWM:\\s+([0-9]+)", open("/proc/self/status").read())[1]
    print(used.ru_utime + used.ru_stime, int(peak) / 1024, file=sys.stderr)
"""


def measured(*arguments: object) -> tuple[str, float, float]:
    """What a command prints, its processor time in seconds (others may share the machine), and its memory in megabytes.

    Python may keep its translation of the modules, as it does wherever it is not told otherwise.
    """
    done = subprocess.run([sys.executable, "-c", PROBE, *map(str, arguments)], capture_output=True, text=True, check=True,
                          env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"})
    seconds, megabytes = map(float, done.stderr.split())
    return done.stdout, seconds, megabytes


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_ten_thousand_shards(filled, tmp_path_factory, monkeypatch):
    """A million networks: the status takes no longer than the start of the command line, a merge less than a minute."""
    shards = 10_000
    _, where = filled(shards)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("translated")))
    measured("--version")  # translates the modules
    _, start, _ = measured("--version")
    said, seconds, small = measured("status", where, "--json")
    assert json.loads(said)[0]["done"] == 10**6
    _, merging_seconds, large = measured("merge", where)
    print(f"start {start:.2f} s, status {seconds:.2f} s; merge {merging_seconds:.1f} s, {large - small:.0f} MB more")
    assert_merged(where / "results.h5", shards)
    assert seconds < 2 * start
    assert merging_seconds < 60
    assert 0 < large - small < 200
