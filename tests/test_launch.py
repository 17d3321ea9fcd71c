"""Launchers: a shard that fails is named and costs the others nothing, whoever computes them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import studies
from studies import finish, shards_of

import mcrace
from mcrace import engine, launch, plan
from mcrace.completion import complete
from mcrace.directory import survey
from mcrace.errors import ShardError, VersionError
from mcrace.observe import clusters
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


def test_the_version_of_a_plug_in_counts(plugin, fragile):
    show = "import sys, mcrace; from mcrace.versions import versions; print(versions(mcrace.load_study(sys.argv[1])))"
    answer = finish("-c", show, fragile, command=[sys.executable], env=plugin)
    assert answer.stdout.strip().endswith(" fragile=1.0")


def test_a_plug_in_that_is_not_installed(plugin, fragile, tmp_path):
    """A module that lies about is not imported, whatever a study file says."""
    (site,) = tmp_path.glob("site")
    (site / "fragile-1.0.dist-info" / "entry_points.txt").unlink()
    (site / "fragile.py").write_text("print('imported')\n" + PLUGIN)
    answer = finish("run", fragile, "-o", tmp_path / "run", env=plugin, cwd=site)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "task.kind: unknown task 'fragile'" in answer.stderr


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
    shards = [SimpleNamespace(cell="main", identity="0" * 20, first=k, stop=k + 1, name=str(k), fails=k % 5 == 0)
              for k in range(40)]
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


@pytest.fixture
def scheduler() -> Iterator[object]:
    """A Dask cluster in this process that has no worker."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(processes=False, n_workers=0, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def some_shards() -> list[plan.Shard]:
    """Shards of the small study."""
    study = complete(mcrace.parse_study(studies.race()))
    return list(plan.shards_of(study, study.cells[0], [(0, 40)], 10, ""))


def test_warming_up_compiles_what_is_recorded_at_states_of_later_steps(monkeypatch):
    """Or each worker would compile it."""
    seen, distances = [], clusters._distances
    monkeypatch.setattr(clusters, "_distances", lambda W, *rest: (seen.append(W.shape), distances(W, *rest)))
    engine.warm_up(mcrace.parse_study(studies.race(observables='["loss"]')))
    assert not seen
    engine.warm_up(mcrace.parse_study(studies.race(observables='["cluster@level=0.1"]')))
    assert {shape[1:] for shape in seen} == {(8, 5)}



def test_no_worker_for_too_long(scheduler, tmp_path):
    with scheduler.get_client() as client, pytest.raises(ShardError, match=r"no worker for \d seconds; run again"):
        list(launch.drive(client, some_shards(), str(tmp_path), patience=1.5))


def test_workers_that_come_late(scheduler, tmp_path):
    with scheduler.get_client() as client:
        outcomes = launch.drive(client, some_shards(), str(tmp_path), patience=60)
        scheduler.scale(1)
        assert [(receipt.networks, error) for _, receipt, error in outcomes] == [(10, "")] * 4


def test_a_scheduler_that_is_lost(scheduler, tmp_path):
    with scheduler.get_client() as client:
        outcomes = launch.drive(client, some_shards(), str(tmp_path), patience=60)
        threading.Timer(0.5, scheduler.close).start()
        with pytest.raises(ShardError, match=r"connection with the Dask scheduler was lost|no worker"):
            list(outcomes)


class Receding:
    """A future whose receipt was lost with its worker, and what becomes of it when it is asked for."""

    def __init__(self, *turns: object) -> None:
        self.turns, self.status, self.key = list(turns), "lost", ""

    def add_done_callback(self, call: Callable[[object], None]) -> None:
        call(self)

    def result(self, timeout: float) -> object:
        turn = self.turns.pop(0)
        if not isinstance(turn, BaseException):
            return turn
        if not isinstance(turn, TimeoutError):
            self.status, self.error = ("cancelled" if isinstance(turn, CancelledError) else "error"), turn
        raise turn

    def exception(self) -> BaseException:
        return self.error


