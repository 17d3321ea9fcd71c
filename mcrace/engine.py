"""run: asks the predictions what they need, completes the study, and calls the rooms in order."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrace import launch, plan, store
from mcrace.errors import McraceError, ResultsError, ShardError, StudyError
from mcrace.observe import OBSERVABLES
from mcrace.plan import Shard
from mcrace.predictions.judging import with_options
from mcrace.recording import Status
from mcrace.results import RESULTS, Results, open_results
from mcrace.store import Variable
from mcrace.study import Cell, Seeds, Study, Training, load_study
from mcrace.sweep import flat
from mcrace.worker import Receipt, environment

if TYPE_CHECKING:
    from distributed import Client

HALF_STEP_SHARE, HALF_STEP_LEAST = 10, 200
STUDY = "study.toml"


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


@dataclass(frozen=True)
class Work:
    """A completed study with what is missing of it in a directory."""

    study: Study
    directory: Path
    missing: dict[str, list[tuple[int, int]]]

    @property
    def networks(self) -> int:
        """How many networks are missing."""
        return sum(b - a for ranges in self.missing.values() for a, b in ranges)


# ------------------------------------------------------------------------------------------------- completing a study


def complete(study: Study) -> Study:
    """The study with all that its predictions need: observables, roles of cells, cells at half the step.

    Raises
    ------
    StudyError
        If a prediction, an option, an observable or a control cell does not exist.
    """
    wanted = [(with_options(name, table)) for name, table in study.predictions.items()]
    controls = {options.control for _, options in wanted if options.control}
    for name in controls:
        study.cell(name)
    mains = [c for c in study.cells if c.name not in controls]
    needs = [prediction.needs(options) for prediction, options in wanted]
    observables = tuple(dict.fromkeys(o for need in needs for o in need.observables))
    cells = [_recording(c, observables) for c in study.cells]
    cells = [replace(c, role="control", of=mains[0].name if len(mains) == 1 else "") if c.name in controls else c
             for c in cells]
    if any(need.half_step for need in needs):
        cells += [_at_half_step(c) for c in cells if c.role == "main"]
    for cell in cells:
        for name in cell.config.record.observables:
            OBSERVABLES[name.partition("@")[0]]
    return replace(study, cells=tuple(cells))


def _recording(cell: Cell, observables: tuple[str, ...]) -> Cell:
    record = cell.config.record
    union = tuple(dict.fromkeys((*record.observables, *observables)))
    return replace(cell, config=replace(cell.config, record=record.model_copy(update={"observables": union})))


def _at_half_step(cell: Cell) -> Cell:
    """The cell for the error budget: half the step, twice the steps, a tenth of the seeds but 200 at least."""
    config, count = cell.config, cell.seeds.count
    training = _halved(config.training)
    times = config.record.times
    doubled = tuple(2 * t for t in times) if isinstance(times, tuple) else times
    record = config.record.model_copy(update={"times": doubled, "weights": "none"})
    seeds = Seeds(first=cell.seeds.first, count=min(count, max(HALF_STEP_LEAST, count // HALF_STEP_SHARE)))
    return replace(cell, name=f"{cell.name}+half-step", role="half-step", of=cell.name, seeds=seeds,
                   config=replace(config, training=training, record=record))


def _halved(training: Training) -> Training:
    """The same flow in half the step: of a heavy ball by friction, whose step is sqrt(step_size), a quarter."""
    part = 4 if training.friction is not None else 2
    schedule = training.schedule.model_copy(
        update={"warm_up": 2 * training.schedule.warm_up, "every": 2 * training.schedule.every})
    return training.model_copy(
        update={"step_size": training.step_size / part, "steps": 2 * training.steps, "schedule": schedule})


# ------------------------------------------------------------------------------------------------- the directory


def directory_of(study: Study, directory: str | Path | None) -> Path:
    """Where results go: as asked, or results/<study name>."""
    return Path(directory) if directory is not None else Path("results") / study.name


def survey(study: Study, directory: Path, only: str | None = None) -> Work:
    """What is missing of a completed study in a directory; nothing is written.

    Raises
    ------
    StudyError, ResultsError
        If the directory holds another study, with what differs.
    """
    if directory.exists() and not directory.is_dir():
        raise ResultsError(f"{directory}: is a file, not a results directory")
    _same_study(study, directory)
    if only is not None:
        study.cell(only)
    missing = {}
    for cell in study.cells:
        if only is None or only in (cell.name, cell.of):
            stop = cell.seeds.first + cell.seeds.count
            missing[cell.name] = store.missing_ranges(directory, plan.identity(cell.config, study.entropy), cell.seeds.first, stop)
    return Work(study, directory, missing)


def _same_study(study: Study, directory: Path) -> None:
    """Compare with the study that is in the directory, cell by cell."""
    path = directory / STUDY
    if not path.exists():
        if directory.is_dir() and any(directory.iterdir()):
            raise ResultsError(f"{directory}: is not empty and holds no study of mcrace; choose another with -o")
        return
    try:
        there = complete(load_study(path))
    except StudyError as error:
        raise ResultsError(f"{directory}: holds a study that this mcrace cannot read: {error}") from None
    differences = list(_differences(there, study))
    if differences:
        listed = "\n".join(f"  {d}" for d in differences[:20])
        raise ResultsError(f"{directory}: holds another study; choose another directory with -o. It differs in\n{listed}")


def _differences(there: Study, here: Study) -> Iterator[str]:
    """What separates two studies in their training; other seeds, cells, names, margins and records do not count."""
    if there.entropy != here.entropy:
        yield f"study.entropy: there {there.entropy}, here {here.entropy}"
    cells = {c.name: c for c in there.cells}
    for cell in here.cells:
        if cell.name in cells:
            old, new = flat(cells[cell.name].config.plain()), flat(cell.config.plain())
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key) and not key.startswith("record."):
                    yield f"{cell.name}: {key}: there {old.get(key)}, here {new.get(key)}"



# ------------------------------------------------------------------------------------------------- running


def run(
    study: Study | str | Path,
    directory: str | Path | None = None,
    *,
    workers: int | None = None,
    client: Client | None = None,
    only: str | None = None,
    seeds: int | None = None,
    shard_size: int | None = None,
    reporter: Reporter | None = None,
) -> Results:
    """Compute what is missing of a study, and merge it into one results file.

    Parameters
    ----------
    study : Study, or path to a study file
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
    study = load_study(study) if not isinstance(study, Study) else study
    study = complete(study if seeds is None else study.with_seeds(seeds))
    reporter = reporter or Reporter()
    work = survey(study, directory_of(study, directory), only)
    pools = {c.name: c.config.task.pool() for c in study.cells if work.missing.get(c.name)}
    _announce_retraining(work, reporter)
    with _writable(work.directory):
        store.publish_text(work.directory / STUDY, study.text)
        data = {name: _save_pool(work.directory, pool) for name, pool in pools.items()}
    shards = _ordered(work, shard_size, data)
    if shards:
        _compute(work, shards, workers, client, reporter)
    return merge(work, reporter)


