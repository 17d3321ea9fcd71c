"""The study file (TOML) -> a validated, frozen Study; every mistake is told at once, with its dotted key."""

from __future__ import annotations

import copy
import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from mcrace.errors import StudyError, nearest
from mcrace.seeds import generator
from mcrace.tables import Section
from mcrace.tasks import TASKS, Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9=,+_.-]{0,99}")
STATE = re.compile(r"start|tau=1|onset|final|level=0\.[0-9]{1,6}")
MAX_CELLS = 10_000
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_TOLD = 100  # mistakes told one by one
PLAIN_WORDS = {"model_type": "must be a table", "tuple_type": "must be a list"}
BRANCHES = ("Times", "tuple[int, ...]")  # of record.times, as pydantic calls them


class Seeds(Section):
    """Which seeds: network i of a cell is seed i."""

    first: int = Field(0, ge=0, lt=2**62, description="the first seed")
    count: int = Field(ge=1, le=10**9, description="networks in each cell")


class Heading(Section):
    """The [study] table."""

    name: str = Field(description="letters, digits, and . _ - = , +")
    seeds: Seeds
    entropy: int = Field(ge=0, lt=2**63, description="root of every random stream")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | dict):
            raise ValueError("a number of networks, or a table { first, count }")
        return {"count": value} if isinstance(value, int) else value

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)


class Init(Section):
    """Random start: w ~ scale N(0, I/d), v = ±|w|/ratio."""

    scale: float = Field(1.0, gt=0, le=1e6, description="standard deviation of |w|, about")
    balanced: bool = Field(True, description="|v| = |w|; false: v ~ scale N(0, 1)")
    ratio: float = Field(1.0, gt=0, le=1e6, description="|w|/|v| where balanced, at the same product")
    paired: bool = Field(False, description="neurons in pairs with opposite v, so that f = 0 at the start")


class Network(Section):
    """The [network] table."""

    hidden: tuple[int, ...] = Field(min_length=1, max_length=1, description="neurons in the hidden layer")
    init: Init = Init()

    @field_validator("hidden")
    @classmethod
    def _widths(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= m <= 100_000 for m in hidden):
            raise ValueError("a layer has between 1 and 100,000 neurons")
        return hidden

    @model_validator(mode="after")
    def _pairs(self) -> Network:
        if self.init.paired and self.hidden[0] % 2:
            raise ValueError("the number of neurons must be even where they come in pairs (init.paired = true)")
        return self


class Until(Section):
    """When a network stops before its last step."""

    loss_drop: float = Field(gt=0, lt=1, description="share of the loss of the zero output that must be gone")


class Schedule(Section):
    """How the step size changes: see `mcrace.schedule.step_sizes`."""

    kind: Literal["constant", "step", "cosine"] = "constant"
    warm_up: int = Field(0, ge=0, le=10**9, description="steps in which the step size rises linearly")
    every: int = Field(1000, ge=1, le=10**9, description="steps between two drops")
    factor: float = Field(0.5, gt=0, le=1, description="what a drop leaves")
    floor: float = Field(0.0, ge=0, le=1, description="share of the step size that a cosine ends at")


class Training(Section):
    """The [training] table.

    heavy-ball: velocity = momentum velocity - step_size gradient; by `friction` γ, momentum = 1 - γ sqrt(step_size),
    which is w'' = -γ w' - gradient in the time sqrt(step_size) (THEORY.md, balancedness).
    """

    method: Literal["gd", "heavy-ball"] = "gd"
    step_size: float = Field(gt=0, le=1e6, description="step of descent")
    schedule: Schedule = Schedule()
    momentum: float | None = Field(None, ge=0, le=1, description="share of the velocity kept at a step")
    friction: float | None = Field(None, ge=0, description="γ of the heavy ball, instead of momentum")
    initial_velocity: float = Field(0.0, ge=0, le=1e6, description="scale of random velocities w', v' at the start")
    weight_decay: float = Field(0.0, ge=0, le=1e6, description="λ of λ(|W|² + |v|²)/2 added to the loss")
    batch: int | None = Field(None, ge=1, description="samples in a minibatch; all of them by default")
    steps: int = Field(ge=1, le=10**9, description="steps at most")
    until: Until | None = None
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _heavy_ball(self) -> Training:
        given = [name for name in ("momentum", "friction") if getattr(self, name) is not None]
        if self.method == "heavy-ball" and len(given) != 1:
            raise ValueError('method = "heavy-ball" needs one of momentum and friction')
        if self.method == "gd" and (given or self.initial_velocity):
            raise ValueError(f'{(given or ["initial_velocity"])[0]} goes with method = "heavy-ball"')
        if not 0 <= self.kept_velocity <= 1:
            raise ValueError(f"friction {self.friction:g} is too large for the step: friction sqrt(step_size) is at most 1")
        return self

    @property
    def kept_velocity(self) -> float:
        """The momentum μ of a step; 0 for plain descent."""
        if self.friction is not None:
            return 1 - self.friction * self.step_size**0.5
        return self.momentum or 0.0


