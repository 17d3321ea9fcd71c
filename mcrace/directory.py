"""A results directory: which study it holds, what is missing, and the results file merged from its shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcrace import plan, store
from mcrace.completion import complete
from mcrace.errors import McraceError, ResultsError, StudyError
from mcrace.study import Cell, Study, load_study
from mcrace.sweep import flat

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
        if only is None or cell.name == only or (cell.role == "half-step" and cell.of == only):
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
            old, new = flat(cells[cell.name].config.plain()), flat(cell.config.plain())
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
