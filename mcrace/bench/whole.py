"""The whole command: how much of what the kernels give is left of a study, and what two workers do in the time of one."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from mcrace import engine
from mcrace.bench.measure import SHAPES, answer_of, in_columns
from mcrace.predictions.judging import with_options
from mcrace.study import Study, parse_study
from mcrace.worker import Receipt

NETWORKS, WORKERS = 20_000, (1, 2)
STUDY = """
[study]
name = "whole"
seeds = {networks}
entropy = 1
[task]
kind = "gaussian"
dimension = {shape.d}
samples = {shape.N}
loss = "mse"
[network]
hidden = [{shape.m}]
init = {{ scale = 0.01 }}
[training]
step_size = 0.5
steps = 1000
dtype = "float32"
[record]
times = {{ spacing = "log", count = 24 }}
observables = {observables}
"""


def study(networks: int) -> Study:
    """Networks of shape B, each on samples of its own, with what *racing* wants to be recorded."""
    prediction, options = with_options("racing", {"control": "none"})
    observables = ["loss", *prediction.needs(options).observables]
    recorded = json.dumps(list(dict.fromkeys(observables)))
    return parse_study(STUDY.format(networks=networks, shape=SHAPES["B"], observables=recorded))


class _Clock(engine.Reporter):
    """What the workers said, and when the first began and the last ended."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.began = self.ended = 0.0

    def begin(self, networks: int, shards: int) -> None:
        self.began = time.perf_counter()

    def done(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def end(self) -> None:
        self.ended = time.perf_counter()


def _main() -> None:
    """Run the study with as many workers and networks as the arguments say, and print what it took as the last line."""
    workers, networks = map(int, sys.argv[1:])
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="mcrace-bench-") as folder:
        engine.run(study(networks), Path(folder) / "results", workers=workers, reporter=clock)
    print(json.dumps({"shards": clock.ended - clock.began, "worker": sum(r.seconds for r in clock.receipts),
                      "compiled": sum(r.compiled_seconds for r in clock.receipts)}))


def measure_whole(rounds: int = 3, networks: int = NETWORKS) -> list[dict[str, Any]]:
    """Time a study from the start of its process to its results file, with one worker and with two in turn.

    Parameters
    ----------
    rounds : int
        Their medians count.
    networks : int

    Returns
    -------
    list of dict
        For each number of workers: `workers`, `networks`, `rounds`, `seconds` in all, `shard_seconds` from the first shard's
        beginning to the last one's end, and `compiled_share` of the workers' time in shards.
    """
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in WORKERS}
    _run(WORKERS[0], 2 * 16)  # compiles
    for k in range(rounds):
        for workers in WORKERS:
            found[workers].append(_run(workers, networks))
            last = found[workers][-1]
            print(f"round {k + 1}, workers {workers}: {last['seconds']:.1f} s", file=sys.stderr, flush=True)
    return [{"workers": workers, "networks": networks, "rounds": rounds,
             "seconds": median(r["seconds"] for r in runs), "shard_seconds": median(r["shards"] for r in runs),
             "compiled_share": median(r["compiled"] / r["worker"] for r in runs)} for workers, runs in found.items()]


def _run(workers: int, networks: int) -> dict[str, float]:
    began = time.perf_counter()
    said = answer_of(__name__, str(workers), str(networks))
    return {"seconds": time.perf_counter() - began, **said}


def whole_table(rows: list[dict[str, Any]]) -> str:
    """A line for each number of workers, and how many times as quick as the first the last is."""
    lines = [["", "whole command", "shards", "of workers' time in compiled code"]]
    for row in rows:
        name = f"{row['workers']} worker{'s' if row['workers'] > 1 else ''}"
        lines.append([name, f"{row['seconds']:.1f} s", f"{row['shard_seconds']:.1f} s", f"{100 * row['compiled_share']:.0f} %"])
    first, last = rows[0], rows[-1]
    lines.append(["ratio", *(f"{first[part] / last[part]:.2f}×" for part in ("seconds", "shard_seconds")), ""])
    title = (f"{first['networks']:,} networks of shape B, each on samples of its own: 1,000 steps, 24 recording times, "
             "the observables of racing")
    return f"{title}\n{in_columns(lines)}"
