"""The study file (TOML) -> a validated, frozen Study; every mistake is told at once, with its dotted key."""

from __future__ import annotations

import copy
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mcrace.errors import StudyError, nearest
from mcrace.mistakes import MAX_COUNTED, collect, listed, validated
from mcrace.rewriting import added, replaced
from mcrace.sections import SECTIONS, Config, Heading, Seeds
from mcrace.sweep import variations
from mcrace.tasks import TASKS, Files, FromFile, Task

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
DEEP_KEY = re.compile(rf"(?<![\w-])(?:{PART}\.[ \t]*+){{{MAX_DEPTH}}}{PART}")
MAX_EXPANDED = 30_000_000  # letters of the tables of all cells
TABLES = ("study", *SECTIONS, "sweep", "predictions", "files", "cells")


@dataclass(frozen=True)
class Cell:
    """One variation: a configuration and how many seeds it gets."""

    name: str
    config: Config
    seeds: Seeds
    role: Literal["main", "control", "half-step"] = "main"
    of: str = ""
    swept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A whole study: cells in order, and the options of its predictions as they stand in the file."""

    name: str
    seeds: Seeds
    entropy: int
    cells: tuple[Cell, ...]
    predictions: dict[str, dict[str, Any]]
    text: str

    def cell(self, name: str) -> Cell:
        """The cell of a name.

        Raises
        ------
        StudyError
            If there is none.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise StudyError(f"no cell {name!r}: {nearest(name, (c.name for c in self.cells))}")

    def with_seeds(self, count: int) -> Study:
        """The same with another number of seeds, in its text too."""
        seeds = validated(Seeds, {"first": self.seeds.first, "count": count}, "study.seeds")
        table = isinstance(tomllib.loads(self.text)["study"]["seeds"], dict)
        text = replaced(self.text, ("study", "seeds", "count") if table else ("study", "seeds"), count)
        return replace(self, seeds=seeds, cells=tuple(replace(c, seeds=seeds) for c in self.cells), text=text)

    def with_entropy(self, entropy: int, same_data: bool = False) -> Study:
        """The same study from other random numbers, in its text too; `same_data`: the samples stay as they are.

        Points of ``[sweep.random]`` are drawn anew.
        """
        text = replaced(self.text, ("study", "entropy"), entropy)
        return parse_study(added(text, ("task", "data_entropy"), self.data_entropy) if same_data else text)

    @property
    def data_entropy(self) -> int:
        """Root of the streams of data and labels, but for cells that have their own."""
        kept = tomllib.loads(self.text)["task"].get("data_entropy")
        return self.entropy if kept is None else kept


