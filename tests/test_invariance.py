"""The same network, whoever computes it: workers, shards, batches, kills and further seeds change no bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies
from studies import assert_same_data

import mcrace
from mcrace import plan, worker
from mcrace.completion import complete
from mcrace.plan import Shard
from mcrace.recording import Status
from mcrace.store import Variable
from mcrace.study import Cell, Study

VARIETY = {
    "mse": {"loss": '"mse"', "step_size": "0.3"},
    "one data set": {"fresh": "false"},
    "one data set, mse, float64": {"fresh": "false", "loss": '"mse"', "step_size": "0.3", "dtype": '"float64"'},
    "weights at the ends": {"weights": '"ends"', "hidden": "[6]"},
    "weights at all times, odd sizes": {"weights": '"all"', "hidden": "[10]", "samples": "17", "dimension": "7"},
    "a list of times": {"times": "[0, 1, 7, 50]", "until": "{ loss_drop = 0.5 }"},
}


def results(text: str, directory: Path, **how: object) -> Path:
    """Run a study; returns its directory."""
    mcrace.run(mcrace.parse_study(text), directory, **({"workers": 0} | how))
    return directory


def shard(study: Study, cell: Cell, seeds: range, batch: int) -> Shard:
    """A shard of some seeds, without a pool."""
    return Shard(cell.name, plan.identity(cell.config, study.entropy), cell.config.plain(), study.entropy,
                 seeds.start, seeds.stop, batch, "")


def differing(some: dict[str, Variable], others: dict[str, Variable], rows: slice) -> list[str]:
    """Names of variables that are not the same bits as some rows of another's."""
    assert some.keys() == others.keys()
    found = []
    for name, variable in others.items():
        values = variable.values[rows] if variable.dims[0] == "seed" else variable.values
        same = np.array_equal(values, some[name].values) if values.dtype == object else \
            values.tobytes() == some[name].values.tobytes()
        found += [] if same and values.shape == some[name].values.shape else [name]
    return found


@pytest.mark.parametrize("size", [7, 500])
def test_shard_size(reference, tmp_path, size):
    assert_same_data(results(studies.race(), tmp_path, shard_size=size), reference.path)


def test_shards_of_one(tmp_path):
    """A shard may hold no network that reaches a state, or one that diverged."""
    for text in (studies.race(10), studies.diverging(10)):
        directory = tmp_path / str(len(text))
        assert_same_data(results(text, directory / "a", shard_size=1), results(text, directory / "b"))


@pytest.mark.parametrize(("workers", "size"), [(1, 500), (2, 7)])
def test_workers(reference, tmp_path, workers, size):
    assert_same_data(results(studies.race(), tmp_path, workers=workers, shard_size=size), reference.path)


@pytest.mark.parametrize("changes", VARIETY.values(), ids=VARIETY.keys())
def test_shard_size_in_other_studies(tmp_path, changes):
    text = studies.race(24, **changes)
    assert_same_data(results(text, tmp_path / "a", shard_size=7), results(text, tmp_path / "b"))


@pytest.mark.parametrize("text", [studies.race(), studies.diverging(), studies.race(fresh="false")],
                         ids=["fresh", "diverging", "shared"])
def test_batches(text):
    study = complete(mcrace.parse_study(text))
    for cell in study.cells:
        whole = worker.compute(shard(study, cell, range(40), 4096), {})
        for batch in (1, 5, 16, 39):
            assert differing(worker.compute(shard(study, cell, range(40), batch), {}), whole, slice(None)) == []


def test_networks_alone(tmp_path):
    """Those that diverge get a status and NaN, and their neighbours have the bits that they have alone."""
    study = complete(mcrace.parse_study(studies.diverging()))
    cell = study.cell("main")
    whole = worker.compute(shard(study, cell, range(40), 4096), {})
    status, steps, loss = (whole[name].values for name in ("status", "stop_step", "loss"))
    diverged = status == Status.DIVERGED
    assert 5 < diverged.sum() < 35
    for seed in range(40):
        alone = worker.compute(shard(study, cell, range(seed, seed + 1), 16), {})
        assert differing(alone, whole, slice(seed, seed + 1)) == []
    assert np.isnan(loss[diverged, -1]).all()
    assert np.isfinite(loss[~diverged, 0]).all()
    assert np.isfinite(loss[status == Status.STEPS]).all()
    after = whole["step"].values >= steps[:, None]
    assert np.isnan(loss[after & diverged[:, None]]).all()


def test_diverged_networks_in_a_results_file(tmp_path):
    found = mcrace.run(mcrace.parse_study(studies.diverging()), tmp_path, workers=0, shard_size=7)
    cell = found.cell("main")
    count = int((cell["status"] == Status.DIVERGED).sum())
    assert f"diverged={count}" in cell.attributes["statuses"].split()
    assert 5 < count < 35
    assert_same_data(results(studies.diverging(), tmp_path / "other"), found.path)


def test_further_seeds(tmp_path):
    for count in (20, 30):
        extended = results(studies.race(), tmp_path / "extended", seeds=count, shard_size=8)
    assert_same_data(extended, results(studies.race(), tmp_path / "fresh", seeds=30))
    assert len(mcrace.open_results(extended).cell("main").seeds) == 30


def test_other_first_seed(reference, tmp_path):
    """Seeds 25 to 39 alone are the last rows of seeds 0 to 39."""
    text = studies.race().replace("seeds = 40", "seeds = { first = 25, count = 15 }")
    part, whole = mcrace.open_results(results(text, tmp_path)).cell("lazy"), reference.cell("lazy")
    assert part.seeds.tolist() == list(range(25, 40))
    assert part["loss"].tobytes() == whole["loss"][25:].tobytes()


def test_cells_start_alike():
    """Seed i has the same data in every cell, and weights that differ by the scale alone."""
    study = complete(mcrace.parse_study(studies.race(more='[[cells]]\nname = "twice"\n"network.init.scale" = 2e-2\n')))
    weights = {}
    for name in ("main", "twice"):
        cell = study.cell(name)
        record = cell.config.record.model_copy(update={"weights": "ends"})
        found = worker.compute(shard(study, replace(cell, config=replace(cell.config, record=record)), range(8), 16), {})
        weights[name] = found["W_start"].values
    np.testing.assert_allclose(weights["twice"], 2 * weights["main"], rtol=1e-6)
    assert np.std(weights["main"]) > 0


def test_killed_and_resumed(reference, tmp_path, study_file):
    """SIGKILL at two moments, with and without workers; what was published stays as it was."""
    arguments = "run", study_file(studies.race()), "-o", tmp_path / "run", "--shard-size", 3
    rng = np.random.default_rng(5)
    published = {}
    for turn, shards in enumerate(np.sort(rng.choice(36, 2, replace=False))):
        code = studies.kill_at(shards, rng.uniform(0, 0.01), tmp_path / "run", *arguments, "--workers", 2 * (turn % 2))
        assert code == -9
        now = studies.shards_of(tmp_path / "run")
        assert all(now[path] == data for path, data in published.items())
        published = now
    assert published
    assert studies.finish(*arguments, "--workers", 0, "--quiet").returncode == 0
    assert all(path.read_bytes() == data for path, data in published.items())
    assert_same_data(tmp_path / "run", reference.path)