@contextmanager
def _writable(directory: Path) -> Iterator[None]:
    try:
        yield
    except McraceError:
        raise
    except OSError as error:
        raise ResultsError(f"{directory}: cannot be written: {error.strerror or error}") from None


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


def _ordered(work: Work, size: int | None, data: dict[str, str]) -> list[Shard]:
    """The missing shards, cells in turn, so that what is expensive does not all come last."""
    queues = [plan.shards_of(work.study, cell, work.missing[cell.name], size, data.get(cell.name, ""))
              for cell in work.study.cells if work.missing.get(cell.name)]
    return [shard for row in itertools.zip_longest(*queues) for shard in row if shard]


def _compute(work: Work, shards: list[Shard], workers: int | None, client: Client | None, reporter: Reporter) -> None:
    """Have all shards computed, and name those that failed."""
    warm_up(work.study)
    failures = []
    reporter.begin(work.networks, len(shards))
    directory = str(work.directory.resolve())
    count = min(len(shards), workers if workers is not None else os.cpu_count() or 1)
    with _outcomes(shards, directory, count, client) as outcomes:
        try:
            for shard, receipt, error in outcomes:
                if receipt is None:
                    failures.append(f"{shard.name}: {error}")
                else:
                    reporter.done(receipt)
        finally:
            reporter.end()
    if failures:
        listed = "\n".join(f"  {f}" for f in failures[:20])
        raise ShardError(f"{len(failures)} of {len(shards)} shards failed; run again to try them once more\n{listed}")


@contextmanager
def _outcomes(shards: list[Shard], directory: str, workers: int, client: Client | None) -> Iterator[Any]:
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


