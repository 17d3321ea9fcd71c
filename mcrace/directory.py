"""A results directory: which study it holds, what is missing, and the results file merged from its shards."""

from __future__ import annotations

import bisect
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcrace import plan, store
from mcrace.completion import complete
from mcrace.errors import McraceError, ResultsError, StudyError
from mcrace.results import open_results
from mcrace.study import Cell, Study, load_study
from mcrace.sweep import flat

STUDY = "study.toml"
RATE_SECONDS = 600.0


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
        if only is None or cell.name == only or (cell.role == "half-step" and cell.of == only):
            first, name = cell.seeds.first, plan.identity(cell.config, study.entropy)
            missing[cell.name] = store.missing_ranges(directory, name, first, first + cell.seeds.count)
    return Work(study, directory, missing)


def set_damaged_aside(work: Work, say: Callable[[str], None]) -> bool:
    """Compare the shards of a study with their seals; returns whether some are damaged, after telling which."""
    found = False
    for cell in work.study.cells:
        name = plan.identity(cell.config, work.study.entropy)
        for first, stop in store.stored_ranges(work.directory, name):
            path = store.shard_path(work.directory, name, first, stop)
            try:
                store.read_shard(path, name)
            except ResultsError as error:
                found = True
                say(f"{error}; it is set aside")
                with writable(work.directory):
                    os.replace(path, path.with_suffix(".damaged"))
    return found


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


@dataclass(frozen=True)
class CellStatus:
    """How far a cell is.

    Attributes
    ----------
    done, missing : int
        Networks that are there, and that are not, of those asked for.
    failed : dict
        What went wrong with ranges of seeds when they were last tried, and that are not there.
    damaged : int
        Shards that were set aside as damaged, and are not there again.
    """

    cell: Cell
    done: int
    missing: int
    failed: dict[tuple[int, int], str]
    damaged: int


@dataclass(frozen=True)
class Status:
    """How far a directory is.

    Attributes
    ----------
    rate : float
        Networks a second, over the last shards that were written; 0 where too few tell.
    rate_seconds : float
        The time from which the rate is.
    written : float
        When the last shard was written, in seconds since 1970; 0: never.
    merged : int
        How many networks results.h5 holds.
    """

    study: Study
    cells: list[CellStatus]
    rate: float
    rate_seconds: float
    written: float
    merged: int

    @property
    def done(self) -> int:
        """Networks that are there."""
        return sum(c.done for c in self.cells)

    @property
    def missing(self) -> int:
        """Networks that are not."""
        return sum(c.missing for c in self.cells)

    @property
    def seconds_left(self) -> float:
        """At the rate of late; NaN where it is not known."""
        return 0.0 if not self.missing else self.missing / self.rate if self.rate else math.nan


def status(directory: str | Path) -> Status:
    """How far each cell of a results directory is, from the names of its shards and the times of their writing.

    Raises
    ------
    ResultsError
        If there is no study in the directory.
    """
    directory = Path(directory)
    study = study_of(directory)
    work = survey(study, directory)
    cells = [_cell_status(work, cell) for cell in study.cells]
    names = {plan.identity(c.config, study.entropy) for c in study.cells}
    written = sorted(entry for name in names for entry in store.written(directory, name))
    return Status(study, cells, *_rate(written), written[-1][0] if written else 0.0, _merged(directory))


def _cell_status(work: Work, cell: Cell) -> CellStatus:
    """A range that failed or was damaged counts as long as some of it is missing."""
    name, missing = plan.identity(cell.config, work.study.entropy), work.missing[cell.name]
    begins = [begin for begin, _ in missing]

    def lacking(first: int, stop: int) -> bool:
        place = bisect.bisect_left(begins, stop)
        return place > 0 and missing[place - 1][1] > first

    failed = {r: store.failure(store.shard_path(work.directory, name, *r))
              for r in store.stored_ranges(work.directory, name, ".failed") if lacking(*r)}
    damaged = sum(lacking(*r) for r in store.stored_ranges(work.directory, name, ".damaged"))
    left = sum(end - begin for begin, end in missing)
    return CellStatus(cell, cell.seeds.count - left, left, failed, damaged)


def _rate(written: list[tuple[float, int]]) -> tuple[float, float]:
    """Networks a second over the last minutes in which shards were written, and how long these are."""
    late = [(at, networks) for at, networks in written if at > written[-1][0] - RATE_SECONDS]
    seconds = late[-1][0] - late[0][0] if late else 0.0
    return (sum(networks for _, networks in late[1:]) / seconds, seconds) if seconds else (0.0, 0.0)


def _merged(directory: Path) -> int:
    """How many networks the results file holds."""
    try:
        contents = json.loads(open_results(directory, check=False).attributes["contents"])[1]
    except (ResultsError, KeyError, ValueError):
        return 0
    return sum(end - begin for cell in contents.values() for begin, end in cell["ranges"])


def study_of(directory: Path) -> Study:
    """The completed study of a results directory."""
    return complete(own_study(directory))


def own_study(directory: Path) -> Study:
    """The study of a results directory as it was written.

    Raises
    ------
    ResultsError
        If there is none.
    """
    path = directory / STUDY
    if not path.exists():
        why = "holds no study of mcrace" if directory.exists() else "no such directory"
        raise ResultsError(f"{directory}: {why}")
    return load_study(path)
