"""A site's profile (TOML): what its batch system wants to hear, the same for all studies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pydantic import Field, field_validator

from mcrace.errors import StudyError
from mcrace.mistakes import validated
from mcrace.tables import Section

MAX_BYTES = 100_000
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+/-]{0,199}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


class Profile(Section):
    """The keys of a profile; everything may be left out."""

    partition: str = Field("", description="partition or queue")
    account: str = Field("", description="account or project that pays")
    qos: str = Field("", description="quality of service; Slurm only")
    cores: int | None = Field(None, ge=1, le=4096, description="cores of a task: those of a node")
    array_limit: int = Field(1000, ge=1, le=1_000_000, description="tasks in one array; Slurm: MaxArraySize - 1")
    python: str = Field("", description="the Python that has mcrace; by default the one that submits")
    interface: str = Field("", description="network interface between nodes, for --dask")
    modules: tuple[str, ...] = Field((), description="for module load")
    source: tuple[str, ...] = Field((), description="files that the shell reads first, as an environment's activate")
    variables: dict[str, str] = Field({}, description="environment variables")
    directives: tuple[str, ...] = Field((), description="more options, as in --constraint=avx512")

    @field_validator("partition", "account", "qos", "interface")
    @classmethod
    def _word(cls, text: str) -> str:
        if text and not WORD.fullmatch(text):
            raise ValueError(f"{text[:60]!r} is no name: letters, digits, and _ . , : @ + / -")
        return text

    @field_validator("python")
    @classmethod
    def _line(cls, text: str) -> str:
        return printable(text)

    @field_validator("modules", "source", "directives")
    @classmethod
    def _lines(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(printable(text) for text in texts)

    @field_validator("directives")
    @classmethod
    def _options(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if not text.startswith("-"):
                raise ValueError(f"{text[:60]!r} is no option: it starts with -")
        return texts

    @field_validator("variables")
    @classmethod
    def _variables(cls, table: dict[str, str]) -> dict[str, str]:
        for name, value in table.items():
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"{name[:60]!r} is no name of a variable")
            printable(value)
        return table


def printable(text: str) -> str:
    """The text, if it is fit for one line of a script.

    Raises
    ------
    ValueError
        If there is a line break or another control character in it.
    """
    if not text.isprintable():
        raise ValueError(f"{text[:60]!r} has a line break or a control character in it")
    return text


def load_profile(path: Path | None) -> Profile:
    """Read a profile; an empty one where there is no path.

    Raises
    ------
    StudyError
        If the file cannot be read or has mistakes, with all of them.
    """
    if path is None:
        return Profile()
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise StudyError(f"{path}: a profile has at most {MAX_BYTES:,} bytes")
    try:
        return validated(Profile, tomllib.loads(data.decode()), "profile")
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from None
