"""The results file opens with h5py alone, with xarray by both engines, and as a table, and means the same in each."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies

import mcrace
from mcrace import store
from mcrace.completion import complete
from mcrace.directory import survey
from mcrace.errors import ResultsError
from mcrace.merging import merge

xarray = pytest.importorskip("xarray")

SWEEP = """
[sweep]
grid = { "network.init.scale" = [1e-2, 0.1], "network.hidden" = [[8], [6]], "task.permute_labels" = [false, true] }
zip = { "training.step_size" = [0.5], "task.loss" = ["mse"] }
"""
SIZES = {"seed": 12, "time": 12, "neuron": 8, "input": 5}
ENGINES = ["h5netcdf", "netcdf4"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> mcrace.Results:
    """Cells that differ in numbers, a list, a word and a truth, with weights at the ends, and a named cell."""
    text = studies.race(12, weights='"ends"').partition("[[cells]]")[0] + SWEEP
    text += '[[cells]]\nname = "lazy"\n"network.init.scale" = 1.0\n"network.init.paired" = true\n'
    return mcrace.run(mcrace.parse_study(text), tmp_path_factory.mktemp("swept") / "run", workers=0)


def datasets(path: Path) -> dict[str, h5py.Dataset]:
    """All datasets of a file, which stays open as long as they do."""
    found = {}
    h5py.File(path).visititems(lambda name, thing: found.update({name: thing} if isinstance(thing, h5py.Dataset) else {}))
    return found


def dims(data: h5py.Dataset) -> tuple[str, ...]:
    """Names of the dimensions by their scales."""
    return tuple(scale.keys()[0] for scale in data.dims) if not data.is_scale else (data.name.rsplit("/", 1)[-1],)


# ------------------------------------------------------------------------------------------------- h5py alone


def test_every_dimension_has_one_scale(reference, swept):
    for path in (reference.path, swept.path):
        for name, data in datasets(path).items():
            if data.is_scale:
                assert data.ndim == 1
            else:
                assert [len(scale) for scale in data.dims] == [1] * data.ndim, name
                assert [scale[0].shape[0] for scale in data.dims] == list(data.shape), name
                assert len(set(dims(data))) == data.ndim, name


def test_names_and_dimensions(reference):
    found = {name: dims(data) for name, data in datasets(reference.path).items()}
    for cell in ("main", "lazy", "main+half-step"):
        expected = {"status": ("seed",), "stop_step": ("seed",), "state_step": ("seed", "state"), "loss": ("seed", "time"),
                    "step": ("time",), "alignment_at": ("seed", "state"), "cosine_at": ("seed", "state", "neuron")}
        for name, wanted in expected.items():
            assert found[f"cells/{cell}/{name}"] == wanted
    assert {name.split("/")[1] for name in found} == {"main", "lazy", "main+half-step"}


def test_values(reference):
    with h5py.File(reference.path) as file:
        cell = file["cells/main"]
        steps, loss, stop = cell["step"][()], cell["loss"][()], cell["stop_step"][()]
        assert cell["seed"][()].tolist() == list(range(40))
        assert (steps[0], steps[-1], len(steps)) == (0, 300, 12)
        np.testing.assert_allclose(cell["time"][()], steps * 0.5)
        stopped = cell["status"][()] == 1
        assert np.array_equal(np.isnan(loss), stopped[:, None] & (steps > stop[:, None]))
        np.testing.assert_allclose(loss[:, 0], np.log(2), rtol=0.01)
        states = [s.decode() for s in cell["state"][()]]
        at = cell["state_step"][()]
        assert (at[:, states.index("start")] == 0).all()
        assert np.array_equal(at[:, states.index("final")], stop)
        half = at[:, states.index("level=0.5")]
        assert ((half > 0) & (half <= stop)).all()
        assert cell["loss"].attrs["units"] == "1"
        assert "mean" in cell["loss"].attrs["description"].lower()


def test_no_types_that_others_cannot_read(reference, swept):
    for path in (reference.path, swept.path):
        for name, data in datasets(path).items():
            plain = data.dtype == np.int8 or (data.dtype.kind in "iuf" and data.dtype.itemsize >= 4)
            assert plain or h5py.check_string_dtype(data.dtype), name
            assert h5py.check_enum_dtype(data.dtype) is None, name


def test_attributes(reference):
    with h5py.File(reference.path) as file:
        root = dict(file.attrs)
        cells = {name: dict(group.attrs) for name, group in file["cells"].items()}
    assert root["format_version"] == store.FORMAT_VERSION
    assert root["study"] == studies.race()
    assert (root["name"], root["entropy"], root["mcrace_version"]) == ("small", 11, mcrace.__version__)
    assert {"numba", "numpy", "h5py"} <= {pair.split("=")[0] for pair in root["versions"].split()}
    assert all(c["kernel"] for c in cells.values())
    assert root["cpu"]
    assert datetime.fromisoformat(root["date"]).tzinfo is not None
    checkout = Path(mcrace.__file__).parents[1]
    if (checkout / ".git").exists():
        head = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True)
        assert root["git_commit"] == head.stdout.strip()
        assert len(root["git_commit"]) == 40
    assert {name: c["role"] for name, c in cells.items()} == {"main": "main", "lazy": "control", "main+half-step": "half-step"}
    assert cells["main+half-step"]["of"] == "main"
    assert len({c["identity"] for c in cells.values()}) == 3
    assert all(len(c["identity"]) == 64 for c in cells.values())
    assert json.loads(cells["lazy"]["config"])["network"]["init"]["paired"] is True
    assert json.loads(cells["main+half-step"]["config"])["training"]["step_size"] == 0.25


# ------------------------------------------------------------------------------------------------- xarray


@pytest.mark.parametrize("reader", ENGINES)
def test_datatree(reference, reader):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(reader, reader))
    with xarray.open_datatree(reference.path, engine=reader) as opened:
        assert set(opened["cells"].children) == {"main", "lazy", "main+half-step"}
        assert opened.attrs["name"] == "small"
        for cell in reference:
            data = opened["cells"][cell.name].to_dataset()
            assert set(data.variables) == set(cell.variables)
            for name, found in datasets(reference.path).items():
                if name.startswith(f"cells/{cell.name}/"):
                    variable = data[name.rsplit("/", 1)[-1]]
                    assert variable.dims == dims(found), name
                    np.testing.assert_array_equal(variable.values, cell[variable.name])


@pytest.mark.parametrize("reader", ENGINES)
def test_dataset_of_one_cell(reference, reader):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(reader, reader))
    with xarray.open_dataset(reference.path, group="cells/main", engine=reader) as data:
        assert dict(data.sizes) == {"seed": 40, "time": 12, "neuron": 8, "state": 6}
        np.testing.assert_array_equal(data["loss"].sel(seed=7).values, reference.cell("main")["loss"][7])
        at = data["alignment_at"].sel(state="level=0.1").values
        np.testing.assert_array_equal(at, reference.cell("main").at("alignment", "level=0.1"))


@pytest.mark.parametrize("reader", ENGINES)
def test_swept_values(swept, reader):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(reader, reader))
    with xarray.open_datatree(swept.path, engine=reader) as opened:
        assert len(opened["cells"].children) == 9
        for name, node in opened["cells"].children.items():
            config = json.loads(node.attrs["config"])
            assert float(node["scale"]) == config["network"]["init"]["scale"]
            if name == "lazy":
                assert int(node["paired"]) == 1
            else:
                assert (int(node["hidden"]), float(node["step_size"])) == (config["network"]["hidden"][0], 0.5)
                assert int(node["permute_labels"]) == config["task"]["permute_labels"]
                assert str(node["task.loss"].values) == "mse"
                assert node["loss"].dims == ("seed", "time")
            assert all(node[k].dims == () for k in node.attrs["swept"].split())


def test_to_xarray(reference, swept):
    data = swept.cell("lazy").to_xarray()
    assert dict(data.sizes) == {**SIZES, "state": 5}
    assert data["W_start"].dims == ("seed", "neuron", "input")
    assert {"scale", "paired", "step"} <= set(data.coords)
    assert float(data["scale"]) == 1.0
    data = reference.cell("lazy").to_xarray()
    np.testing.assert_array_equal(data["loss"].values, reference.cell("lazy")["loss"])
    assert data["loss"].dims == ("seed", "time")


def test_to_datatree(reference):
    found = reference.to_datatree()
    np.testing.assert_array_equal(found["cells/main/loss"].values, reference.cell("main")["loss"])


# ------------------------------------------------------------------------------------------------- tables


def test_table(reference):
    pytest.importorskip("pandas")
    table = reference.to_table()
    assert len(table) == 120 and table.index.is_unique
    for name in ("main", "lazy", "main+half-step"):
        rows, cell = table[table["cell"] == name], reference.cell(name)
        assert rows["seed"].tolist() == cell["seed"].tolist()
        assert rows["status"].tolist() == cell["status"].tolist()
        assert rows["stop_step"].tolist() == cell["stop_step"].tolist()
        np.testing.assert_array_equal(rows["alignment_at[start]"], cell.at("alignment", "start"))
        np.testing.assert_array_equal(rows["state_step[final]"], cell.state_step("final"))


def test_table_has_what_was_swept(swept):
    pytest.importorskip("pandas")
    table = swept.to_table()
    assert len(table) == 9 * 12
    assert sorted(table["scale"].unique()) == [0.01, 0.1, 1.0]


# ------------------------------------------------------------------------------------------------- names


def test_unknown_names(reference):
    with pytest.raises(ResultsError, match="did you mean 'lazy'"):
        reference.cell("lasy")
    with pytest.raises(ResultsError, match="did you mean 'accuracy'"):
        reference.cell("main")["accuracie"]
    with pytest.raises(ResultsError, match=r"did you mean 'level=0\.5'"):
        reference.cell("main").at("alignment", "level=0.2")


def test_opening(reference):
    for where in (reference.path, str(reference.path), reference.path.parent):
        found = mcrace.open_results(where)
        assert found.cells == ("main", "lazy", "main+half-step")
    assert found.study == mcrace.parse_study(studies.race())
    assert [cell.name for cell in found] == list(found.cells)
    assert "loss" in found.cell("main")
    assert "sharpness" not in found.cell("main")
    assert found.cell("main").config["task"]["samples"] == 20


def test_statuses_are_counted(reference):
    cell = reference.cell("main")
    counts = dict(pair.split("=") for pair in cell.attributes["statuses"].split())
    for code, name in enumerate(("steps", "stopped", "diverged", "dead")):
        assert int(counts[name]) == (cell["status"] == code).sum()
    assert int(counts["stopped"]) > 0


def test_long_study_file(tmp_path):
    """A text above the 64 KB that HDF5 allows an attribute in itself."""
    text = studies.race(3) + "# " + 200_000 * "τ"
    found = mcrace.run(mcrace.parse_study(text), tmp_path, workers=0)
    assert found.attributes["study"] == text
    with xarray.open_datatree(found.path, engine="h5netcdf") as opened:
        assert opened.attrs["study"] == text


def test_part_of_a_study(tmp_path):
    """Cells and seeds that are not there yet are no mistake."""
    study = mcrace.parse_study(studies.race(8))
    assert mcrace.run(study, tmp_path, workers=0, only="lazy").cells == ("lazy",)
    found = mcrace.run(study, tmp_path, workers=0, seeds=3, only="main")
    assert set(found.cells) == {"lazy", "main", "main+half-step"}
    assert len(found.cell("lazy").seeds) == 3
    found = mcrace.run(study, tmp_path, workers=0)
    assert len(found.cell("lazy").seeds) == len(found.cell("main").seeds) == 8


def test_nothing_to_merge(tmp_path):
    study = complete(mcrace.parse_study(studies.race(8)))
    store.publish_text(tmp_path / "study.toml", study.text)
    with pytest.raises(ResultsError, match="no shard"):
        merge(survey(study, tmp_path))
    assert set(studies.tree(tmp_path)) == {"study.toml"}
