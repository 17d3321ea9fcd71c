"""HDF5: publish a file whole or not at all, and read it back with every doubt.

A shard is written under a temporary name, flushed to the disk, and renamed: what has a final name is complete.  Each
dataset carries a digest of its values, and each group one of all attributes, since a checksum of HDF5's own guards
neither attributes nor small datasets.  A file ends with a seal, a digest of all its bytes, which HDF5 does not see:
there is damage that crashes the library, so a shard's seal is looked at before it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mcrace.errors import McraceError, ResultsError
from mcrace.guard import check_group, plain_attributes, texts

FORMAT_VERSION = 1
FILTERS: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1, "fletcher32": True}
# Numbers at states are like no neighbours: gzip would save a tenth of them, and take longer than all else in writing.
FILTERS_AT_STATES: dict[str, Any] = {"fletcher32": True, "fillvalue": np.nan}
CHUNK_BYTES = 1 << 20
CACHE_BYTES = 4 << 20  # of each dataset: a chunk that the next shard goes on filling stays in memory
BLOCK_BYTES = 1 << 20
TEXT = h5py.string_dtype("utf-8")
FOLDER_SEEDS = 10**6  # whose shards lie in one folder
RANGE = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
SEAL = b"mcrace sha256 "
SEAL_BYTES = len(SEAL) + hashlib.sha256().digest_size
OWN = ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "digest")  # attributes that belong to the format


@dataclass(frozen=True)
class Variable:
    """An array with named dimensions, as it stands in a file.

    Attributes
    ----------
    dims : tuple of str
    values : array
    attributes : dict of plain values
    """

    dims: tuple[str, ...]
    values: np.ndarray
    attributes: Mapping[str, Any] | None = None


def digest(values: np.ndarray) -> str:
    """SHA-256 of the values with their type and shape."""
    found = hasher_of(values.dtype, values.shape)
    if values.dtype.kind in "OU":
        found.update(json.dumps([str(x) for x in values.reshape(-1)]).encode())
    else:
        found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def hasher_of(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    kind = "text" if dtype.kind in "OU" else dtype.str
    return hashlib.sha256(f"{kind}{shape}".encode())


@contextmanager
def publish(path: Path, in_memory: bool = True) -> Iterator[h5py.File]:
    """A new HDF5 file that appears under its name when it is complete and on the disk, or not at all.

    It is made in memory where it is small enough, since HDF5 may crash where a disk is full.
    """
    how = {"driver": "core", "backing_store": False} if in_memory else {"rdcc_nbytes": CACHE_BYTES}
    with _temporary(path) as temporary:
        with h5py.File(temporary, "w", libver=("earliest", "v110"), track_order=True, **how) as file:
            yield file
            file.flush()
            image = file.id.get_file_image() if in_memory else b""
        if in_memory:
            temporary.write_bytes(image)
        _seal(temporary)


def publish_text(path: Path, text: str) -> None:
    """A text file that appears whole or not at all."""
    data = text.encode()
    with _temporary(path) as temporary:
        temporary.write_bytes(data)


def publish_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays in a file of NumPy's (npz, nothing pickled) that appears whole or not at all.

    Raises
    ------
    ResultsError
        If it cannot be written.
    """
    try:
        with _temporary(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside a path for a file that takes the path's place when it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(path: Path) -> None:
    """Append a digest of all bytes to a file."""
    with open(path, "r+b") as file:
        file.write(SEAL + hashlib.file_digest(file, "sha256").digest())


def check_seal(path: Path, needed: bool = True) -> bool:
    """Compare all bytes of a file with its seal; returns whether it has one.

    Parameters
    ----------
    path : Path
    needed : bool
        Whether a file without a seal is refused: HDF5 drops it when a user adds something to a file.

    Raises
    ------
    ResultsError
        If the file is truncated or damaged.
    """
    try:
        with open(path, "rb") as file:
            left = max(0, file.seek(0, os.SEEK_END) - SEAL_BYTES)
            file.seek(left)
            seal = file.read()
            if not seal.startswith(SEAL):
                if needed:
                    raise ResultsError(f"{path}: is truncated, or no file of mcrace: there is no seal at its end")
                return False
            file.seek(0)
            found = hashlib.sha256()
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                found.update(block)
                left -= len(block)
    except McraceError:
        raise
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    if seal != SEAL + found.digest():
        raise ResultsError(f"{path}: is damaged: its bytes do not match the seal at its end")
    return True


def sealed_bytes(path: Path) -> bytes:
    """All of a file but its seal, read once and compared with it; for shards, which fit into memory.

    Raises
    ------
    ResultsError
        If the file is truncated or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    body, seal = data[:-SEAL_BYTES], data[-SEAL_BYTES:]
    if not seal.startswith(SEAL):
        raise ResultsError(f"{path}: is truncated, or no file of mcrace: there is no seal at its end")
    if seal != SEAL + hashlib.sha256(body).digest():
        raise ResultsError(f"{path}: is damaged: its bytes do not match the seal at its end")
    return body


def write_group(group: h5py.Group, variables: Mapping[str, Variable], attributes: Mapping[str, Any]) -> None:
    """Variables with a scale on each dimension, and attributes, with their digests.

    A dimension takes its values from the variable of its name, if there is one; otherwise they are 0, 1, 2, ...
    """
    write_variables(group, variables)
    write_attributes(group, attributes)


def write_variables(group: h5py.Group, variables: Mapping[str, Variable], seeds: int | None = None) -> None:
    """As `write_group`, without attributes; `seeds`: leave room for so many rows along that dimension, unwritten."""
    sizes: dict[str, int] = {}
    for name, variable in variables.items():
        shape = variable.values.shape
        shape = (seeds, *shape[1:]) if seeds is not None and variable.dims[:1] == ("seed",) else shape
        for dim, size in zip(variable.dims, shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"{name}: dimension {dim} has {size} entries, elsewhere {sizes[dim]}")
    indices = {d: Variable((d,), np.arange(n, dtype=np.int64)) for d, n in sizes.items() if d not in variables}
    for name, variable in {**indices, **variables}.items():
        _write(group, name, variable, seeds if variable.dims[:1] == ("seed",) else None)
    for dim in sizes:
        group[dim].make_scale(dim)
    for name, variable in variables.items():
        if name not in sizes:
            for axis, dim in enumerate(variable.dims):
                group[name].dims[axis].attach_scale(group[dim])


def write_attributes(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    """Attributes of a group, with a digest over them and over the dimensions and attributes of its datasets."""
    for key, value in attributes.items():
        group.attrs[key] = value
    group.attrs["attributes_digest"] = _attributes_digest(group)


def _attributes_digest(group: h5py.Group) -> str:
    plain: dict[str, Any] = {"": {k: str(v) for k, v in plain_attributes(group, ("attributes_digest",)).items()}}
    for name, data, dims in _datasets(group):
        plain[name] = [dims, data.attrs["digest"], {k: str(v) for k, v in plain_attributes(data, OWN).items()}]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset, tuple[str, ...]]]:
    """The datasets of a group with their names and those of their dimensions.

    Scales are told by their addresses: a name asked of one that was reached from a dataset is looked for in the whole file.
    """
    found = {name: data for name, data in group.items() if isinstance(data, h5py.Dataset)}
    scales = {h5py.h5o.get_info(data.id).addr: name for name, data in found.items() if data.is_scale}
    for name, data in found.items():
        dims = (name,) if data.is_scale else tuple(scales[h5py.h5o.get_info(d[0].id).addr] for d in data.dims)
        yield name, data, dims


def _write(group: h5py.Group, name: str, variable: Variable, rows: int | None = None) -> None:
    """One dataset; `rows`: room for so many rows, without values or digest."""
    values = variable.values
    shape = values.shape if rows is None else (rows, *values.shape[1:])
    if values.dtype.kind in "OU":
        data = group.create_dataset(name, data=values.astype(object), dtype=TEXT)
    elif values.ndim and 0 not in shape:
        data = group.create_dataset(name, shape, values.dtype, **_layout(variable, shape))
    else:
        data = group.create_dataset(name, shape, values.dtype)
    for key, value in (variable.attributes or {}).items():
        data.attrs[key] = value
    if rows is None:
        if values.dtype.kind not in "OU":
            write_rows(data, values)
        data.attrs["digest"] = digest(values)


def _layout(variable: Variable, shape: tuple[int, ...]) -> dict[str, Any]:
    """Chunks and filters: at states each state has chunks of its own."""
    at_states = variable.dims[1:2] == ("state",) and variable.values.dtype.kind == "f"
    entry = (1, *shape[2:]) if at_states else shape[1:]
    rows = CHUNK_BYTES // max(1, int(np.prod(entry)) * variable.values.itemsize)
    return {"chunks": (max(1, min(shape[0], rows)), *entry), **(FILTERS_AT_STATES if at_states else FILTERS)}


def write_rows(data: h5py.Dataset, rows: np.ndarray, first: int = 0) -> None:
    """Write rows from the place `first` on; a state at which nothing was recorded takes no room in the file.

    Unless all are like that: a file must not claim to hold many times more than it does (`mcrace.guard`).
    """
    if not data.shape:
        data[()] = rows
    elif not data.chunks or data.chunks[1:] == data.shape[1:]:
        data[first : first + len(rows)] = rows
    else:
        states = [np.ascontiguousarray(rows[:, state]) for state in range(rows.shape[1])]
        known = [state for state, part in enumerate(states) if not _is_filled(part, data.fillvalue)]
        for state in known or [0]:
            data[first : first + len(rows), state] = states[state]


def _is_filled(values: np.ndarray, fill: np.generic) -> bool:
    """Whether all values are the fill value to the bit: not every NaN is the same."""
    bits = f"u{values.itemsize}"
    return bool((values.view(bits) == fill.view(bits)).all())


def described(group: h5py.Group) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """The name, dimensions and attributes of each dataset of a group; not the attributes that are the format's own."""
    for name, data, dims in _datasets(group):
        yield name, dims, plain_attributes(data, OWN)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file of ours, for reading.

    Raises
    ------
    ResultsError
        Naming the file, if it is missing, no HDF5, truncated, or of another format version.
    """
    if not path.is_file():
        raise ResultsError(f"{path}: " + ("is no file" if path.exists() else "no such file"))
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            version = file.attrs.get("format_version")
            if version is None:
                raise ResultsError(f"{path}: is an HDF5 file, but not one of mcrace")
            if version != FORMAT_VERSION:
                raise ResultsError(f"{path}: has format version {version}; this mcrace reads version {FORMAT_VERSION}")
            check_group(file, path, named=False)
            check_attributes(file, path)
            yield file
    except McraceError:
        raise
    except Exception as error:  # h5py raises almost anything over damaged bytes
        raise ResultsError(f"{path}: {_why(error)}") from None


def _why(error: Exception) -> str:
    text = str(error)
    return ("is truncated" if "truncated" in text else "is no HDF5 file" if "signature not found" in text
            else f"cannot be read: {text}")


def cell_group(file: h5py.File, name: str, path: Path) -> h5py.Group:
    """The group of a cell in a results file, after a look at what it holds and at the digest of its attributes."""
    found = file["cells"][name]
    check_group(found, path)
    check_attributes(found, path)
    return found


def check_attributes(group: h5py.Group, path: Path) -> None:
    """Compare the attributes of a group and of its datasets with their digest.

    Raises
    ------
    ResultsError
        If they differ.
    """
    try:
        right = group.attrs["attributes_digest"] == _attributes_digest(group)
    except McraceError:
        raise
    except Exception:  # as above
        right = False
    if not right:
        raise ResultsError(f"{path}: the attributes of {group.name} are damaged")


def read(group: h5py.Group, name: str, path: Path) -> np.ndarray:
    """The values of a dataset, after a look at their digest.

    Raises
    ------
    ResultsError
        Naming the dataset, if it is damaged.
    """
    where = f"{path}: {group.name.rstrip('/')}/{name}"
    try:
        data = group[name]
        values = texts(data) if h5py.check_string_dtype(data.dtype) else np.asarray(data[...])
        right = data.attrs["digest"] == digest(values)
    except Exception as error:  # as above
        raise ResultsError(f"{where} cannot be read: {error}") from None
    if not right:
        raise ResultsError(f"{where} is damaged: its values do not match their digest")
    return values


# ------------------------------------------------------------------------------------------------- shards


def shard_path(directory: Path, identity: str, first: int, stop: int) -> Path:
    """Where the shard of seeds first ... stop-1 of a cell lies: from a million seeds on, a folder for each million."""
    folder = directory / "shards" / identity[:20]
    return (folder / str(first // FOLDER_SEEDS) if first >= FOLDER_SEEDS else folder) / f"{first}-{stop}.h5"


def stored_ranges(directory: Path, identity: str, suffix: str = ".h5") -> list[tuple[int, int]]:
    """The ranges of seeds of a cell that have a shard, in order; other suffixes: `.damaged`, `.failed`."""
    found, folders = [], [directory / "shards" / identity[:20]]
    for folder in folders:
        try:
            entries = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in entries:
            first, dash, stop = name.removesuffix(suffix).partition("-")
            if not dash and name.isascii() and name.isdigit():
                folders.append(folder / name)
            elif name.endswith(suffix) and RANGE.fullmatch(name.removesuffix(suffix)):
                found.append((int(first), int(stop)))
    return sorted(found)


def written(directory: Path, identity: str) -> Iterator[tuple[float, int]]:
    """When each shard of a cell was written, in seconds since 1970, and how many networks it holds."""
    for first, stop in stored_ranges(directory, identity):
        with suppress(FileNotFoundError):  # set aside at this moment
            yield os.stat(shard_path(directory, identity, first, stop)).st_mtime, stop - first


def missing_ranges(directory: Path, identity: str, first: int, stop: int) -> list[tuple[int, int]]:
    """The ranges of seeds between first and stop that no shard covers."""
    missing, here = [], first
    for begin, end in stored_ranges(directory, identity):
        if begin > here:
            missing.append((here, min(begin, stop)))
        here = max(here, end)
        if here >= stop:
            break
    if here < stop:
        missing.append((here, stop))
    return [(a, b) for a, b in missing if a < b]


def write_shard(path: Path, variables: Mapping[str, Variable], attributes: Mapping[str, Any]) -> None:
    """Publish one shard."""
    with publish(path) as file:
        write_group(file, variables, {"format_version": FORMAT_VERSION, **attributes})


def note_failure(path: Path, error: str) -> None:
    """Leave a note where a shard should be, with what went wrong; an empty error takes it away."""
    note = path.with_suffix(".failed")
    with suppress(OSError):  # a full disk: the run itself says what failed
        if error:
            publish_text(note, error + "\n")
        elif note.exists():
            note.unlink()


def failure(path: Path) -> str:
    """What a note says of a shard that failed."""
    try:
        return path.with_suffix(".failed").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # taken away at this moment
        return ""


def is_shard(path: Path) -> bool:
    """Whether a file has the name of a shard."""
    return path.suffix == ".h5" and RANGE.fullmatch(path.stem) is not None


def read_shard(path: Path, identity: str | None = None) -> tuple[dict[str, Variable], dict[str, Any]]:
    """All variables and attributes of a shard; of any cell, if no identity is given.

    Raises
    ------
    ResultsError
        If it is damaged, or not of this cell.
    """
    check_seal(path)
    with opened(path) as file:
        check_group(file, path)
        if identity not in (None, file.attrs["identity"]):
            raise ResultsError(f"{path}: belongs to another cell")
        return {n: Variable(dims, read(file, n, path), notes) for n, dims, notes in described(file)}, plain_attributes(file)