class Times(Section):
    """Recording times."""

    spacing: Literal["log", "linear"] = "log"
    count: int = Field(48, ge=2, le=100_000, description="recording times, step 0 and the last included")


class Record(Section):
    """The [record] table: what is stored, and when."""

    times: Times | tuple[int, ...] = Times()
    observables: tuple[str, ...] = ("loss",)
    weights: Literal["none", "ends", "all"] = "none"

    @field_validator("times")
    @classmethod
    def _increasing(cls, times: Times | tuple[int, ...]) -> Times | tuple[int, ...]:
        if isinstance(times, tuple) and (not times or times[0] < 0 or any(b <= a for a, b in itertools.pairwise(times))):
            raise ValueError("a list of recording times holds steps from 0 on, in increasing order")
        return times

    @field_validator("observables")
    @classmethod
    def _states(cls, observables: tuple[str, ...]) -> tuple[str, ...]:
        for item in observables:
            _, at, state = item.partition("@")
            if at and not STATE.fullmatch(state):
                raise ValueError(f"{item!r}: a state is start, tau=1, onset, level=0.x or final")
        return observables


@dataclass(frozen=True)
class Config:
    """All that decides the numbers of a cell, but for its seeds."""

    task: Task
    network: Network
    training: Training
    record: Record

    def plain(self) -> dict[str, Any]:
        """As nested dictionaries of plain values."""
        return {part: getattr(self, part).model_dump(mode="json") for part in SECTIONS}


SECTIONS: dict[str, type[Section]] = {"network": Network, "training": Training, "record": Record}
SECTIONS = {"task": Task, **SECTIONS}  # type: ignore[dict-item]
TABLES = ("study", *SECTIONS, "cells", "sweep", "predictions")


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
        """The same with another number of seeds."""
        seeds = validated(Seeds, {"first": self.seeds.first, "count": count}, "study.seeds")
        return replace(self, seeds=seeds, cells=tuple(replace(c, seeds=seeds) for c in self.cells))


def plain_name(name: str) -> str:
    """The name, if it is fit for a file and a group."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, and = , + _ . - after a letter or digit, 100 at most")
    return name


def load_study(path: str | Path) -> Study:
    """Read a study file.

    Parameters
    ----------
    path : str or Path
        A TOML file.

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
        return parse_study(text)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def parse_study(text: str) -> Study:
    """Read the text of a study file; see `load_study`.

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
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise StudyError(f"not valid TOML: {error}") from None
    if _depth(raw) > MAX_DEPTH:
        raise StudyError(f"tables and lists are nested more than {MAX_DEPTH} deep")
    mistakes: list[str] = [f"{key}: unknown table: {nearest(key, TABLES)}" for key in raw if key not in TABLES]
    mistakes += [f"{key}: must be a table [{key}]" for key in TABLES if key != "cells" and not isinstance(raw.get(key, {}), dict)]
    if mistakes:
        raise StudyError("; ".join(mistakes) if len(mistakes) == 1 else _listed(mistakes))
    heading = _collect(mistakes, Heading, raw.get("study", {}), "study")
    base = {part: raw.get(part, {}) for part in SECTIONS}
    cells = []
    for name, overrides in _variations(raw, heading, mistakes):
        config = _resolve(base, overrides, name, mistakes)
        if config and heading:
            cells.append(Cell(name, config, heading.seeds, swept=overrides))
    predictions = raw.get("predictions", {})
    mistakes += [f"predictions.{k}: must be a table, as in {k} = {{ }}" for k, v in predictions.items() if not isinstance(v, dict)]
    if mistakes or heading is None:
        raise StudyError(_listed(list(dict.fromkeys(mistakes))))
    return Study(heading.name, heading.seeds, heading.entropy, tuple(cells), predictions, text)


def _listed(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    told = [*mistakes[:MAX_TOLD], *(["..."] if len(mistakes) > MAX_TOLD else [])]
    return f"{len(mistakes)} mistakes\n" + "\n".join(f"  {m}" for m in told)


def _depth(value: Any) -> int:
    """How deep tables and lists are nested, found without recursion."""
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        depth += 1
        inner = (v.values() if isinstance(v, dict) else v for v in layer if isinstance(v, dict | list))
        layer = [v for values in inner for v in values]
    return depth


def _collect(mistakes: list[str], model: type[BaseModel], values: Any, where: str) -> Any:
    """The validated model, or None after adding its mistakes to the list."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        inside = {p["loc"][:n] for p in problems if not _fits_no_branch(p) for n in range(len(p["loc"]))}
        mistakes += [_sentence(model, p, where) for p in problems if not _fits_no_branch(p) or p["loc"][:-1] not in inside]
    return None


