"""Networks computed again, or more of them: extend, replicate, verify, and one network by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrace import plan, store
from mcrace.directory import own_study, study_of
from mcrace.engine import Reporter, run
from mcrace.errors import ResultsError, StudyError
from mcrace.initial import parameters_of
from mcrace.mistakes import validated
from mcrace.plan import Shard
from mcrace.predictions import Verdict
from mcrace.predictions import test as judge
from mcrace.predictions.base import REFUTED, SUPPORTED
from mcrace.results import RESULTS, Results, open_results
from mcrace.sections import Heading
from mcrace.seeds import generator
from mcrace.store import Variable
from mcrace.study import Cell, Study
from mcrace.worker import compute, environment


def extend(directory: str | Path, more: int, **options: Any) -> Results:
    """Add seeds after the last to each cell of a results directory; nothing that is there is computed again.

    Parameters
    ----------
    directory : path
    more : int
        Seeds to add.
    options : dict
        As those of `mcrace.run`: workers, client, reporter, ...

    Raises
    ------
    StudyError, ResultsError, ShardError
        As `mcrace.run`.
    """
    if more < 1:
        raise StudyError(f"{more} seeds cannot be added; a number from 1 on can")
    study = own_study(Path(directory))
    return run(study.with_seeds(study.seeds.count + more), directory, **options)


# ------------------------------------------------------------------------------------------------- replicate


@dataclass(frozen=True)
class Agreement:
    """A verdict and its replication from other random numbers."""

    there: Verdict
    here: Verdict

    @property
    def same_verdict(self) -> bool:
        """Whether both say the same."""
        return self.there.verdict == self.here.verdict

    @property
    def reversed(self) -> bool:
        """Whether one is supported and the other refuted: the sign of a verdict has changed."""
        return {self.there.verdict, self.here.verdict} == {SUPPORTED, REFUTED}

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals of both estimates overlap; None where one has none."""
        ends = self.there.low, self.there.high, self.here.low, self.here.high
        if not all(map(math.isfinite, ends)):
            return None
        return max(self.there.low, self.here.low) <= min(self.there.high, self.here.high)


def replicate(
    directory: str | Path, entropy: int, target: str | Path, *, same_data: bool = False, **options: Any
) -> tuple[Results, list[Agreement]]:
    """Run the study of a results directory once more, from other random numbers, and compare what both say.

    Parameters
    ----------
    directory : path
        With the results that are to be replicated.
    entropy : int
        Root of the new random streams.
    target : path
        The directory of the replication.
    same_data : bool
        Whether samples and labels stay as they are, and only starts, minibatches and velocities are drawn anew.
    options : dict
        As those of `mcrace.run`.

    Returns
    -------
    Results
        Of the replication.
    list of Agreement
        One for each verdict that both have.

    Raises
    ------
    StudyError, ResultsError, ShardError
        As `mcrace.run`.
    """
    there = open_results(directory)
    study = own_study(Path(directory))
    validated(Heading, {"name": study.name, "seeds": 1, "entropy": entropy}, "study")
    if entropy == study.entropy:
        raise StudyError(f"{directory} has the entropy {entropy} already: its numbers would be the same")
    here = run(study.with_entropy(entropy, same_data), target, **options)
    return here, agreements(judge(there), judge(here))


def agreements(there: Iterable[Verdict], here: Iterable[Verdict]) -> list[Agreement]:
    """The verdicts of two results side by side, by prediction, cell and statistic."""
    by_name = {(v.prediction, v.cell, v.statistic): v for v in there}
    pairs = ((by_name.get((v.prediction, v.cell, v.statistic)), v) for v in here)
    return [Agreement(old, new) for old, new in pairs if old is not None]


# ------------------------------------------------------------------------------------------------- verify


@dataclass(frozen=True)
class Verification:
    """What came of a verification: how much was looked at, and in sentences what is not as it should be."""

    files: int
    networks: int
    differences: list[str]
    notes: list[str]


def verify(directory: str | Path, networks: int = 20, draw: int = 0, reporter: Reporter | None = None) -> Verification:
    """Compare every file of a directory with its seal, and recompute a random sample of networks bit for bit.

    Parameters
    ----------
    directory : path
    networks : int
        How many are recomputed, of all cells together.
    draw : int
        Another number, another sample.
    reporter : Reporter, optional

    Raises
    ------
    ResultsError
        If there is nothing to verify.
    """
    directory = Path(directory)
    reporter = reporter or Reporter()
    study = study_of(directory)
    stored = [(cell, r) for cell in study.cells
              for r in store.stored_ranges(directory, plan.identity(cell.config, study.entropy))]
    if not stored:
        raise ResultsError(f"{directory}: holds no shard of the study yet; mcrace run computes them")
    files = [store.shard_path(directory, plan.identity(c.config, study.entropy), *r) for c, r in stored]
    files += [path for path in (directory / RESULTS,) if path.exists()]
    differences = [said for path in files if (said := _broken(path))]
    reporter.say(f"{len(files):,} files compared with their seals")
    notes: set[str] = set()
    chosen = _sample(study, stored, networks, draw)
    for (cell, r), group in itertools.groupby(chosen, key=lambda item: item[0]):
        differences += _recomputed(study, directory, cell, r, [seed for _, seed in group], notes)
    return Verification(len(files), len(chosen), differences, sorted(notes))


def _broken(path: Path) -> str:
    """What is wrong with the bytes of a file."""
    try:
        store.check_seal(path)
    except ResultsError as error:
        return str(error)
    return ""