def merge(work: Work, reporter: Reporter | None = None) -> Results:
    """Write results.h5 from the shards, unless the one that is there holds the same already.

    A damaged shard is set aside and named; running again computes it anew.
    """
    path = work.directory / RESULTS
    contents = {c.name: {"identity": plan.identity(c.config, work.study.entropy), "role": c.role, "of": c.of,
                         "ranges": _present(work, c)} for c in work.study.cells}
    contents = {name: c for name, c in contents.items() if c["ranges"]}
    if not contents:
        raise ResultsError(f"{work.directory}: holds no shard of the study yet; mcrace run computes them")
    fingerprint = json.dumps([work.study.text, contents], sort_keys=True)
    try:
        there = open_results(path)
        if there.attributes.get("contents") == fingerprint:
            return there
    except ResultsError:
        pass
    with _writable(work.directory), store.publish(path) as file:
        machines = set()
        for cell in work.study.cells:
            if cell.name in contents:
                machines |= _merge_cell(file, work, cell, contents[cell.name]["identity"])
        attributes = {"study": work.study.text, "name": work.study.name, "entropy": work.study.entropy,
                      "contents": fingerprint, "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **environment()}
        store.write_attributes(file, {"format_version": store.FORMAT_VERSION, **attributes})
    if len(machines) > 1 and reporter:
        reporter.say("warning: the shards come from unlike environments: " + "; ".join(sorted(machines)))
    return open_results(path)


def _present(work: Work, cell: Cell) -> list[tuple[int, int]]:
    """The ranges of seeds of a cell that are there, joined."""
    name, stop = plan.identity(cell.config, work.study.entropy), cell.seeds.first + cell.seeds.count
    here, present = cell.seeds.first, []
    for begin, end in [*store.missing_ranges(work.directory, name, here, stop), (stop, stop)]:
        if begin > here:
            present.append((here, begin))
        here = end
    return present


def _merge_cell(file: Any, work: Work, cell: Cell, identity: str) -> set[str]:
    first = cell.seeds.first
    variables, sources = store.merge_cell(work.directory, identity, first, first + cell.seeds.count)
    swept = _swept(cell, variables)
    variables |= swept
    statuses = np.bincount(variables["status"].values, minlength=len(Status))
    attributes = {"identity": identity, "role": cell.role, "of": cell.of, "config": json.dumps(cell.config.plain()),
                  "swept": " ".join(swept),
                  "statuses": " ".join(f"{s.name.lower()}={n}" for s, n in zip(Status, statuses)),
                  "seconds": float(sum(s["seconds"] for s in sources)), "kernel": sources[0]["kernel"]}
    cells = file["cells"] if "cells" in file else file.create_group("cells", track_order=True)
    group = cells.create_group(cell.name, track_order=True)
    store.write_group(group, variables, attributes)
    return {f"{s['cpu']}, {s['versions']}, engine {s['engine']}" for s in sources}


def _swept(cell: Cell, taken: dict[str, Variable]) -> dict[str, Variable]:
    """What was swept, as scalars by the last part of their keys, or by their whole keys where that name is taken."""
    shorts = [key.rsplit(".", 1)[-1] for key in cell.swept]
    taken_dims = {d for variable in taken.values() for d in variable.dims}
    found = {}
    for (key, value), short in zip(cell.swept.items(), shorts):
        if isinstance(value, list) and len(value) == 1:
            (value,) = value  # the width of the one hidden layer
        if isinstance(value, bool):
            value = int(value)  # xarray reads no truths
        if isinstance(value, int | float | str):
            free = short not in taken and short not in taken_dims and shorts.count(short) == 1
            found[short if free else key] = Variable((), np.array(value, object if isinstance(value, str) else None))
    return found


# ------------------------------------------------------------------------------------------------- looking on


@dataclass(frozen=True)
class CellStatus:
    """How far a cell is."""

    cell: Cell
    done: int
    missing: int


def status(directory: str | Path) -> tuple[Study, list[CellStatus]]:
    """How far each cell of a results directory is, from the names of its shards.

    Raises
    ------
    ResultsError
        If there is no study in the directory.
    """
    directory = Path(directory)
    study = study_of(directory)
    work = survey(study, directory)
    left = {c.name: sum(b - a for a, b in work.missing[c.name]) for c in study.cells}
    return study, [CellStatus(c, c.seeds.count - left[c.name], left[c.name]) for c in study.cells]


def study_of(directory: Path) -> Study:
    """The completed study of a results directory."""
    path = directory / STUDY
    if not path.exists():
        raise ResultsError(f"{directory}: holds no study of mcrace")
    return complete(load_study(path))


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
        size = plan.shard_size(cell.config)
        rate = _steps_per_second(cell)
        count = cell.seeds.count
        found.append(Estimate(cell, -(-count // size), count * cell.config.training.steps / rate,
                              count * plan.stored_bytes_per_network(cell.config),
                              plan.batch_size(cell.config) * plan.bytes_per_network(cell.config)))
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


