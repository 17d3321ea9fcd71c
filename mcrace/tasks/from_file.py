"""Tasks whose samples are in a file of the user's: what counts is what it holds, never where it lies.

A study looks at such a file once, when it is read, and notes what it found in its own text, in a table [files].  So a
results directory can be read without the file, a file that was moved makes no other study, and one that was changed does.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from mcrace.errors import StudyError
from mcrace.mistakes import validated
from mcrace.tasks.from_pool import FromPool


class FromFile(FromPool):
    """What tasks with a file of their own have in common.

    A relative path in a study file counts from the folder of the study file; otherwise from the current directory.
    """

    path: str = Field(min_length=1, max_length=1000, description="the file, relative to the study file's folder")
    digest: str = Field("", max_length=64, description="SHA-256 of what the file holds; found when the study is read")

    places: ClassVar[tuple[str, ...]] = ("path",)

    @field_validator("path")
    @classmethod
    def _printable(cls, path: str) -> str:
        if not path.isprintable():
            raise ValueError("a path without control characters")
        return path

    def look(self) -> dict[str, Any]:
        """What is to be known of the file at `path`: its digest at least, as options of the task.

        Raises
        ------
        StudyError
            If it is missing, damaged, or lacks what the task asks for.
        """
        raise NotImplementedError

    def check_digest(self, found: str) -> None:
        """Whether the file holds what it held when the study was read.

        Raises
        ------
        StudyError
            If it does not.
        """
        if self.digest not in ("", found):
            raise StudyError(f"task.digest: {self.path} holds other data than those of this study: it has the digest "
                             f"{found[:12]}..., not {self.digest[:12]}...")


def content_digest(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays, with their types and shapes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


class Files:
    """The files that a study names.

    Parameters
    ----------
    folder : Path
        What relative paths count from.
    known : dict
        The table [files] of the study: by the path as written, what was found (`found`: where the file was).
    """

    def __init__(self, folder: Path, known: dict[str, Any]) -> None:
        self.folder, self.known = folder, known
        self.noted: dict[str, dict[str, Any]] = {}

    def resolved(self, task: FromFile) -> FromFile:
        """The task with what its file holds, and the file's absolute path.

        Raises
        ------
        StudyError
            If the file is needed and does not do.
        """
        written = task.path
        where = (self.folder / written).absolute()
        entry = self.known.get(written, self.noted.get(written))
        if entry is None:
            entry = {**task.model_copy(update={"path": str(where)}).look(), "found": str(where)}
            self.noted[written] = entry
        if not isinstance(entry, dict) or not entry.get("digest"):
            raise StudyError(f"files: {written!r} must be a table with a digest")
        found = {key: value for key, value in entry.items() if key != "found"}
        if not os.path.exists(where):  # of a Path, this raises where a name is too long
            where = Path(str(entry.get("found", where)))
        for key, value in found.items():
            if (given := getattr(task, key, value)) not in ("", 0, value):
                raise StudyError(f"task.{key}: {where} has {value}, not {given}")
        return validated(type(task), {**task.model_dump(), **found, "path": str(where)}, "task")

    @property
    def note(self) -> str:
        """What to add to the text of the study."""
        tables = [f"\n[files.{_quoted(written)}]\n" + "".join(f"{k} = {_quoted(v)}\n" for k, v in sorted(entry.items()))
                  for written, entry in sorted(self.noted.items())]
        return "\n# what the files held when the study was read" + "".join(tables) if tables else ""


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
