"""One root error, few children; each knows the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class McraceError(Exception):
    """Anything that mcrace reports in one sentence instead of a traceback."""

    exit_code = 1


class StudyError(McraceError, ValueError):
    """The study file, or what was asked on the command line, cannot be run as it stands."""

    exit_code = 2


class ResultsError(McraceError, OSError):
    """A results directory or file is missing, damaged, or of another study."""

    exit_code = 2


class ShardError(McraceError, RuntimeError):
    """Some shards could not be computed; all the others are safe on disk."""


class VersionError(ShardError):
    """A worker has other versions than the plan, so that its networks might differ in their bits."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Say which valid name was probably meant, and list them all.

    >>> nearest("lerning", ["training", "learning"])
    "did you mean 'learning'? Valid names: learning, training"
    """
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid names: {', '.join(valid)}"
