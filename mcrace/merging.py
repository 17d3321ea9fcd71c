"""results.h5 from the shards that are there, while others may write more: shard by shard, a few megabytes at a time.

A shard is read once: its bytes are compared with its seal in memory and opened from there.  A seal vouches for all that
is in a shard, so the digests in it are looked at only where the seal is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5l, h5s

from mcrace import plan, store
from mcrace.directory import Work, writable
from mcrace.errors import McraceError, ResultsError
from mcrace.guard import objection
from mcrace.recording import Status
from mcrace.results import RESULTS, Results, open_results
from mcrace.store import Variable
from mcrace.study import Cell
from mcrace.worker import environment

BUFFER_BYTES = 16 << 20  # rows of several small shards go to the file together
SOURCES = ("cpu", "versions", "engine", "kernel")

Piece = tuple[Path, slice]
Shapes = dict[str, tuple[np.dtype, tuple[int, ...]]]


@dataclass
class Sources:
    """What the shards of a cell say of themselves."""

    seconds: float = 0.0
    machines: set[str] = field(default_factory=set)
    kernel: str = ""

    def add(self, attributes: dict[str, Any]) -> None:
        """Take in the attributes of a shard."""
        self.seconds += float(attributes.get("seconds", 0.0))
        cpu, versions, engine, self.kernel = (str(attributes.get(name, "")) for name in SOURCES)
        self.machines.add(f"{cpu}, {versions}, engine {engine}")


def merge(work: Work, warn: Callable[[str], None] = lambda text: None) -> Results:
    """Write results.h5 from the shards, unless the one that is there holds the same already.

    A damaged shard is set aside and named; running again computes it anew.
    """
    path = work.directory / RESULTS
    pieces = {cell.name: list(_pieces(work.directory, plan.identity(cell.config, work.study.entropy), cell.seeds.first,
                                      cell.seeds.first + cell.seeds.count)) for cell in work.study.cells}
    contents = {c.name: {"identity": plan.identity(c.config, work.study.entropy), "role": c.role, "of": c.of,
                         "ranges": _joined(pieces[c.name])} for c in work.study.cells if pieces[c.name]}
    if not contents:
        raise ResultsError(f"{work.directory}: holds no shard of the study yet; mcrace run computes them")
    fingerprint = json.dumps([work.study.text, contents], sort_keys=True)
    try:
        if (there := open_results(path, check=True)).attributes.get("contents") == fingerprint:
            return there
    except ResultsError:
        pass
    machines: set[str] = set()
    _check_room(work.directory, [shard for cell in pieces.values() for shard, *_ in cell])
    with writable(work.directory), store.publish(path, in_memory=False) as file:
        cells = file.create_group("cells", track_order=True)
        for cell in work.study.cells:
            if cell.name in contents:
                machines |= _write_cell(cells, work, cell, [(p, rows) for p, _, rows in pieces[cell.name]])
        kernels = sorted({cell.attrs["kernel"] for cell in cells.values()})
        attributes = {"study": work.study.text, "name": work.study.name, "entropy": work.study.entropy,
                      "contents": fingerprint, "identity": hashlib.sha256(fingerprint.encode()).hexdigest(),
                      "kernel": " ".join(kernels), "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **environment()}
        store.write_attributes(file, {"format_version": store.FORMAT_VERSION, **attributes})
    if len(machines) > 1:
        warn("warning: the shards come from unlike environments: " + "; ".join(sorted(machines)))
    return open_results(path)


def _check_room(directory: Path, shards: list[Path]) -> None:
    """Refuse to begin where the disk has no room for what the shards hold: HDF5 may crash where a disk is full."""
    needed = sum(shard.stat().st_size for shard in shards)
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise ResultsError(f"{directory}: No space left on device: {needed / 1e6:,.1f} MB are needed to merge, "
                           f"{free / 1e6:,.1f} MB are free; the shards stay, and mcrace merge goes on from them")


def _pieces(directory: Path, identity: str, first: int, stop: int) -> Iterator[tuple[Path, int, slice]]:
    """The shards that hold seeds first ... stop-1: each with its first new seed, and the rows that no shard before holds."""
    here = first
    for begin, end in store.stored_ranges(directory, identity):
        if end > here and begin < stop:
            rows = slice(max(here, begin) - begin, min(end, stop) - begin)
            yield store.shard_path(directory, identity, begin, end), begin + rows.start, rows
            here = end


def _joined(pieces: list[tuple[Path, int, slice]]) -> list[list[int]]:
    """The ranges of seeds in pieces, those that touch joined."""
    found: list[list[int]] = []
    for _, begin, rows in pieces:
        end = begin + rows.stop - rows.start
        if found and found[-1][1] == begin:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return found


def _write_cell(cells: h5py.Group, work: Work, cell: Cell, pieces: list[Piece]) -> set[str]:
    """The group of a cell; returns the machines that computed it."""
    identity = plan.identity(cell.config, work.study.entropy)
    group = cells.create_group(cell.name, track_order=True)
    sources = merge_cell(group, identity, pieces)
    swept = _swept(cell, group)
    store.write_variables(group, swept)
    statuses = np.bincount(group["status"][...], minlength=len(Status))
    attributes = {"identity": identity, "role": cell.role, "of": cell.of, "config": json.dumps(cell.config.plain()),
                  "swept": " ".join(swept),
                  "statuses": " ".join(f"{s.name.lower()}={n}" for s, n in zip(Status, statuses)),
                  "seconds": sources.seconds, "kernel": sources.kernel}
    store.write_attributes(group, attributes)
    return sources.machines


def merge_cell(group: h5py.Group, identity: str, pieces: list[Piece]) -> Sources:
    """Write the variables of a cell from rows of its shards.

    Raises
    ------
    ResultsError
        If shards are damaged: they are set aside, so that running again computes them anew.
    """
    seeds = sum(rows.stop - rows.start for _, rows in pieces)
    sources, damaged = Sources(), []
    writer: _Rows | None = None
    for path, rows in pieces:
        try:
            if writer is None:
                variables, attributes = store.read_shard(path, identity)
                store.write_variables(group, variables, seeds)
                writer = _Rows(group, [n for n, v in variables.items() if v.dims[:1] == ("seed",)])
                values = {name: variables[name].values for name in writer.names}
            else:
                values, attributes = _read_rows(path, identity, writer.shapes)
        except ResultsError as error:
            with suppress(FileNotFoundError):  # another command was quicker
                os.replace(path, path.with_suffix(".damaged"))
            damaged.append(str(error))
            continue
        writer.add({name: array[rows] for name, array in values.items()})
        sources.add(attributes)
    _complain(damaged)
    if writer is not None:
        writer.finish()
    return sources


class _Rows:
    """Rows of datasets along seeds, written when many have come together, with digests of all of them at the end."""

    def __init__(self, group: h5py.Group, names: list[str]) -> None:
        self.group, self.names = group, names
        self.shapes = {name: (group[name].dtype, group[name].shape[1:]) for name in names}
        self.hashers = {name: store.hasher_of(group[name].dtype, group[name].shape) for name in names}
        self.waiting: list[dict[str, np.ndarray]] = []
        self.here = self.bytes = 0

    def add(self, values: dict[str, np.ndarray]) -> None:
        self.waiting.append(values)
        self.bytes += sum(array.nbytes for array in values.values())
        if self.bytes > BUFFER_BYTES:
            self._write()

    def _write(self) -> None:
        stop = self.here + sum(len(values["seed"]) for values in self.waiting)
        for name in self.names:
            pieces = [values[name] for values in self.waiting]
            rows = np.concatenate(pieces) if len(pieces) > 1 else np.ascontiguousarray(pieces[0])
            store.write_rows(self.group[name], rows, self.here)
            self.hashers[name].update(rows.data)
        self.here, self.bytes, self.waiting = stop, 0, []

    def finish(self) -> None:
        if self.waiting:
            self._write()
        for name in self.names:
            self.group[name].attrs["digest"] = self.hashers[name].hexdigest()


def _read_rows(path: Path, identity: str, shapes: Shapes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The variables along seeds of a shard, and what it says of itself; only its seal is checked."""
    image = store.sealed_bytes(path)
    try:
        with h5py.File(h5f.open_file_image(image)) as file:
            attributes = file.attrs
            if attributes["identity"] != identity or attributes["format_version"] != store.FORMAT_VERSION:
                raise ResultsError(f"{path}: belongs to another cell")
            root = h5g.open(file.id, b"/")
            values = {name: _read_array(root, name, *shape, path) for name, shape in shapes.items()}
            return values, {name: attributes[name] for name in ("seconds", *SOURCES) if name in attributes}
    except McraceError:
        raise
    except Exception as error:  # h5py raises almost anything over odd files
        raise ResultsError(f"{path}: cannot be read: {error}") from None


