"""Two results files side by side: whether studies, seeds and values are the same, and where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcrace import store
from mcrace.results import CellResults, Results, open_results
from mcrace.sweep import flat

TOLD = 5  # keys or variables that are named


@dataclass(frozen=True)
class Finding:
    """One thing that was compared.

    Attributes
    ----------
    cell : str
        Empty for the study as a whole.
    what : str
    text : str
        The difference; empty where both are the same.
    on : str
        What was compared, if it is not all.
    """

    cell: str
    what: str
    text: str
    on: str = ""


def diff(one: str | Path, other: str | Path) -> list[Finding]:
    """Compare two results files, or those of two directories.

    Values are compared by the digests of their datasets, for which the seals of both files vouch; where digests or seeds
    differ, or a seal is gone, the values of the seeds that both have are compared one by one.

    Parameters
    ----------
    one, other : path
        Results files or directories.

    Returns
    -------
    list of Finding
        What was compared; one with a text differs.

    Raises
    ------
    ResultsError
        If one of them cannot be read.
    """
    a, b = open_results(one, check=False), open_results(other, check=False)
    sealed = [store.check_seal(results.path, needed=False) for results in (a, b)]
    found = [Finding("", "entropy", _unlike(a.attributes["entropy"], b.attributes["entropy"])),
             Finding("", "predictions", _mapping(a.study.predictions, b.study.predictions))]
    for name in dict.fromkeys((*a.cells, *b.cells)):
        lacking = [str(r.path) for r in (a, b) if name not in r.cells]
        found += [Finding(name, "cell", f"is not in {lacking[0]}")] if lacking else _cells(a, b, name, all(sealed))
    return found


def _cells(a: Results, b: Results, name: str, sealed: bool) -> Iterator[Finding]:
    one, other = a.cell(name), b.cell(name)
    yield Finding(name, "configuration", _mapping(one.config, other.config))
    seeds, others = one.seeds, other.seeds
    same = np.array_equal(seeds, others)
    yield Finding(name, "seeds", "" if same else f"{_ranges(seeds)} and {_ranges(others)}")
    both, rows, others_rows = np.intersect1d(seeds, others, return_indices=True)
    if not len(both):
        yield Finding(name, "values", "no seed is in both")
        return
    odd = [f"{v}: is in one alone" for v in sorted(set(one.variables) ^ set(other.variables))]
    for variable in one.variables:
        if variable in other.variables and not (sealed and same and one.digest(variable) == other.digest(variable)):
            odd += _values(one, other, variable, both, rows, others_rows)
    yield Finding(name, "values", _some(odd), "" if same else f"on the {len(both):,} seeds of both")


def _values(
    one: CellResults, other: CellResults, variable: str, seeds: np.ndarray, rows: np.ndarray, others: np.ndarray
) -> Iterator[str]:
    """What separates a variable of two cells on common seeds."""
    a, b = one[variable], other[variable]
    by_seed = one.dims(variable)[:1] == ("seed",) == other.dims(variable)[:1]
    if by_seed:
        a, b = a[rows], b[others]
    if a.shape != b.shape or a.dtype != b.dtype:
        yield f"{variable}: {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        return
    if a.dtype.kind in "OU":
        if a.tolist() != b.tolist():
            yield f"{variable}: {a.tolist()} and {b.tolist()}"
        return
    odd = a.view(f"V{a.itemsize}") != b.view(f"V{b.itemsize}") if a.ndim else np.array(a.tobytes() != b.tobytes())
    if odd.any():
        unlike = odd.reshape(len(a), -1).any(axis=1) if a.ndim else odd
        where = f" of {unlike.sum()} networks, first seed {seeds[unlike][0]}" if by_seed else ""
        with np.errstate(invalid="ignore"):
            most = np.nanmax(np.abs(a[odd].astype(float) - b[odd].astype(float)), initial=0.0)
        yield f"{variable}: {odd.sum()} of {odd.size} values{where}, by {most:.3g} at most"


def _mapping(one: dict, other: dict) -> str:
    a, b = flat(one), flat(other)
    odd = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return _some([f"{key}: {_unlike(a.get(key), b.get(key))}" for key in odd])


def _unlike(one: object, other: object) -> str:
    return "" if one == other else f"{one} and {other}"


def _some(texts: list[str]) -> str:
    return "; ".join(texts[:TOLD]) + (f"; and {len(texts) - TOLD} more" if len(texts) > TOLD else "")


def _ranges(seeds: np.ndarray) -> str:
    """Sorted seeds as ranges, the first few of them."""
    breaks = np.flatnonzero(np.diff(seeds) != 1)
    firsts, lasts = seeds[np.r_[0, breaks + 1]], seeds[np.r_[breaks, len(seeds) - 1]]
    return ", ".join(f"{a}-{b}" for a, b in list(zip(firsts, lasts))[:TOLD]) + (", ..." if len(firsts) > TOLD else "")
