"""FORMAT.md against a file that has all that a file can have: nothing is there that it does not say, and the reverse."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies

import mcrace
from mcrace.observe import OBSERVABLES, observable, path
from mcrace.observe.base import Path as Way
from mcrace.stages import STAGES, stage
from mcrace.stages.base import Stage
from mcrace.store import Variable

TEXT = (Path(__file__).parents[1] / "analysis" / "FORMAT.md").read_text()
HDF5 = {"DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates"}


def documented(title: str, column: str) -> set[str]:
    """The names in backticks in the first column of the table below a title."""
    section = TEXT[TEXT.index(title) :]
    rows = section[section.index(f"| {column} |") :].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"(?<!\*)`(\w+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory):
    """A file with a path, a stage with a dimension `variant`, swept values, all weights, and weights at the ends."""

    @observable("format_moment", ("neuron",))
    def _moment(state):
        """|w| of each neuron."""
        return state.norms

    @path("format_path")
    class _Path(Way):
        """How many recording times there were."""

        def begin(self, state):
            return {"count": np.zeros(len(state.W))}

        def follow(self, carry, state):
            carry["count"] += 1

        def end(self, carry):
            return carry["count"]

    @stage("format_stage")
    class _Stage(Stage):
        """Copies."""

        def work(self, config):
            return 0.0

        def run(self, trained):
            values = np.zeros((len(trained.seeds), 2))
            return {"variant": Variable(("variant",), np.array(["a", "b"], object)),
                    "format_loss": Variable(("seed", "variant"), values, {"description": "nothing"})}

    text = studies.race(4, weights='"ends"', observables='["loss", "format_moment", "format_moment@final", "format_path"]')
    text = text.replace('weights = "ends"', 'weights = "ends"\nstages = ["format_stage"]')
    text += '[[cells]]\nname = "all"\n"record.weights" = "all"\n"network.hidden" = [6]\n'
    results = mcrace.run(mcrace.parse_study(text), tmp_path_factory.mktemp("format"), workers=0)
    with h5py.File(results.path) as opened:
        yield opened
    for registry, name in ((OBSERVABLES, "format_moment"), (OBSERVABLES, "format_path"), (STAGES, "format_stage")):
        del registry._things[name]


def test_attributes_of_the_file(file):
    assert set(file.attrs) == documented("## Attributes of the file", "attribute")
    assert set(file) == {"cells"}


def test_attributes_of_cells(file):
    wanted = documented("## A group for each cell", "attribute") | {"attributes_digest"}
    assert "`attributes_digest`" in TEXT
    for cell in file["cells"].values():
        assert set(cell.attrs) == wanted


def test_attributes_of_datasets(file):
    for cell in file["cells"].values():
        for data in cell.values():
            assert set(data.attrs) - HDF5 <= {"digest", "description", "units"} and "digest" in data.attrs


def test_datasets(file):
    fixed = documented("## A group for each cell", "dataset")
    dimensions = set(re.findall(r"`(\w+)`", TEXT[TEXT.index("Dimensions:") :].partition("A dimension without")[0]))
    always = fixed - {"W", "v", "W_start", "v_start", "W_final", "v_final"}
    seen = set()
    for name, cell in file["cells"].items():
        swept = set(cell.attrs["swept"].split())
        assert always <= set(cell), name
        for key, data in cell.items():
            dims = (key,) if data.is_scale else tuple(d[0].name.rsplit("/", 1)[-1] for d in data.dims)
            assert set(dims) <= dimensions, (key, dims)
            base = key.removesuffix("_at")
            if key in fixed or (data.is_scale and key in dimensions):
                sort = "fixed"
            elif key in swept:
                sort = "swept"
                assert data.shape == ()
            elif base in OBSERVABLES and OBSERVABLES[base].path:
                sort = "path"
                assert dims == ("seed", *OBSERVABLES[base].dims)
            elif base in OBSERVABLES:
                sort = "at" if key.endswith("_at") else "observable"
                assert dims == ("seed", "state" if sort == "at" else "time", *OBSERVABLES[base].dims)
            else:
                sort = "stage"
                assert key == "format_loss" and dims == ("seed", "variant")
            seen.add(sort)
    assert seen == {"fixed", "swept", "path", "at", "observable", "stage"}, "each sort that the table has"
    cells = file["cells"]
    assert fixed <= set(cells["main"]) | set(cells["all"])


def test_dimensions_of_the_fixed_datasets_are_as_the_table_says(file):
    rows = re.findall(r"^\| (`[^|]+) \| ([\w, ()]+) \|", TEXT[TEXT.index("| dataset |") :], re.MULTILINE)
    looked = 0
    for names, dims in rows:
        for key in re.findall(r"`(\w+)`", names):
            for cell in file["cells"].values():
                if key in cell:
                    data = cell[key]
                    found = [key] if data.is_scale else [d[0].name.rsplit("/", 1)[-1] for d in data.dims]
                    plain = re.sub(r"\(, input\)", ", input" if key.startswith("W") else "", dims)
                    assert found == (["time"] if key == "time" else plain.split(", ")), key
                    looked += 1
    assert looked > 20


def test_the_seal_and_the_states(file):
    assert Path(file.filename).read_bytes()[-46:].startswith(b"mcrace sha256 ") and "46 bytes" in TEXT
    states = file["cells/main/state"].asstr()[()].tolist()
    assert all(f"`{s}`" in TEXT or s.startswith(("level=", "tau=")) for s in states)
    assert "`level=x`" in TEXT and "`tau=x`" in TEXT