def _fits_no_branch(problem: Any) -> bool:
    """Whether a value is neither of two sorts of thing; not worth telling if something is wrong inside one sort."""
    return problem["loc"][-1:] in [(branch,) for branch in BRANCHES]


def validated(model: type[BaseModel], values: Any, where: str) -> Any:
    """The values as a model.

    Raises
    ------
    StudyError
        Telling all mistakes, each with its dotted key.
    """
    mistakes: list[str] = []
    found = _collect(mistakes, model, values, where)
    if mistakes:
        raise StudyError(_listed(mistakes))
    return found


def _sentence(model: type[BaseModel], problem: Any, where: str) -> str:
    """One mistake that pydantic found, as a sentence with its dotted key."""
    location = [part for part in problem["loc"] if part not in BRANCHES]
    key = ".".join([where, *map(str, location)])
    info = _field(model, location)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key: {nearest(str(location[-1]), _keys(model, location[:-1]))}"
    why = f" ({info.description})" if info is not None and info.description else ""
    if problem["type"] == "missing":
        return f"{key}: is missing{why}"
    message = PLAIN_WORDS.get(problem["type"], problem["msg"]).removeprefix("Value error, ")
    message = "must be a table or a list of steps" if _fits_no_branch(problem) else message
    message = message.replace("Tuple should", "List should").replace(" after validation", "")
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    value = repr(list(problem["input"]) if isinstance(problem["input"], tuple) else problem["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"{key}: {message[0].lower()}{message[1:]}, not {value}{why}"


def _field(model: type[BaseModel], location: list[Any]) -> Any:
    """The field that a location names, through sections within sections."""
    info = None
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            return info
        info = model.model_fields[part]
        model = _section(info.annotation) or model
    return info


def _section(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    for part in location:
        inner = _section(model.model_fields[part].annotation) if part in model.model_fields else None
        model = inner or model
    return list(model.model_fields)


def _resolve(base: dict[str, Any], overrides: dict[str, Any], name: str, mistakes: list[str]) -> Config | None:
    """The configuration of a cell: the base with some dotted keys replaced."""
    tables = copy.deepcopy(base)
    prefix = f"cell {name}: " if overrides else ""
    for key, value in overrides.items():
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
        own.append(f"task.kind: " + ("is missing" if kind is None else f"unknown task {kind!r}") + f": {nearest(str(kind), TASKS)}")
    else:
        found["task"] = _collect(own, TASKS[kind], tables["task"], "task")
    for part in ("network", "training", "record"):
        found[part] = _collect(own, SECTIONS[part], tables[part], part)
    task, training, record = (found.get(part) for part in ("task", "training", "record"))
    if task and training and (training.batch or 0) > task.samples:
        own.append(f"training.batch: {training.batch} samples in a batch, but only {task.samples} in all")
    if training and record and isinstance(record.times, tuple) and record.times[0] > training.steps:
        own.append(f"record.times: the first, {record.times[0]}, lies beyond the last step, {training.steps}")
    mistakes += [m if m in mistakes else prefix + m for m in own]
    return None if own else Config(**found)


def _variations(raw: dict[str, Any], heading: Heading | None, mistakes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of cells with the dotted keys that each replaces: the sweep (or the base alone), then the named cells."""
    names: set[str] = set()
    for overrides in _sweep(raw.get("sweep", {}), heading.entropy if heading else 0, mistakes):
        name = _cell_name(overrides)
        if name in names:  # values that agree in six digits
            name = f"{name[:90]}+{len(names)}"
        names.add(name)
        yield name, overrides
    cells = raw.get("cells", [])
    if not isinstance(cells, list) or any(not isinstance(c, dict) for c in cells):
        mistakes.append("cells: each is a table of its own, [[cells]]")
        return
    for number, cell in enumerate(cells):
        overrides = _flat({k: v for k, v in cell.items() if k != "name"})
        name = cell.get("name")
        try:
            plain_name(name if isinstance(name, str) else "")
        except ValueError as error:
            mistakes.append(f"cells.{number}.name: {'is missing' if name is None else error}")
            continue
        if name in names:
            mistakes.append(f"cells.{number}.name: {name!r} is taken")
            continue
        names.add(name)
        yield name, overrides


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys, down to the tables of the study file that are values (init, until, times)."""
    flat = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _sweep(sweep: dict[str, Any], entropy: int, mistakes: list[str]) -> Iterator[dict[str, Any]]:
    """The product of a grid, of lists taken together (zip), and of random draws."""
    if unknown := [k for k in sweep if k not in ("grid", "zip", "random")]:
        mistakes.extend(f"sweep.{k}: unknown key: {nearest(k, ['grid', 'zip', 'random'])}" for k in unknown)
        return
    grid, together, draws = (sweep.get(k, {}) for k in ("grid", "zip", "random"))
    if any(not isinstance(t, dict) for t in (grid, together, draws)):
        mistakes.append("sweep: grid, zip and random are tables")
        return
    grid, together = ({k: v for k, v in t.items()} for t in (grid, together))
    for key, values in [*grid.items(), *together.items()]:
        if not isinstance(values, list) or not values:
            mistakes.append(f"sweep: {key}: must be a list of values, with quotes round its dotted key")
            return
    if len({len(v) for v in together.values()}) > 1:
        mistakes.append("sweep.zip: the lists must be of one length")
        return
    axes = [[{k: x} for x in v] for k, v in grid.items()]
    if together:
        axes.append([dict(zip(together, row)) for row in zip(*together.values())])
    if draws:
        axes.append(_random_draws(draws, entropy, mistakes))
    if np.prod([len(a) for a in axes], dtype=float) > MAX_CELLS:
        mistakes.append(f"sweep: makes more than {MAX_CELLS:,} cells")
        return
    for row in itertools.product(*axes):
        yield {k: v for part in row for k, v in part.items()}


def _random_draws(table: dict[str, Any], entropy: int, mistakes: list[str]) -> list[dict[str, Any]]:
    """`draws` points, each key uniform between low and high, or log-uniform."""
    ranges, count = {k: v for k, v in table.items() if k != "draws"}, table.get("draws")
    if not _is_number(count) or not isinstance(count, int) or not 1 <= count <= MAX_CELLS:
        mistakes.append(f"sweep.random.draws: a number from 1 to {MAX_CELLS:,}")
        return []
    for key, span in ranges.items():
        numbers = isinstance(span, dict) and all(_is_number(span.get(k)) for k in ("low", "high"))
        if not numbers or span["low"] >= span["high"] or (span.get("log") and span["low"] <= 0):
            mistakes.append(f"sweep.random: {key}: needs {{ low, high }} with low < high, and log = true where low > 0")
            return []
    uniform = generator(entropy, "sweep").random((count, len(ranges)))
    rows = []
    for row in uniform:
        point = {}
        for u, (key, span) in zip(row, ranges.items()):
            low, high = span["low"], span["high"]
            point[key] = float(low * (high / low) ** u) if span.get("log") else float(low + (high - low) * u)
        rows.append(point)
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _cell_name(overrides: dict[str, Any]) -> str:
    if not overrides:
        return "main"
    parts = []
    for key, value in overrides.items():
        text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, default=str)
        parts.append(key.split(".")[-1] + "=" + re.sub(r"[^A-Za-z0-9+_.-]+", "-", text).strip("-"))
    return ",".join(parts)[:100]


def recording_steps(times: Times | tuple[int, ...], steps: int) -> np.ndarray:
    """The steps at which a network is recorded, int64, increasing; 0 and the last included.

    >>> recording_steps(Times(count=6), 1000).tolist()
    [0, 1, 6, 32, 178, 1000]
    """
    if isinstance(times, tuple):
        return np.array([t for t in times if t <= steps], np.int64)
    if times.count > steps:
        return np.arange(steps + 1)
    if times.spacing == "linear":
        return np.round(np.linspace(0, steps, times.count)).astype(np.int64)
    first, left = 1, times.count - 2  # one by one, until the steps of a log grid are longer than 1
    while left and first * ((steps / first) ** (1 / left) - 1) < 1:
        first, left = first + 1, left - 1
    rest = np.round(np.geomspace(first, steps, left + 1)) if left else [steps]
    return np.concatenate([np.arange(first), rest]).astype(np.int64)