def drive_one(future: Receding) -> list[launch.Outcome]:
    """What comes of one shard that a cluster of one worker computes."""
    def submit(call, shard, directory, pure, key):
        future.key = key
        return future

    client = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": {"one": None}}, submit=submit)
    return list(launch.drive(client, [SimpleNamespace(cell="main", identity="a" * 20, first=0, stop=1)], ""))


def test_a_receipt_that_died_with_its_worker_comes_again():
    future = Receding(TimeoutError(), TimeoutError(), "receipt")
    ((shard, receipt, error),) = drive_one(future)
    assert (shard.first, receipt, error) == (0, "receipt", "")
    assert not future.turns


def test_what_fails_when_it_is_done_again_is_named():
    ((_, receipt, error),) = drive_one(Receding(TimeoutError(), ArithmeticError("no")))
    assert (receipt, error) == (None, "ArithmeticError: no")
    with pytest.raises(ShardError, match="connection with the Dask scheduler was lost"):
        drive_one(Receding(TimeoutError(), CancelledError()))


def test_a_worker_with_other_versions_stops_the_run(scheduler, tmp_path):
    scheduler.scale(1)
    shards = [replace(shard, versions="numpy=1.0") for shard in some_shards()]
    with scheduler.get_client() as client, pytest.raises(VersionError, match=r"numpy is 1\.0 in the plan and"):
        list(launch.drive(client, shards, str(tmp_path)))
    assert shards_of(tmp_path) == {}


def test_a_scheduler_by_its_address(scheduler, command, study_file, reference, tmp_path):
    scheduler.scale(1)
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": scheduler.scheduler_address}))
    options = study_file(studies.race()), "-o", tmp_path / "run", "--shard-size", 20
    address = "--scheduler", scheduler.scheduler_address
    assert command("run", *options, *address, "--share", "1/2").code == 0
    answer = command("run", *options, "--scheduler-file", tmp_path / "scheduler.json")
    assert answer.code == 0, answer.err
    assert "racing on main" in answer.out
    studies.assert_same_data(tmp_path / "run", reference.path)


def test_all_workers_killed_for_good(tmp_path, monkeypatch):
    """With the parent that would start others: what is published stays, and the run ends."""
    monkeypatch.setattr(launch, "LOCAL_PATIENCE_SECONDS", 1.0)
    killed = []

    class Killer(engine.Reporter):
        def done(self, receipt: Receipt) -> None:
            for process in psutil.Process().children():
                if "distributed.cli.dask_worker" in process.cmdline():
                    killed.append(process.pid)
                    os.killpg(process.pid, signal.SIGKILL)

    with pytest.raises(ShardError, match="there has been no worker for"):
        mcrace.run(mcrace.parse_study(studies.race(200)), tmp_path, workers=1, shard_size=1, reporter=Killer())
    assert killed
    assert shards_of(tmp_path)
    assert not (tmp_path / "results.h5").exists()


def test_what_fails_while_workers_start_ends_them(tmp_path, monkeypatch):
    def broken(study: object) -> None:
        raise ArithmeticError("cannot be compiled")

    monkeypatch.setattr(engine, "warm_up", broken)
    with pytest.raises(ArithmeticError, match="cannot be compiled"):
        mcrace.run(mcrace.parse_study(studies.race()), tmp_path, workers=1)
    assert not [p for p in psutil.Process().children() if "distributed.cli.dask_worker" in p.cmdline()]
    assert not shards_of(tmp_path)


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


@pytest.mark.parametrize("own", [None, "65536"])
def test_workers_keep_their_memory_unless_the_environment_says_otherwise(own, monkeypatch):
    name = "MALLOC_TRIM_THRESHOLD_"
    monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv(name, own)
    with launch.local_cluster(1, lambda: None) as client:
        (found,) = client.run(os.getenv, name).values()
    assert found == (own or launch.dask_cluster.MEMORY[name])
