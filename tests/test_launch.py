"""Launchers: a shard that fails is named and costs the others nothing, whoever computes them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import studies
from studies import finish, shards_of

import mcrace
from mcrace import engine, launch, plan
from mcrace.completion import complete
from mcrace.directory import survey
from mcrace.errors import ShardError
from mcrace.worker import Receipt, run_shard

UNLUCKY = 13
PLUGIN = f'''
import os
from typing import Literal

from mcrace.tasks import Gaussian, task


@task("fragile")
class Fragile(Gaussian):
    """Gaussian inputs; one seed fails while the environment says how."""

    kind: Literal["fragile"] = "fragile"

    def draw(self, pool, stream):
        if int(stream.network) == {UNLUCKY}:
            if os.environ.get("FRAGILE") == "raises":
                raise ArithmeticError("an unlucky seed")
            if os.environ.get("FRAGILE") == "dies":
                os._exit(7)
        return super().draw(pool, stream)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An installed package that offers a task, as the environment of a command."""
    folder = tmp_path / "site"
    (folder / "fragile-1.0.dist-info").mkdir(parents=True)
    (folder / "fragile.py").write_text(PLUGIN)
    (folder / "fragile-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (folder / "fragile-1.0.dist-info" / "entry_points.txt").write_text("[mcrace.tasks]\nfragile = fragile:Fragile\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture
def fragile(study_file) -> Path:
    """A study of the plug-in's task with one cell."""
    return study_file(studies.race(20).partition("[[cells]]")[0].replace('"gaussian"', '"fragile"'))


@pytest.mark.parametrize(("how", "workers", "words"), [("raises", 0, "ArithmeticError: an unlucky seed"),
                                                       ("dies", 2, "KilledWorker")])
def test_a_shard_that_fails(plugin, fragile, tmp_path, how, workers, words):
    arguments = "run", fragile, "-o", tmp_path / "run", "--shard-size", 4, "--workers"
    failed = finish(*arguments, workers, env={**plugin, "FRAGILE": how})
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.startswith("mcrace: 1 of 5 shards failed; run again to try them once more\n")
    assert "main seeds 12-15: " in failed.stderr
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    there = shards_of(tmp_path / "run")
    assert sorted(path.name for path in there) == ["0-4.h5", "16-20.h5", "4-8.h5", "8-12.h5"]
    assert not (tmp_path / "run" / "results.h5").exists()
    assert finish(*arguments, 0, env=plugin).returncode == 0
    assert shards_of(tmp_path / "run").items() > there.items()
    cell = mcrace.open_results(tmp_path / "run").cell("main")
    assert cell.seeds.tolist() == list(range(20))


def test_a_client_of_ones_own(reference, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(processes=False, threads_per_worker=1, n_workers=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        found = mcrace.run(mcrace.parse_study(studies.race()), tmp_path, client=client, shard_size=9)
        studies.assert_same_data(found.path, reference.path)
        assert client.status == "running"
        window_stays_bounded(client, found.path.parent)


def window_stays_bounded(client: object, directory: Path) -> None:
    """At most a few more shards than workers are submitted at a time, and each is yielded once."""
    shards = [SimpleNamespace(identity="0" * 20, first=k, stop=k + 1, name=str(k), fails=k % 5 == 0) for k in range(40)]
    submitted, yielded, most = [], [], 0

    def submit(_: object, shard: SimpleNamespace, *__: object, **options: object) -> object:
        submitted.append(shard.name)
        return client.submit(pretend, shard.first, shard.fails, **options)

    narrow = SimpleNamespace(submit=submit, loop=client.loop, scheduler_info=client.scheduler_info)
    for shard, receipt, error in launch.drive(narrow, shards, str(directory)):
        yielded.append(shard.name)
        most = max(most, len(submitted) - len(yielded))
        assert receipt == (None if shard.fails else shard.first)
        assert error == ("ValueError: no" if shard.fails else "")
    assert sorted(yielded) == sorted(submitted) == sorted(s.name for s in shards)
    assert most <= 4


def pretend(number: int, fails: bool) -> int:
    """Stands for a shard."""
    if fails:
        raise ValueError("no")
    return number


def test_in_this_process_the_others_go_on(tmp_path, monkeypatch):
    def compute(shard: object, directory: str) -> Receipt:
        if shard.first == 4:
            raise ZeroDivisionError("by design")
        return run_shard(shard, directory)

    monkeypatch.setattr(launch.inline, "run_shard", compute)
    text = studies.race(12).partition("[[cells]]")[0]
    with pytest.raises(ShardError, match="1 of 3 shards failed") as raised:
        mcrace.run(mcrace.parse_study(text), tmp_path, workers=0, shard_size=4)
    assert "main seeds 4-7: ZeroDivisionError: by design" in str(raised.value)
    assert raised.value.exit_code == 1
    assert len(shards_of(tmp_path)) == 2


def test_a_shard_that_is_there_is_left_alone(reference):
    study = complete(reference.study)
    work = survey(study, reference.path.parent)
    assert work.networks == 0
    (shard,) = plan.shards_of(study, study.cell("main"), [(0, 40)], 40, "")
    before = shards_of(reference.path.parent)
    receipt = run_shard(shard, str(reference.path.parent))
    assert (receipt.seconds, receipt.networks) == (0.0, 40)
    assert shards_of(reference.path.parent) == before


def test_cells_take_turns(reference, tmp_path):
    """The first shards of all cells come first, so that what is expensive does not come last."""
    study = complete(reference.study)
    work = survey(study, tmp_path / "new")
    order = [shard.name for shard in engine._ordered(work, 16, {})]
    assert order[:4] == ["main seeds 0-15", "lazy seeds 0-15", "main+half-step seeds 0-15", "main seeds 16-31"]
    assert len(order) == 9
    assert not os.path.exists(tmp_path / "new")
