"""A study file with one number changed, and every other letter of it as its author left it.

What may be the place of the number is tried, and the parsed file says whether it was.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

from mcrace.errors import StudyError

INTEGER = re.compile(r"(?<![\w.+-])[+-]?(?:0[xob][0-9a-fA-F_]+|[1-9][0-9_]*|0)(?![\w.])")


def replaced(text: str, keys: tuple[str, ...], value: int) -> str:
    """The text of a study file with another integer at a dotted key.

    >>> replaced("seeds = 5 # not 6", ("seeds",), 7)
    'seeds = 7 # not 6'
    """
    raw = tomllib.loads(text)
    table: Any = raw
    for key in keys:
        table = table[key]
    return _first(_with(raw, keys, value), _replacements(text, table, value), keys)


def _replacements(text: str, old: int, value: int) -> Iterator[str]:
    for match in INTEGER.finditer(text):
        if int(match[0], 0) == old:
            yield f"{text[: match.start()]}{value}{text[match.end() :]}"


def added(text: str, keys: tuple[str, str], value: int) -> str:
    """The text of a study file with an integer at a key that a table lacks, or another one where it has it.

    >>> added("[task]\\nkind = 'a'\\n", ("task", "b"), 2)
    "[task]\\nb = 2\\nkind = 'a'\\n"
    """
    raw = tomllib.loads(text)
    if keys[1] in raw[keys[0]]:
        return replaced(text, keys, value)
    return _first(_with(raw, keys, value), _insertions(text, keys, value), keys)


def _insertions(text: str, keys: tuple[str, str], value: int) -> Iterator[str]:
    yield f"{'.'.join(keys)} = {value}\n{text}"
    for match in re.finditer(r"^[ \t]*\[.*\n?", text, re.MULTILINE):
        yield f"{text[: match.end()]}{keys[1]} = {value}\n{text[match.end() :]}"
    for match in re.finditer(r"\{", text):
        yield f"{text[: match.end()]} {keys[1]} = {value},{text[match.end() :]}"


def _with(raw: dict[str, Any], keys: tuple[str, ...], value: int) -> dict[str, Any]:
    """The parsed file with another value at a dotted key."""
    raw = copy.deepcopy(raw)
    table = raw
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
    return raw


def _first(wanted: dict[str, Any], candidates: Iterable[str], keys: tuple[str, ...]) -> str:
    """The first candidate that means what is wanted."""
    for candidate in candidates:
        try:
            if _plain(tomllib.loads(candidate)) == _plain(wanted):
                return candidate
        except tomllib.TOMLDecodeError:
            continue
    raise StudyError(f"{'.'.join(keys)} cannot be changed in the study's text; write the study file by hand")


def _plain(value: Any) -> str:
    """A parsed file as a text that two files of one meaning share, whatever the order of their keys; NaN equals itself."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_plain(value[key])}" for key in sorted(value)) + "}"
    return "[" + ",".join(map(_plain, value)) + "]" if isinstance(value, list) else repr(value)
