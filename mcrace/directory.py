"""A results directory: which study it holds, what is missing, and the results file merged from its shards."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcrace import plan, store
from mcrace.completion import complete
from mcrace.errors import McraceError, ResultsError, StudyError
from mcrace.recording import Status
from mcrace.results import RESULTS, Results, open_results
from mcrace.store import Variable
from mcrace.study import Cell, Study, load_study
from mcrace.sweep import flat
from mcrace.worker import environment

STUDY = "study.toml"


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
            first, name = cell.seeds.first, plan.identity(cell.config, study.entropy)
            missing[cell.name] = store.missing_ranges(directory, name, first, first + cell.seeds.count)
    return Work(study, directory, missing)


def _same_study(study: Study, directory: Path) -> None:
    """Compare with the study that is in the directory, cell by cell."""
    path = directory / STUDY
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ResultsError(f"{directory}: cannot be read: {error.strerror}") from None
    if STUDY not in names and not path.exists():  # another command may be making the directory at this moment
        if any(not name.startswith(".") for name in names):
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
            old, new = flat(cells[cell.name].config.deciding()), flat(cell.config.deciding())
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key) and not key.startswith("record."):
                    yield f"{cell.name}: {key}: there {old.get(key)}, here {new.get(key)}"


@contextmanager
def writable(directory: Path) -> Iterator[None]:
    """Say in one sentence what keeps a directory from being written."""
    try:
        yield
    except McraceError:
        raise
    except OSError as error:
        raise ResultsError(f"{directory}: cannot be written: {error.strerror or error}") from None


def merge(work: Work, warn: Callable[[str], None] = lambda text: None) -> Results:
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
    with writable(work.directory), store.publish(path) as file:
        machines = set()
        for cell in work.study.cells:
            if cell.name in contents:
                machines |= _merge_cell(file, work, cell)
        kernels = sorted({cell.attrs["kernel"] for cell in file["cells"].values()})
        attributes = {"study": work.study.text, "name": work.study.name, "entropy": work.study.entropy,
                      "contents": fingerprint, "identity": hashlib.sha256(fingerprint.encode()).hexdigest(),
                      "kernel": " ".join(kernels), "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **environment()}
        store.write_attributes(file, {"format_version": store.FORMAT_VERSION, **attributes})
    if len(machines) > 1:
        warn("warning: the shards come from unlike environments: " + "; ".join(sorted(machines)))
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


def _merge_cell(file: Any, work: Work, cell: Cell) -> set[str]:
    identity, first = plan.identity(cell.config, work.study.entropy), cell.seeds.first
    cells = file["cells"] if "cells" in file else file.create_group("cells", track_order=True)
    group = cells.create_group(cell.name, track_order=True)
    sources = store.merge_cell(group, work.directory, identity, first, first + cell.seeds.count)
    swept = _swept(cell, group)
    store.write_variables(group, swept)
    statuses = np.bincount(group["status"][...], minlength=len(Status))
    attributes = {"identity": identity, "role": cell.role, "of": cell.of, "config": json.dumps(cell.config.plain()),
                  "swept": " ".join(swept),
                  "statuses": " ".join(f"{s.name.lower()}={n}" for s, n in zip(Status, statuses)),
                  "seconds": float(sum(s["seconds"] for s in sources)), "kernel": sources[0]["kernel"]}
    store.write_attributes(group, attributes)
    return {f"{s['cpu']}, {s['versions']}, engine {s['engine']}" for s in sources}


def _swept(cell: Cell, taken: Container[str]) -> dict[str, Variable]:
    """What was swept, as scalars by the last part of their keys, or by their whole keys where that name is taken."""
    shorts = [key.rsplit(".", 1)[-1] for key in cell.swept]
    found = {}
    for (key, value), short in zip(cell.swept.items(), shorts):
        if isinstance(value, list) and len(value) == 1:
            (value,) = value  # the width of the one hidden layer
        if isinstance(value, bool):
            value = int(value)  # xarray reads no truths
        if isinstance(value, int | float | str):
            free = short not in taken and shorts.count(short) == 1
            found[short if free else key] = Variable((), np.array(value, object if isinstance(value, str) else None))
    return found


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
