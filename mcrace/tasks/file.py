"""Samples and labels from a file: X [sample, input] and y [sample] in npz or HDF5."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np
from pydantic import Field

from mcrace.errors import StudyError
from mcrace.tasks.base import Pool, task
from mcrace.tasks.from_file import FromFile, content_digest

KEPT = ("uint8", "float32", "float64")  # numbers of other types are made float64
MAX_INPUTS = 100_000


@task("file")
class File(FromFile):
    """X [sample, input] and y [sample], -1 or +1, from an npz or HDF5 file; samples are drawn without replacement."""

    kind: Literal["file"] = "file"
    dimension: int = Field(0, ge=0, le=MAX_INPUTS, description="number of inputs; found when the study is read")

    version: ClassVar[int] = 1

    def inputs(self) -> int:
        return self.dimension or self.look()["dimension"]

    def look(self) -> dict[str, Any]:
        X, y = self._read()
        return {"digest": content_digest(X, y), "dimension": X.shape[1]}

    def pool(self) -> Pool:
        X, y = self._read()
        self.check_digest(content_digest(X, y))
        self.check_size(len(y), f"{self.path} has {{}} samples")
        return {"X": X, "y": y}

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        """X and y, after a look at all that may be wrong with them."""
        path = Path(self.path)
        try:
            state = path.stat()
            return _checked(path, state.st_mtime_ns, state.st_size)
        except OSError as error:
            raise StudyError(f"task.path: {path}: cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise StudyError(f"task.path: {path}: {error}") from None


@lru_cache(maxsize=1)
def _checked(path: Path, changed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """X and y of a file as it was at a time; each mistake is a ValueError."""
    if not path.is_file():
        raise ValueError("is no file; an npz or HDF5 file is needed")
    if h5py.is_hdf5(path):
        arrays = _from_hdf5(path)
    elif zipfile.is_zipfile(path):
        arrays = _from_npz(path)
    else:
        raise ValueError("is neither an npz nor an HDF5 file, or is truncated")
    X, y = (_numbers(name, array) for name, array in zip("Xy", arrays))
    if X.ndim != 2 or y.ndim != 1:
        raise ValueError(f"X must have the dimensions [sample, input] and y [sample]; they have shapes {X.shape} and {y.shape}")
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} samples, but y has {len(y)}")
    if not 1 <= X.shape[1] <= MAX_INPUTS:
        raise ValueError(f"X has {X.shape[1]} inputs; 1 to {MAX_INPUTS:,} can be used")
    for name, array in (("X", X), ("y", y)):
        if bad := array.size - np.count_nonzero(np.isfinite(array)):
            raise ValueError(f"{name} has {bad} entries that are NaN or infinite, the first for sample "
                             f"{np.argwhere(~np.isfinite(array))[0][0]}")
    _check_labels(np.unique(y))
    return X, y.astype(float)


def _check_labels(values: np.ndarray) -> None:
    if len(values) == 2 and values.tolist() != [-1, 1]:
        a, b = values.tolist()
        raise ValueError(f"the labels y must be -1 and +1; these are {a:g} and {b:g}, so store np.where(y == {b:g}, 1, -1)")
    if not np.isin(values, (-1, 1)).all():
        raise ValueError(f"the labels y must be -1 and +1; {values[~np.isin(values, (-1, 1))][0]:g} is among them")
    if len(values) < 2:
        raise ValueError(f"has one class alone: every label is {values[0]:g}" if len(values) else "has no sample")


def _from_npz(path: Path) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            arrays = [file[name] for name in "Xy" if name in names]
    except Exception as error:  # NumPy and zipfile raise almost anything over damaged bytes
        if "allow_pickle" in str(error):
            raise ValueError("X or y is an array of Python objects, which would have to be unpickled") from None
        raise ValueError(f"is damaged: {error}") from None
    _check_names(names)
    return arrays


def _from_hdf5(path: Path) -> list[np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            names, arrays = list(file), []
            for name in [n for n in "Xy" if n in names]:
                if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
                    raise StudyError(f"task.path: {path}: {name} must be a dataset of the file itself, no link and no group")
                if file[name].is_virtual or file[name].external:
                    raise StudyError(f"task.path: {path}: the values of {name} are in another file")
                arrays.append(np.asarray(file[name][()]))
    except StudyError:
        raise
    except Exception as error:  # h5py raises almost anything over damaged bytes
        raise ValueError(f"is damaged: {error}") from None
    _check_names(names)
    return arrays


def _check_names(names: list[str]) -> None:
    if lacking := [name for name in "Xy" if name not in names]:
        raise ValueError(f"has no {' and no '.join(lacking)}; it holds {', '.join(sorted(names)[:10]) or 'nothing'}")


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    """The array in the machine's own order of bytes, and in a type that is kept."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, not {array.dtype}")
    kept = array.dtype.newbyteorder("=").name in KEPT
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=") if kept else float)
