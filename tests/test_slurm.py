"""Jobs in a real Slurm: whatever becomes of them, the data are those of a run on this machine, bit for bit."""

from __future__ import annotations

import json
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slurm
import studies
from slurm import said
from studies import assert_same_data, shards_of, wait_until

import mcrace

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]
QUEUE_SECONDS = 150
LIGHT = studies.race(60).partition("[predictions]")[0]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Slurm with one node on this machine."""
    if reason := slurm.why_not():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("slurm")
    with slurm.machine(base):
        yield base


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the study without predictions, from this process."""
    return mcrace.run(mcrace.parse_study(LIGHT), tmp_path_factory.mktemp("light") / "run", workers=0).path


@pytest.fixture
def submit(cluster, command, study_file, tmp_path) -> Callable[..., dict[str, str]]:
    """Submits a study to tmp_path/run; returns the jobs' ids by script."""

    def call(*arguments: object, text: str = LIGHT, profile: str = "") -> dict[str, str]:
        (tmp_path / "profile.toml").write_text(profile)
        answer = command("submit", study_file(text), "-o", tmp_path / "run", "--to", "slurm", "--cpus", 1,
                         "--memory", "1G", "--profile", tmp_path / "profile.toml", *arguments)
        assert answer.code == 0, answer.err
        return dict(re.findall(r"^  (\S+): job (\d+)", answer.out, re.MULTILINE))

    return call


def all_done(directory: Path) -> None:
    """Wait until the queue is empty."""
    assert wait_until(lambda: not said("squeue", "-h"), QUEUE_SECONDS), said("squeue") + slurm.logs(directory)


def test_array_in_two_and_a_merge(submit, reference, tmp_path):
    jobs = submit("--tasks", 2, "--shard-size", 9, text=studies.race(), profile="array_limit = 1")
    assert list(jobs) == ["array-1.sh", "array-2.sh", "final.sh"]
    all_done(tmp_path)
    assert_same_data(tmp_path / "run", reference.path)
    logs = {path.name: path.read_text() for path in (tmp_path / "run" / "jobs" / "1").glob("*.log")}
    assert sorted(logs) == ["array-1-1.log", "array-2-1.log", "final.log"], logs
    assert "task 2 of 2: 8 of its shards are missing" in logs["array-2-1.log"]
    assert "racing on main" in logs["final.log"]
    assert "networks are missing" not in logs["final.log"]


def test_a_cancelled_task(submit, light, tmp_path):
    """The merge comes all the same, and says what is missing; another submission computes that alone."""
    jobs = submit("--tasks", 2, "--shard-size", 9, profile='directives = ["--hold"]')
    said("scancel", f"{jobs['array-1.sh']}_2")
    for number in jobs.values():
        said("scontrol", "release", number)
    all_done(tmp_path)
    final = (tmp_path / "run" / "jobs" / "1" / "final.log").read_text()
    assert re.search(r"^\d+ networks are missing: \d+ of main", final, re.MULTILINE), final
    before = {path: (path.stat().st_mtime_ns, data) for path, data in shards_of(tmp_path / "run").items()}
    assert len(before) == 7
    assert len(mcrace.open_results(tmp_path / "run").cell("main").seeds) < 60
    submit("--tasks", 1, "--shard-size", 9)
    all_done(tmp_path)
    now = {path: (path.stat().st_mtime_ns, data) for path, data in shards_of(tmp_path / "run").items()}
    assert len(now) == 14
    assert now.items() > before.items()
    assert_same_data(tmp_path / "run", light)


def test_a_requeue_by_signal(submit, light, tmp_path):
    (job, _) = submit("--tasks", 1, "--shard-size", 1).values()
    assert wait_until(lambda: len(shards_of(tmp_path / "run")) >= 3, QUEUE_SECONDS), slurm.logs(tmp_path)
    said("scancel", "--batch", "--signal=USR1", f"{job}_1")
    all_done(tmp_path)
    log = (tmp_path / "run" / "jobs" / "1" / "array-1-1.log").read_text()
    first, second = (int(n) for n in re.findall(r"task 1 of 1: (\d+) of its shards", log))
    assert "told to make way" in log
    assert 0 < second <= first - 3
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert_same_data(tmp_path / "run", light)


def test_a_dask_allocation_with_a_worker_killed(submit, light, tmp_path, monkeypatch):
    token = uuid.uuid4().hex
    monkeypatch.setenv(studies.TOKEN, token)
    submit("--tasks", 2, "--shard-size", 1, "--dask")
    folder = tmp_path / "run" / "jobs" / "1"
    assert wait_until(lambda: len(shards_of(tmp_path / "run")) >= 3, QUEUE_SECONDS), slurm.logs(tmp_path)
    (private,) = folder.glob("private-*")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "key.pem").stat().st_mode) == 0o600
    assert json.loads((private / "scheduler.json").read_text())["address"].startswith("tls://")
    workers = [p for p in studies.marked(token) if "distributed.cli.dask_worker" in p.cmdline()]
    workers[-1].kill()
    all_done(tmp_path)
    assert len(workers) >= 2
    assert not private.exists()
    assert_same_data(tmp_path / "run", light)
