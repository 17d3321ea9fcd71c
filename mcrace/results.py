"""Opening results: arrays by h5py, datasets by xarray, tidy tables by pandas.  Nothing in a file is ever executed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mcrace import store
from mcrace.errors import ResultsError, nearest
from mcrace.guard import check_group, plain_attributes
from mcrace.study import Study, parse_study

if TYPE_CHECKING:
    import pandas
    import xarray

RESULTS = "results.h5"
REMEMBERED = 1 << 24  # bytes of an array that is kept for the next time
LOOKED_THROUGH = 1 << 26  # bytes: larger files are not compared with their seal unasked


@dataclass(frozen=True)
class CellResults:
    """One cell of a results file; arrays are read when they are asked for."""

    path: Path
    name: str
    attributes: dict[str, Any]

    def __getitem__(self, variable: str) -> np.ndarray:
        if variable not in self.variables:
            raise ResultsError(f"{self.path}: cell {self.name} has no {variable!r}: {nearest(variable, self.variables)}")
        with store.opened(self.path) as file:
            return store.read(file["cells"][self.name], variable, self.path)

    def __contains__(self, variable: object) -> bool:
        return variable in self.variables

    def remembering(self) -> CellResults:
        """The same cell with arrays that are read once, and cannot be changed; large ones are read anew each time."""
        return _Remembering(self.path, self.name, self.attributes)

    def rows(self, seeds: Sequence[int]) -> dict[int, dict[str, np.ndarray]]:
        """All variables of some networks, by the seeds that are there, and no other row is read; no digest is compared."""
        with store.opened(self.path) as file:
            group = store.cell_group(file, self.name, self.path)
            chosen: dict[int, dict[str, np.ndarray]] = {}
            there = store.read(group, "seed", self.path)
            variables = [(name, dims) for name, dims, _ in store.described(group) if group[name].dtype.kind != "O"]
            for seed in np.intersect1d(there, seeds):
                row = np.flatnonzero(there == seed)
                chosen[int(seed)] = {name: group[name][row] if dims[:1] == ("seed",) else group[name][...]
                                     for name, dims in variables}
        return chosen

    def digest(self, variable: str) -> str:
        """What the file says is the digest of a variable."""
        with store.opened(self.path) as file:
            return file["cells"][self.name][variable].attrs["digest"]

    def dims(self, variable: str) -> tuple[str, ...]:
        """The names of the dimensions of a variable."""
        return self._dims[variable]

    @cached_property
    def _dims(self) -> dict[str, tuple[str, ...]]:
        with store.opened(self.path) as file:
            return {name: dims for name, dims, _ in store.described(store.cell_group(file, self.name, self.path))}

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The names of all variables."""
        with store.opened(self.path) as file:
            return tuple(store.cell_group(file, self.name, self.path))

    @cached_property
    def states(self) -> tuple[str, ...]:
        """The states in the order of their dimension."""
        return tuple(self["state"].tolist())

    @property
    def seeds(self) -> np.ndarray:
        """Seeds of the networks, int64."""
        return self["seed"]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved tables task, network, training and record."""
        return json.loads(self.attributes["config"])

    def at(self, observable: str, state: str) -> np.ndarray:
        """An observable at a state [seed, ...]; NaN, or -1, where a network did not reach it.

        Raises
        ------
        ResultsError
            If the file lacks the observable or the state.
        """
        if state not in self.states:
            raise ResultsError(f"{self.path}: cell {self.name} has no state {state!r}: {nearest(state, self.states)}")
        return self[f"{observable}_at"][:, self.states.index(state)]

    def state_step(self, state: str) -> np.ndarray:
        """The first step of a state [seed]; -1: never."""
        return self["state_step"][:, self.states.index(state)]

    def to_xarray(self) -> xarray.Dataset:
        """All variables with named dimensions and coordinates, in memory; each is compared with its digest."""
        import xarray

        found = {}
        with store.opened(self.path) as file:
            group = store.cell_group(file, self.name, self.path)
            for name, dims, notes in store.described(group):
                found[name] = dims, store.read(group, name, self.path), notes
        swept = [name for name in self.attributes.get("swept", "").split() if name in found]
        return xarray.Dataset(found, attrs=self.attributes).set_coords(["step", *swept])

    def to_table(self) -> pandas.DataFrame:
        """One row a network: its seed, status, steps, and every observable without further dimensions."""
        data = self.to_xarray()
        columns = {"cell": self.name}
        table = data[[n for n in data.data_vars if data[n].dims == ("seed",)]].to_dataframe().reset_index()
        for name in data.data_vars:
            if data[name].dims == ("seed", "state"):
                for state in data["state"].values:
                    table[f"{name}[{state}]"] = data[name].sel(state=state).values
        return table.assign(**columns)


class _Remembering(CellResults):
    @cached_property
    def _kept(self) -> dict[str, np.ndarray]:
        return {}

    def __getitem__(self, variable: str) -> np.ndarray:
        if variable in self._kept:
            return self._kept[variable]
        values = super().__getitem__(variable)
        if values.nbytes <= REMEMBERED:
            values.flags.writeable = False
            self._kept[variable] = values
        return values


@dataclass(frozen=True)
class Results:
    """A results file; arrays of its cells are read when they are asked for."""

    path: Path
    attributes: dict[str, Any]
    cells: tuple[str, ...]

    def cell(self, name: str) -> CellResults:
        """One cell by its name.

        Raises
        ------
        ResultsError
            If there is none.
        """
        if name not in self.cells:
            raise ResultsError(f"{self.path}: no cell {name!r}: {nearest(name, self.cells)}")
        with store.opened(self.path) as file:
            return CellResults(self.path, name, plain_attributes(store.cell_group(file, name, self.path)))

    def __iter__(self) -> Iterator[CellResults]:
        return (self.cell(name) for name in self.cells)

    @property
    def study(self) -> Study:
        """The study that made the file, from the text in it."""
        return parse_study(self.attributes["study"])

    def to_datatree(self) -> xarray.DataTree:
        """The whole file as a tree of datasets, in memory."""
        import xarray

        tree = xarray.DataTree.from_dict({f"/cells/{cell.name}": cell.to_xarray() for cell in self})
        tree.attrs = self.attributes
        return tree

    def to_table(self) -> pandas.DataFrame:
        """One row a network, all cells below each other."""
        import pandas

        return pandas.concat([cell.to_table() for cell in self], ignore_index=True)


def open_results(path: str | Path, check: bool | None = None) -> Results:
    """Open a results file, or that of a results directory.

    Parameters
    ----------
    path : str or Path
    check : bool, optional
        Whether all bytes are compared with the seal first; by default where they are few (64 MB).  Each dataset is compared
        with its digest when it is read, in any case.

    Raises
    ------
    ResultsError
        If it is missing, truncated, damaged, of another version, or no results file at all.
    """
    path = Path(path)
    if path.is_dir():
        path = _merged(path)
    if path.is_file() and (check or (check is None and path.stat().st_size <= LOOKED_THROUGH)):
        store.check_seal(path, needed=False)
    with store.opened(path) as file:
        if "study" not in file.attrs or not isinstance(file.get("cells"), h5py.Group):
            raise ResultsError(f"{path}: is a file of mcrace, but no results file")
        check_group(file["cells"], path)
        return Results(path, plain_attributes(file), tuple(file["cells"]))


def _merged(directory: Path) -> Path:
    """The results file of a directory, or a sentence on how it comes to be."""
    path = directory / RESULTS
    if not path.exists() and (directory / "shards").is_dir():
        raise ResultsError(f"{path}: no such file yet; mcrace merge {directory} writes it from the shards that are there")
    return path
