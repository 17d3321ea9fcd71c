"""Cells and seeds -> shards with stable identities, and what they will cost.  Pure: nothing here touches a disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mcrace.errors import StudyError
from mcrace.initial import parameters_of
from mcrace.mistakes import listed
from mcrace.observe import OBSERVABLES
from mcrace.recording import Wanted, sizes_of
from mcrace.sections import Config, Training, recording_steps
from mcrace.stages import STAGES
from mcrace.study import Cell, Study
from mcrace.tasks import TASKS

ENGINE = 6  # raised whenever the bits of any network change
SHARD_SECONDS, SHORT_SHARD_SECONDS = 9.0, 3.0  # what a shard should take at most, and where a cell has few, about
SHARDS = 16  # of a cell, rather than longer ones: workers then end at about the same time
NOMINAL_FLOPS = {"float32": 1e11, "float64": 5e10}  # of one core: only the size of shards hangs on it
NORM_FLOPS = 30  # of a normalised neuron at a sample, about
EARLY_SHARE = 1 / 8  # of the steps that networks take where they may stop early: a guess
MAX_SHARD = 4096
SHARD_BYTES = 1 << 28  # of what is recorded of a shard's networks
BATCH_BYTES = 1 << 26  # of networks that train together


@dataclass(frozen=True)
class Shard:
    """Seeds first ... stop-1 of a cell: what one task computes.

    Everything that a worker needs is here, and plain: it is sent to other processes and machines.
    """

    cell: str
    identity: str
    config: dict[str, Any]
    entropy: int
    first: int
    stop: int
    batch: int
    data: str
    versions: str = ""

    @property
    def name(self) -> str:
        """What the shard is called in messages."""
        return f"{self.cell} seeds {self.first}-{self.stop - 1}"


def identity(config: Config, entropy: int) -> str:
    """The hash that says whether two cells compute the same networks: whatever decides a bit, and nothing else."""
    content = {"engine": ENGINE, "entropy": entropy, "task_version": TASKS[config.task.kind].version, **config.deciding()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def flops_per_step(config: Config) -> float:
    """Nominal work of a step of one network (PERFORMANCE.md): 4Nmd + 6Nm + 4md for each gradient, and 6N for each weight of
    later layers.
    """
    N, d, hidden = config.task.samples, config.task.inputs(), config.network.hidden
    later = sum(a * b for a, b in pairwise((*hidden, config.task.outputs()))) - hidden[-1]
    norm = 0 if config.network.norm is None else NORM_FLOPS * N * sum(hidden)
    once = 4.0 * N * hidden[0] * d + 6 * N * (hidden[-1] + later) + 4 * hidden[0] * d + norm
    return once * gradients_per_step(config.training)


def gradients_per_step(training: Training) -> int:
    """How often a step takes the gradient; of an adaptive method a guess: two steps of the pair."""
    if training.method == "flow":
        return 2 ** (training.halvings + 1) - training.halvings - 1
    return 13 if training.method == "adaptive" else 1


def bytes_per_network(config: Config) -> int:
    """Memory of one network while it trains: weights, those kept at states, samples, and the snapshot in float64."""
    N, weights = config.task.samples, weight_count(config)
    number = np.dtype(config.training.dtype).itemsize
    kept = sum(bool(names) for names in Wanted.parse(config.record.observables).states.values())
    samples = sample_bytes(config) if config.task.fresh else 0
    layers = 8 * N * sum(config.network.hidden) if config.layered else 0
    return int(weights * (number * (1 + kept) + 32) + samples + 8 * N + layers)


def weight_count(config: Config) -> int:
    """Numbers that make up a network."""
    return sum(math.prod(sizes.values()) for sizes in parameters_of(config).values())


def sample_bytes(config: Config) -> int:
    """Memory of the samples of one network, or of those that all share: as drawn, for records, for training."""
    number, task = np.dtype(config.training.dtype).itemsize, config.task
    return task.inputs() * (task.samples * (16 + number) + task.test_samples * 16)


def batch_bytes(config: Config) -> int:
    """Memory of the networks that train together, with the samples that they share."""
    shared = 0 if config.task.fresh else sample_bytes(config)
    return batch_size(config) * bytes_per_network(config) + shared


def shard_size(cell: Cell) -> int:
    """Networks in a shard of a cell, a multiple of 16: a pure function of the study."""
    config = cell.config
    share = EARLY_SHARE if config.training.until else 1.0
    share *= 1 + sum(STAGES[name].work(config) for name in config.record.stages)
    seconds = share * config.training.steps * flops_per_step(config) / NOMINAL_FLOPS[config.training.dtype]
    even = max(cell.seeds.count / SHARDS, SHORT_SHARD_SECONDS / seconds)
    fitting = min(SHARD_SECONDS / seconds, SHARD_BYTES // stored_bytes_per_network(config), MAX_SHARD)
    size = max(16, min(math.ceil(even / 16), fitting // 16) * 16)
    shards = math.ceil(cell.seeds.count / size)  # all about as large, for workers to end at about the same time
    return max(16, math.ceil(cell.seeds.count / shards / 16) * 16) if shards else int(size)


def batch_size(config: Config) -> int:
    """Networks that train together, a multiple of 16."""
    return int(min(1024, max(16, BATCH_BYTES // bytes_per_network(config) // 16 * 16)))


def memory_here() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(study: Study, memory: int) -> None:
    """Compare what the smallest batch of each cell takes with the memory of a machine, in bytes.

    Raises
    ------
    StudyError
        Naming the cells that do not fit.
    """
    needed = {c.name: 16 * (bytes_per_network(c.config) + stored_bytes_per_network(c.config)) for c in study.cells}
    large = [f"cell {name}: the 16 networks that train together take {size / 1e9:,.1f} GB; this machine has {memory / 1e9:,.1f}"
             for name, size in needed.items() if size > memory]
    if large:
        raise StudyError(listed(large))


def stored_bytes_per_network(config: Config) -> int:
    """What one network takes on the disk, before compression."""
    wanted = Wanted.parse(config.record.observables)
    sizes = sizes_of(config)
    times = len(recording_steps(config.record.times, config.training.steps))
    total = 40 + 8 * len(wanted.states)
    at = {name for names in wanted.states.values() for name in names}
    for names, entries in ((wanted.grid, times), (at, len(wanted.states)), (wanted.paths, 1)):
        for name in names:
            observable = OBSERVABLES[name]
            total += entries * int(np.prod([sizes[s] for s in observable.dims])) * (4 if observable.dtype is int else 8)
    weights = {"none": 0, "ends": 2, "all": times}[config.record.weights]
    return total + 8 * weights * weight_count(config)


Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Share:
    """Task k of n, k = 1 ... n: it owns the shards whose number in the full plan is k modulo n.

    The number counts the shards of all cells, whether they are there or not: tasks that start at different times agree.
    """

    k: int
    n: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """From the form K/N.

        >>> Share.parse("2/4")
        Share(k=2, n=4)
        """
        k, _, n = text.partition("/")
        if not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit() and len(n) < 10 and 1 <= int(k) <= int(n)):
            raise StudyError(f"--share {text[:40]!r}: must be K/N, with K from 1 to N, as in 2/4")
        return cls(int(k), int(n))

    def of(self, study: Study, shards: Iterable[Shard], size: int | None) -> Iterator[Shard]:
        """Those of some shards that it owns; `size` is that of the plan."""
        before, first, sizes, count = {}, {}, {}, 0
        for cell in study.cells:
            before[cell.name], first[cell.name] = count, cell.seeds.first
            sizes[cell.name] = size or shard_size(cell)
            count += -(-cell.seeds.count // sizes[cell.name])
        for shard in shards:
            number = before[shard.cell] + (shard.first - first[shard.cell]) // sizes[shard.cell]
            if number % self.n == self.k % self.n:
                yield shard


def shards_of(
    study: Study, cell: Cell, missing: Ranges, size: int | None, data: str, versions: str = ""
) -> Iterator[Shard]:
    """The shards that cover the missing seeds, cut at multiples of the size from the cell's first seed on, one by one."""
    name, batch, plain = identity(cell.config, study.entropy), batch_size(cell.config), cell.config.plain()
    for begin, end in cuts(cell, missing, size):
        yield Shard(cell.name, name, plain, study.entropy, begin, end, batch, data, versions)


def cuts(cell: Cell, missing: Ranges, size: int | None = None) -> Iterator[tuple[int, int]]:
    """The ranges of seeds of the shards that cover the missing ones."""
    size = size or shard_size(cell)
    for begin, end in missing:
        here = begin
        while here < end:
            cut = min(end, cell.seeds.first + ((here - cell.seeds.first) // size + 1) * size)
            yield here, cut
            here = cut


def shard_count(cell: Cell, missing: Ranges, size: int | None = None) -> int:
    """How many shards `cuts` makes, without making them."""
    size, first = size or shard_size(cell), cell.seeds.first
    return sum((end - 1 - first) // size - (begin - first) // size + 1 for begin, end in missing)
