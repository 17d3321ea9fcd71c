"""run: completes the study, finds what is missing, has it computed, and merges it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrace import launch, plan, store
from mcrace.completion import complete
from mcrace.directory import STUDY, Work, directory_of, set_damaged_aside, survey, writable
from mcrace.errors import ResultsError, ShardError
from mcrace.merging import merge
from mcrace.plan import Shard
from mcrace.results import Results
from mcrace.store import Variable
from mcrace.study import Study, load_study
from mcrace.worker import Receipt

if TYPE_CHECKING:
    from distributed import Client

TOLD = 20  # failed shards that are named


class Reporter:
    """Hears how a run goes; this one keeps silent."""

    def say(self, text: str) -> None:
        """A sentence for the user."""

    def begin(self, networks: int, shards: int) -> None:
        """What is about to be computed."""

    def done(self, receipt: Receipt) -> None:
        """A shard is on the disk."""

    def end(self) -> None:
        """No more shards."""


def run(
    study: Study | str | Path,
    directory: str | Path | None = None,
    *,
    workers: int | None = None,
    client: Client | None = None,
    only: str | None = None,
    seeds: int | None = None,
    shard_size: int | None = None,
    check: bool = False,
    reporter: Reporter | None = None,
) -> Results:
    """Compute what is missing of a study, and merge it into one results file.

    Parameters
    ----------
    study : Study, or path to a study file or to a results directory, whose study goes on
    directory : path, optional
        Where results go; ``results/<study name>`` by default.
    workers : int, optional
        Worker processes on this machine, one for each core by default; 0: in this process.
    client : distributed.Client, optional
        A Dask cluster of one's own, instead.
    only : str, optional
        Compute this cell alone.
    seeds : int, optional
        Seeds in each cell, instead of those in the study file.
    shard_size : int, optional
        Networks in a shard; no number depends on it.
    check : bool
        Whether every shard that is there is read first; damaged ones are set aside and computed anew.
    reporter : Reporter, optional
        Hears how the run goes.

    Returns
    -------
    Results

    Raises
    ------
    StudyError, ResultsError
        If the study or the directory cannot be used; nothing is written then.
    ShardError
        If shards failed; all the others are on the disk.
    """
    if not isinstance(study, Study):
        if directory is None and Path(study).is_dir():
            directory = study
        study = load_study(Path(study) / STUDY if Path(study).is_dir() else study)
    study = complete(study if seeds is None else study.with_seeds(seeds))
    if client is None:
        plan.check_memory(study, plan.memory_here())
    reporter = reporter or Reporter()
    work = survey(study, directory_of(study, directory), only)
    if check and set_damaged_aside(work, reporter.say):
        work = survey(study, work.directory, only)
    pools = {c.name: c.config.task.pool() for c in study.cells if work.missing.get(c.name)}
    _announce_retraining(work, reporter)
    with writable(work.directory):
        store.publish_text(work.directory / STUDY, study.text)
        data = {name: _save_pool(work.directory, pool) for name, pool in pools.items()}
    count = sum(plan.shard_count(c, work.missing[c.name], shard_size) for c in study.cells if work.missing.get(c.name))
    if count:
        _compute(work, _ordered(work, shard_size, data), count, workers, client, reporter)
    return merge(work, reporter.say)




def _announce_retraining(work: Work, reporter: Reporter) -> None:
    """Say so where a cell has networks with another record, which have to be trained again."""
    if not (work.directory / STUDY).exists():
        return
    there = complete(load_study(work.directory / STUDY))
    for old, new in itertools.product(there.cells, work.study.cells):
        if old.name == new.name and old.config != new.config and work.missing.get(new.name):
            reporter.say(f"{new.name}: other things are to be recorded, so its networks are trained again")


def _save_pool(directory: Path, pool: dict[str, np.ndarray]) -> str:
    """Put what all workers read under data/, by its digest; returns the path."""
    if not pool:
        return ""
    names = sorted(pool)
    path = directory / "data" / f"{store.digest(np.array([store.digest(pool[n]) for n in names], object))[:20]}.h5"
    try:
        store.check_seal(path)
    except ResultsError:  # not there yet, or damaged
        variables = {n: Variable(tuple(f"{n}_{k}" for k in range(pool[n].ndim)), pool[n]) for n in names}
        with store.publish(path) as file:
            store.write_group(file, variables, {"format_version": store.FORMAT_VERSION, "arrays": " ".join(names)})
    return str(path.resolve())


def _ordered(work: Work, size: int | None, data: dict[str, str]) -> Iterator[Shard]:
    """The missing shards, cells in turn, so that what is expensive does not all come last."""
    queues = [plan.shards_of(work.study, cell, work.missing[cell.name], size, data.get(cell.name, ""))
              for cell in work.study.cells if work.missing.get(cell.name)]
    return (shard for row in itertools.zip_longest(*queues) for shard in row if shard)


def _compute(work: Work, shards: Iterator[Shard], total: int, workers: int | None, client: Client | None,
             reporter: Reporter) -> None:
    """Have all shards computed, and name those that failed."""
    warm_up(work.study)
    failures = 0
    told: list[str] = []
    directory = work.directory.resolve()
    count = min(total, workers if workers is not None else os.cpu_count() or 1)
    with _outcomes(shards, str(directory), count, client) as outcomes:
        reporter.begin(work.networks, total)
        try:
            for shard, receipt, error in outcomes:
                store.note_failure(store.shard_path(directory, shard.identity, shard.first, shard.stop), error)
                if receipt is not None:
                    reporter.done(receipt)
                    continue
                failures += 1
                if len(told) < TOLD:
                    told.append(f"  {shard.name}: {error}")
        finally:
            reporter.end()
    if failures:
        more = ["  ..."] if failures > len(told) else []
        listed = "\n".join(told + more)
        raise ShardError(f"{failures} of {total} shards failed; run again to try them once more\n{listed}")


@contextmanager
def _outcomes(shards: Iterator[Shard], directory: str, workers: int, client: Client | None) -> Iterator[Any]:
    if client is not None:
        yield launch.drive(client, shards, directory)
    elif workers == 0:
        yield launch.in_this_process(shards, directory)
    else:
        with launch.local_cluster(workers) as own:
            yield launch.drive(own, shards, directory)


def warm_up(study: Study) -> None:
    """Compile what the study uses, once, before workers start: a few tiny networks of each sort of cell."""
    from mcrace.worker import compute

    seen = set()
    for cell in study.cells:
        config = cell.config
        task = config.task.model_copy(update={"samples": 4})
        training = config.training.model_copy(update={"steps": 2})
        record = config.record.model_copy(update={"times": (0, 1, 2)})
        config = replace(config, task=task, training=training, record=record)
        if (key := plan.identity(config, 0)) not in seen:
            seen.add(key)
            compute(Shard(cell.name, key, config.plain(), 0, 0, 2, 16, ""), task.pool())