def _read_array(file: h5g.GroupID, name: str, dtype: np.dtype, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """A dataset by the calls of HDF5 itself, which are many times quicker."""
    if file.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise ResultsError(f"{path}: /{name} is refused: it is no dataset of this file")
    data = h5d.open(file, name.encode())
    if data.shape[1:] != shape or data.dtype != dtype:
        raise ResultsError(f"{path}: /{name} has another shape or type than in the other shards of its cell")
    if why := objection(data):
        raise ResultsError(f"{path}: /{name} is refused: {why}")
    values = np.empty(data.shape, dtype)
    data.read(h5s.ALL, h5s.ALL, values)
    return values


def _complain(damaged: list[str]) -> None:
    if len(damaged) == 1:
        raise ResultsError(f"{damaged[0]}; it is set aside, and running again computes it anew")
    if damaged:
        listed = "\n".join(f"  {d}" for d in damaged)
        raise ResultsError(f"{len(damaged)} shards are set aside, and running again computes them anew\n{listed}")


def _swept(cell: Cell, taken: Container[str]) -> dict[str, Variable]:
    """What was swept, as scalars by the last part of their keys, or by their whole keys where that name is taken."""
    shorts = [key.rsplit(".", 1)[-1] for key in cell.swept]
    found = {}
    for (key, value), short in zip(cell.swept.items(), shorts):
        if isinstance(value, list) and len(value) == 1:
            (value,) = value  # the width of the one hidden layer
        if isinstance(value, bool):
            value = int(value)  # xarray reads no truths
        if isinstance(value, int | float | str):
            free = short not in taken and shorts.count(short) == 1
            found[short if free else key] = Variable((), np.array(value, object if isinstance(value, str) else None))
    return found
