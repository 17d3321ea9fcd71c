"""What a file may hold, looked at before anything of it is read.

HDF5 can send a reader to other files, ask for plug-ins by number, and promise arrays larger than any memory.  Ours hold
plain arrays of numbers and texts, in their own file, in filters that every HDF5 has; whatever else is refused.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5t, h5z

from mcrace.errors import ResultsError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_=,+.@-]{0,199}")
FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
KINDS = {h5t.INTEGER, h5t.FLOAT, h5t.STRING}
LAYOUTS = {h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED}
LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
MOST_DEFLATED = 1100  # gzip makes nothing smaller than this part of it
SMALL_BYTES = 1 << 16
MOST_TEXT = 1 << 20


def check_group(group: h5py.Group, path: Path, named: bool = True) -> None:
    """Look at each link of a group, and at how each of its datasets is stored; no value is read.

    Parameters
    ----------
    group : h5py.Group
    path : Path
        Its file, for the message.
    named : bool
        Whether names must be plain.

    Raises
    ------
    ResultsError
        Naming what may not be there.
    """
    where = f"{path}: {group.name.rstrip('/')}/"
    for name in group.id:
        shown = ascii(name.decode(errors="replace"))[1:-1]
        if named and not NAME.fullmatch(name.decode(errors="replace")):
            raise ResultsError(f"{where}{shown} is refused: that is no name of mcrace's")
        link = group.id.links.get_info(name).type
        if link != h5l.TYPE_HARD:
            raise ResultsError(f"{where}{shown} is refused: it is {LINKS.get(link, 'a link of a foreign kind')}")
        thing = h5o.open(group.id, name)
        if isinstance(thing, h5d.DatasetID):
            why = objection(thing)
        else:
            why = "" if isinstance(thing, h5g.GroupID) else "it is neither a group nor a dataset"
        if why:
            raise ResultsError(f"{where}{shown} is refused: {why}")


def objection(data: h5d.DatasetID) -> str:
    """What keeps a dataset from being read; empty if nothing does."""
    kept = data.get_create_plist()
    if kept.get_layout() not in LAYOUTS:
        return "it is a virtual dataset, which reads other files"
    if kept.get_external_count():
        return "its values are in another file"
    foreign = [number for number in (kept.get_filter(k)[0] for k in range(kept.get_nfilters())) if number not in FILTERS]
    if foreign:
        return f"it needs the HDF5 filter {foreign[0]}, and only gzip, shuffle and fletcher32 are read"
    kind = data.get_type()
    if kind.get_class() not in KINDS:
        return "its values are neither numbers nor texts"
    shape = data.shape
    if kept.get_layout() == h5d.CHUNKED:
        shape = tuple(max(a, b) for a, b in zip(shape, kept.get_chunk()))
    declared = math.prod(shape) * kind.get_size()
    if declared > SMALL_BYTES + MOST_DEFLATED * data.get_storage_size():
        return f"it claims {declared:,} bytes, and {data.get_storage_size():,} are stored"
    return ""


def plain_attributes(thing: h5py.Group | h5py.Dataset, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The attributes of a group or dataset, single numbers and texts.

    Raises
    ------
    ResultsError
        If one is anything else.
    """
    found = {}
    for name in thing.attrs:
        if name not in without:
            attribute = thing.attrs.get_id(name)
            if attribute.shape != () or attribute.get_type().get_class() not in KINDS:
                raise ResultsError(f"{thing.file.filename}: the attribute {name!a} of {thing.name} is refused: "
                                   "it is no single number or text")
            found[name] = thing.attrs[name]
    return found


def texts(data: h5py.Dataset) -> np.ndarray:
    """The values of a dataset of texts, object array; many entries may share one long text, so they are read singly.

    Raises
    ------
    ValueError
        If they are longer than any that mcrace writes.
    """
    found, left = np.empty(data.shape, object), MOST_TEXT
    read = data.asstr()
    for place in np.ndindex(data.shape):
        found[place] = read[place]
        left -= len(found[place]) + 1
        if left < 0:
            raise ValueError(f"it holds texts of more than {MOST_TEXT:,} letters")
    return found
