"""Mistakes in a study file as sentences: each with its dotted key, the valid names, and all of them at once."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import BaseModel, ValidationError

from mcrace.errors import StudyError, nearest

MAX_TOLD = 100  # mistakes told one by one
MAX_COUNTED = 5000  # no more are looked for
MAX_LETTERS = 600  # of one of them
BRANCHES = ("Times", "tuple[int, ...]")  # of record.times, as pydantic calls them
PLAIN_WORDS = {"model_type": "must be a table", "tuple_type": "must be a list"}


def listed(mistakes: list[str]) -> str:
    """One mistake as it is; several with their number, a line each."""
    if len(mistakes) == 1:
        return _shown(mistakes[0])
    told = [*map(_shown, mistakes[:MAX_TOLD]), *(["..."] if len(mistakes) > MAX_TOLD else [])]
    return f"{len(mistakes)} mistakes\n" + "\n".join(f"  {m}" for m in told)


def _shown(text: str) -> str:
    """A mistake on one line, and not without end: keys and values are as some file has them."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= MAX_LETTERS else plain[: MAX_LETTERS - 4] + " ..."


def collect(mistakes: list[str], model: type[BaseModel], values: Any, where: str) -> Any:
    """The validated model, or None after adding its mistakes to the list."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        inside = {p["loc"][:n] for p in problems if not _fits_no_branch(p) for n in range(len(p["loc"]))}
        worth = (p for p in problems if not _fits_no_branch(p) or p["loc"][:-1] not in inside)
        mistakes += [_sentence(model, p, where) for p in itertools.islice(worth, MAX_TOLD + 1)]
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
    found = collect(mistakes, model, values, where)
    if mistakes:
        raise StudyError(listed(mistakes))
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
