"""run: completes the study, finds what is missing, has it computed, and merges it."""

from __future__ import annotations

import itertools
import os
import platform
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcrace import launch, plan, store
from mcrace.completion import complete
from mcrace.directory import STUDY, Work, directory_of, set_damaged_aside, survey, writable
from mcrace.errors import ResultsError, ShardError, VersionError
from mcrace.merging import merge
from mcrace.plan import Shard, Share
from mcrace.results import Results
from mcrace.store import Variable
from mcrace.study import Study, load_study
from mcrace.versions import unlike, versions
from mcrace.worker import Receipt

if TYPE_CHECKING:
    from distributed import Client

TOLD = 20  # failed shards that are named

class Reporter:
    """Hears how a run goes; this one keeps silent."""

    def say(self, text: str) -> None:
        """A sentence for the user."""

    def cells(self, missing: dict[str, int]) -> None:
        """How many networks of each cell are to be computed; said before `begin`."""

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
    patience: float = launch.PATIENCE_SECONDS,
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
    patience : float, optional
        Seconds without any worker after which a cluster of one's own is given up.

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
    reporter = reporter or Reporter()
    work = _surveyed(study, directory, seeds, only, here=client is None)
    if check and set_damaged_aside(work, reporter.say):
        work = survey(work.study, work.directory, only)
    data = prepare(work, reporter)
    reporter.cells({name: sum(b - a for a, b in ranges) for name, ranges in work.missing.items()})
    _compute(work, Todo(lambda: _ordered(work, shard_size, data)), workers, client, patience, reporter)
    return merge(work, reporter.say)


def run_share(
    study: Study | str | Path,
    directory: str | Path | None,
    share: Share,
    *,
    workers: int | None = None,
    seeds: int | None = None,
    shard_size: int | None = None,
    planned: str = "",
    reporter: Reporter | None = None,
    client: Client | None = None,
    patience: float = launch.PATIENCE_SECONDS,
) -> None:
    """Compute what is missing of one share of a study, as a task of a job array does; nothing is merged.

    Parameters
    ----------
    study, directory, workers, seeds, shard_size, reporter, client, patience
        As for `run`; the study that is in the directory stays there.
    share : Share
    planned : str, optional
        Versions of the plan that this share belongs to, as `mcrace.versions.versions` gives them.

    Raises
    ------
    StudyError, ResultsError, ShardError
        As for `run`.
    VersionError
        If the versions here are others.
    """
    reporter = reporter or Reporter()
    if words := unlike(planned):
        raise VersionError(f"the study was submitted with other versions: {words}; use the same, or submit it again")
    work = _surveyed(study, directory, seeds, here=client is None)
    data = prepare(work, reporter, replace_study=False)
    todo = Todo(lambda: share.of(work.study, _ordered(work, shard_size, data), shard_size))
    reporter.say(f"task {share.k} of {share.n}: {todo.shards:,} of its shards {'is' if todo.shards == 1 else 'are'} missing")
    _compute(work, todo, workers, client, patience, reporter)


class Todo:
    """The shards to compute, made one by one, so that any number of them takes no memory.

    They begin at a place that hangs on the process: several commands on one directory then seldom compute the same.

    Parameters
    ----------
    make : callable
        Makes them in their order.

    Attributes
    ----------
    shards, networks : int
    """

    def __init__(self, make: Callable[[], Iterable[Shard]]) -> None:
        self.make = make
        self.shards = self.networks = 0
        for shard in make():
            self.shards += 1
            self.networks += shard.stop - shard.first

    def __iter__(self) -> Iterator[Shard]:
        start = zlib.crc32(f"{platform.node()} {os.getpid()}".encode()) % max(1, self.shards)
        return itertools.chain(itertools.islice(self.make(), start, None), itertools.islice(self.make(), start))