Stored = tuple[Cell, tuple[int, int]]


def _sample(study: Study, stored: list[Stored], networks: int, draw: int) -> list[tuple[Stored, int]]:
    """Some of the networks that are stored, each with its shard, in the order of the shards."""
    ends = np.cumsum([stop - first for _, (first, stop) in stored])
    total = int(ends[-1])
    places = np.sort(generator(study.entropy, "verify", str(draw)).choice(total, min(networks, total), replace=False))
    shards = np.searchsorted(ends, places, side="right")
    return [(stored[k], int(stored[k][1][1] - (ends[k] - place))) for k, place in zip(shards, places)]


def _recomputed(
    study: Study, directory: Path, cell: Cell, r: tuple[int, int], seeds: list[int], notes: set[str]
) -> Iterator[str]:
    """How networks of a shard, and their rows in the results file, differ from the same computed here."""
    name = plan.identity(cell.config, study.entropy)
    try:
        variables, attributes = store.read_shard(store.shard_path(directory, name, *r), name)
    except ResultsError as error:
        yield f"{error}" if "seal" not in str(error) else f"{cell.name} seeds {seeds}: not compared, their shard is damaged"
        return
    for key in ("versions", "engine"):
        if attributes[key] != (here := environment()[key]):
            notes.add(f"shards were computed with {key} {attributes[key]}, here it is {here}: bits may differ")
    merged = _merged_rows(directory, cell.name, name, seeds)
    for seed in seeds:
        again = _network(study, cell, seed)
        rows = {n: v.values[[seed - r[0]]] if v.dims[:1] == ("seed",) else v.values for n, v in variables.items()}
        yield from _unlike(f"{cell.name} seed {seed}: the shard", rows, again)
        yield from _unlike(f"{cell.name} seed {seed}: {RESULTS}", merged.get(seed, {}), again)


def _network(study: Study, cell: Cell, seed: int) -> dict[str, Variable]:
    """One network, computed by itself."""
    config, name = cell.config, plan.identity(cell.config, study.entropy)
    return compute(Shard(cell.name, name, config.plain(), study.entropy, seed, seed + 1, 16, ""), config.task.pool())


def _merged_rows(directory: Path, cell: str, identity: str, seeds: list[int]) -> dict[int, dict[str, np.ndarray]]:
    """The rows of networks in the results file, as far as they are in it."""
    try:
        found = open_results(directory, check=False).cell(cell)
        return found.rows(seeds) if found.attributes["identity"] == identity else {}
    except ResultsError:  # absent; if it is damaged, its seal has said so
        return {}


def _unlike(where: str, stored: dict[str, np.ndarray], again: dict[str, Variable]) -> Iterator[str]:
    for name, values in stored.items():
        if name in again and values.astype(again[name].values.dtype).tobytes() != again[name].values.tobytes():
            here = again[name].values
            if values.dtype.kind in "OU" and values.tolist() == here.tolist():
                continue
            yield f"{where} has another {name} than the network has" + _first_difference(values, here)


def _first_difference(stored: np.ndarray, here: np.ndarray) -> str:
    if stored.shape != here.shape:
        return f": its shape is {stored.shape}, not {here.shape}"
    place = tuple(int(k) for k in np.argwhere(~((stored == here) | ((stored != stored) & (here != here))))[:1].reshape(-1))
    return f": {stored[place]!r} in place of {here[place]!r} at {list(place[1:])}" if place else " in the sign of a zero"


# ------------------------------------------------------------------------------------------------- one network


def network(directory: str | Path, cell: str, seed: int) -> dict[str, np.ndarray]:
    """One network of a study: read where its weights are stored (record.weights = "ends"), trained again otherwise.

    Parameters
    ----------
    directory : path
        A results directory.
    cell : str
    seed : int

    Returns
    -------
    dict of arrays
        W_start, W_final [neuron, input], v_start, v_final [neuron], or those of all layers as `mcrace.kernels.Layers` names
        them; X [sample, input], y [sample(, output)], seed, status, stop_step; the same bits in either way.

    Raises
    ------
    StudyError
        If there is no such cell or seed.
    """
    directory = Path(directory)
    study = study_of(directory)
    found = study.cell(cell)
    first, stop = found.seeds.first, found.seeds.first + found.seeds.count
    if not first <= seed < stop:
        raise StudyError(f"cell {cell} has the seeds {first} to {stop - 1}, not {seed}")
    variables = _stored(study, directory, found, seed)
    if not variables:
        config = replace(found.config, record=found.config.record.model_copy(update={"weights": "ends"}))
        variables = {name: v.values[0] for name, v in _network(study, replace(found, config=config), seed).items()
                     if v.dims[:1] == ("seed",)}
    weights = (f"{name}_{state}" for state in ("start", "final") for name in parameters_of(found.config))
    names = (*weights, "seed", "status", "stop_step")
    X, y = found.config.task.sample(found.config.task.pool(), study.entropy, seed)
    return {**{name: np.asarray(variables[name]) for name in names}, "X": X, "y": y}


def _stored(study: Study, directory: Path, cell: Cell, seed: int) -> dict[str, np.ndarray]:
    """The row of a network in its shard, if that is there with weights."""
    name = plan.identity(cell.config, study.entropy)
    if cell.config.record.weights == "ends":
        for first, stop in store.stored_ranges(directory, name):
            if first <= seed < stop:
                variables, _ = store.read_shard(store.shard_path(directory, name, first, stop), name)
                return {n: v.values[seed - first] for n, v in variables.items() if v.dims[:1] == ("seed",)}
    return {}