def load_study(path: str | Path) -> Study:
    """Read a study file.

    Parameters
    ----------
    path : str or Path
        A TOML file.  Relative paths in it (`task.path`) count from its folder.

    Raises
    ------
    StudyError
        If the file is missing, is no TOML, or has mistakes: all of them are told, one a line.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise StudyError(f"{path}: a study file has at most {MAX_BYTES:,} bytes, this one {len(data):,}")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not a text file (UTF-8)") from None
    try:
        return parse_study(text, path.parent)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def parse_study(text: str, folder: str | Path = ".") -> Study:
    """Read the text of a study file; see `load_study`.

    Relative paths in it count from `folder`.  What the files hold that it names is noted at the end of the study's text, in
    the table [files]; where that stands already, the files are not looked at.

    Examples
    --------
    >>> parse_study('''
    ... [study]
    ... name = "tiny"
    ... seeds = 4
    ... entropy = 1
    ... [task]
    ... kind = "gaussian"
    ... samples = 8
    ... dimension = 3
    ... [network]
    ... hidden = [5]
    ... [training]
    ... step_size = 0.1
    ... steps = 20
    ... ''').cells[0].config.network.hidden
    (5,)
    """
    if DEEP_KEY.search(text):  # for which the parser takes quadratic time
        raise StudyError(f"a key has more than {MAX_DEPTH} parts")
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise StudyError(f"not valid TOML: {error}") from None
    if _depth(raw) > MAX_DEPTH:
        raise StudyError(f"tables and lists are nested more than {MAX_DEPTH} deep")
    unknown = [key for key in raw if key not in TABLES]
    mistakes: list[str] = [f"{key}: unknown table: {nearest(key[:100], TABLES)}" for key in unknown[:MAX_COUNTED]]
    mistakes += [f"{key}: must be a table [{key}]" for key in TABLES[:-1] if not isinstance(raw.get(key, {}), dict)]
    raw = {key: value for key, value in raw.items() if key == "cells" or isinstance(value, dict)}
    heading = collect(mistakes, Heading, raw.get("study", {}), "study")
    base = {part: raw.get(part, {}) for part in SECTIONS}
    files = Files(Path(folder), raw.get("files", {}))
    cells = []
    room = MAX_EXPANDED // (1 + len(repr(base)))
    for name, overrides in variations(raw, heading.entropy if heading else 0, mistakes):
        room -= 1
        if room < 0:
            mistakes.append(f"the cells together are too long: {MAX_EXPANDED:,} letters at most; make fewer, or shorter tables")
        if len(mistakes) > MAX_COUNTED or room < 0:
            break
        config = _resolve(base, overrides, name, files, mistakes)
        if config and heading:
            cells.append(Cell(name, config, heading.seeds, swept=overrides))
    predictions = raw.get("predictions", {})
    odd = [name for name, options in predictions.items() if not isinstance(options, dict)]
    mistakes += [f"predictions.{name}: must be a table, as in {name} = {{ }}" for name in odd]
    if mistakes or heading is None:
        raise StudyError(listed(list(dict.fromkeys(mistakes))))
    return Study(heading.name, heading.seeds, heading.entropy, tuple(cells), predictions, text + files.note)


def _depth(value: Any) -> int:
    """How deep tables and lists are nested, found without recursion."""
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        depth += 1
        inner = (v.values() if isinstance(v, dict) else v for v in layer if isinstance(v, dict | list))
        layer = [v for values in inner for v in values]
    return depth


def _resolve(
    base: dict[str, Any], overrides: dict[str, Any], name: str, files: Files, mistakes: list[str]
) -> Config | None:
    """The configuration of a cell: the base with some dotted keys replaced."""
    tables = copy.deepcopy(base)
    prefix = f"cell {name}: " if overrides else ""
    for key, value in overrides.items():
        if key == "task" and isinstance(value, dict):  # of another kind, which has other keys
            tables[key] |= value
            continue
        *path, last = key.split(".")
        table: Any = tables
        for part in path:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict) or not path or path[0] not in SECTIONS:
            mistakes.append(f"{prefix}{key}: is no key of {', '.join(SECTIONS)}")
            return None
        table[last] = value
    found: dict[str, Any] = {}
    own: list[str] = []
    kind = tables["task"].get("kind")
    if not isinstance(kind, str) or kind not in TASKS:
        what = "is missing" if kind is None else f"unknown task {kind!r}"
        own.append(f"task.kind: {what}: {nearest(str(kind), TASKS)}")
    else:
        found["task"] = _with_file(own, collect(own, TASKS[kind], tables["task"], "task"), files)
    for part in ("network", "training", "record"):
        found[part] = collect(own, SECTIONS[part], tables[part], part)
    task, training, record = (found.get(part) for part in ("task", "training", "record"))
    if task and training and (training.batch or 0) > task.samples:
        own.append(f"training.batch: {training.batch} samples in a batch, but only {task.samples} in all")
    direction = found["network"].init.direction if found["network"] else None
    if task and direction and task.inputs() < 2:
        own.append("network.init.direction: one input leaves no direction to choose")
    if task and direction and isinstance(direction.axis, int) and not 0 <= direction.axis < task.inputs():
        own.append(f"network.init.direction.axis: {direction.axis} is none of the {task.inputs()} inputs, counted from 0")
    if task and found["network"] and found["network"].init.subtract_start and task.loss != "mse":
        own.append('network.init.subtract_start: goes with task.loss = "mse"')
    if training and record and isinstance(record.times, tuple) and record.times[0] > training.steps:
        own.append(f"record.times: the first, {record.times[0]}, lies beyond the last step, {training.steps}")
    config = None if own else Config(**found)
    own += _not_built(config) if config else []
    mistakes += [m if m in mistakes else prefix + m for m in own]
    return None if own else config


def _not_built(config: Config) -> list[str]:
    """Combinations of activation, method and gradient that no kernel knows."""
    network, training, out = config.network, config.training, []
    special = [key for key, usual in ((f'network.activation = "{network.activation}"', network.activation == "relu"),
                                      (f'training.method = "{training.method}"', training.method in ("gd", "heavy-ball")),
                                      ('training.gradient = "population"', training.gradient == "samples")) if not usual]
    if special and config.layered:
        out.append(f"{special[0]} goes with one hidden layer and one output, without network.bias, network.residual, "
                   "network.norm and network.init.subtract_start")
    if network.activation != "relu" and training.batch:
        out.append(f"{special[0]} takes no minibatches (training.batch)")
    if training.gradient == "population":
        if network.activation != "relu":
            out.append('training.gradient = "population" goes with network.activation = "relu"')
        if config.record.stages:
            out.append('training.gradient = "population" goes without record.stages, which train on samples')
        try:
            config.task.population_of(0, np.arange(0))
        except StudyError as error:
            out.append(str(error))
    return out


def _with_file(mistakes: list[str], task: Task | None, files: Files) -> Task | None:
    """The task, with what its file holds if it has one."""
    if not isinstance(task, FromFile):
        return task
    try:
        return files.resolved(task)
    except StudyError as error:
        mistakes.append(str(error))
        return None