def _surveyed(
    study: Study | str | Path, directory: str | Path | None, seeds: int | None, only: str | None = None, here: bool = True
) -> Work:
    """The completed study with what is missing; `here`: on this machine, whose memory has to do."""
    if not isinstance(study, Study):
        if Path(study).is_dir():
            directory, study = directory or study, Path(study) / STUDY
        study = load_study(study)
    study = complete(study if seeds is None else study.with_seeds(seeds))
    if here:
        plan.check_memory(study, plan.memory_here())
    return survey(study, directory_of(study, directory), only)


def prepare(work: Work, reporter: Reporter, replace_study: bool = True) -> dict[str, str]:
    """Put the study and what all workers read into the directory.

    Returns
    -------
    dict of str
        For each cell of which something is missing the path of its data, which may be empty.
    """
    pools = {c.name: c.config.task.pool() for c in work.study.cells if work.missing.get(c.name)}
    _announce_retraining(work, reporter)
    with writable(work.directory):
        if replace_study or not (work.directory / STUDY).exists():
            store.publish_text(work.directory / STUDY, work.study.text)
        return {name: _save_pool(work.directory, pool) for name, pool in pools.items()}


def _announce_retraining(work: Work, reporter: Reporter) -> None:
    """Say so where a cell has networks with another record, which have to be trained again."""
    if not (work.directory / STUDY).exists():
        return
    there = complete(load_study(work.directory / STUDY))
    for old, new in itertools.product(there.cells, work.study.cells):
        if old.name == new.name and old.config.deciding() != new.config.deciding() and work.missing.get(new.name):
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
    planned = versions(work.study)
    queues = [plan.shards_of(work.study, cell, work.missing[cell.name], size, data.get(cell.name, ""), planned)
              for cell in work.study.cells if work.missing.get(cell.name)]
    return (shard for row in itertools.zip_longest(*queues) for shard in row if shard)


def _compute(work: Work, todo: Todo, workers: int | None, client: Client | None, patience: float, reporter: Reporter) -> None:
    """Have all shards computed, and name those that failed."""
    if not todo.shards:
        return
    failures = 0
    told: list[str] = []
    directory = work.directory.resolve()
    count = min(todo.shards, launch.cores() if workers is None else workers)
    with _outcomes(todo, str(directory), count, client, patience, lambda: warm_up(work.study)) as outcomes:
        reporter.begin(todo.networks, todo.shards)
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
        raise ShardError(f"{failures} of {todo.shards} shards failed; run again to try them once more\n{listed}")


@contextmanager
def _outcomes(shards: Iterable[Shard], directory: str, workers: int, client: Client | None, patience: float,
              before: Callable[[], None]) -> Iterator[Iterator[launch.Outcome]]:
    """What comes of the shards; `before` is done before the first of them begins."""
    if client is None and workers:
        with launch.local_cluster(workers, before) as own:
            yield launch.drive(own, shards, directory, launch.LOCAL_PATIENCE_SECONDS)
        return
    before()
    yield launch.in_this_process(shards, directory) if client is None else launch.drive(client, shards, directory, patience)


def warm_up(study: Study) -> None:
    """Compile what the study uses, once, before workers start: a few tiny networks of each sort of cell."""
    from mcrace.recording import Wanted
    from mcrace.worker import compute

    seen = set()
    for cell in study.cells:
        config = cell.config
        task = config.task.few()
        batch = config.training.batch and min(config.training.batch, 4)  # kernels have room for no more than the samples
        training = config.training.model_copy(update={"steps": 2, "batch": batch})
        asked = config.record.observables
        at_states = {f"{name}@final" for names in Wanted.parse(asked).states.values() for name in names}
        observables = (*asked, *sorted(at_states.difference(asked)))  # not all states come in so few steps
        record = config.record.model_copy(update={"times": (0, 1, 2), "observables": observables})
        config = replace(config, task=task, training=training, record=record)
        if (key := plan.identity(config, 0)) not in seen:
            seen.add(key)
            compute(Shard(cell.name, key, config.plain(), 0, 0, 2, 16, ""), task.pool())
