"""Job scripts, shares of a plan, profiles, and what `mcrace submit` and `mcrace run --share` do."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import studies
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import running, shards_of, tree, wait_until

import mcrace
from mcrace import engine, plan, submission
from mcrace.completion import complete
from mcrace.directory import Work
from mcrace.errors import StudyError, VersionError
from mcrace.estimate import Estimate
from mcrace.launch import scripts
from mcrace.launch.profile import Profile, load_profile
from mcrace.plan import Share
from mcrace.versions import unlike, versions
from mcrace.worker import run_shard

SNAPSHOTS = Path(__file__).parent / "snapshots"
PROFILE = Profile(partition="compute", account="physics", array_limit=1000, modules=("python/3.12",), interface="ib0",
                  source=("/home/o'brien/venv/bin/activate",), variables={"NUMBA_CACHE_DIR": "/tmp/$USER"},
                  directives=("--constraint=avx512",))
JOB = scripts.Job("slurm", "race-digits", "/scratch/o'brien/my results", "/scratch/o'brien/my results/jobs/3",
                  "/scratch/o'brien/my results/jobs/3/study.toml", "/opt/python/bin/python", "mcrace=0.1.0 numpy=2.4.6",
                  1500, 64, 5400, 40000, None, PROFILE)
PRINTED = {
    "slurm-array.sh": lambda: scripts.array_script(JOB, 1000, 500),
    "slurm-final.sh": lambda: scripts.final_script(JOB),
    "slurm-dask.sh": lambda: scripts.dask_script(replace(JOB, tasks=4)),
    "slurm-plain.sh": lambda: scripts.array_script(replace(JOB, profile=Profile(), shard_size=16, tasks=2), 0, 2),
    "pbs-array.sh": lambda: scripts.array_script(replace(JOB, system="pbs"), 0, 1000),
    "pbs-again.sh": lambda: scripts.again_script(replace(JOB, system="pbs")),
    "lsf-array.sh": lambda: scripts.array_script(replace(JOB, system="lsf"), 1000, 500),
    "lsf-final.sh": lambda: scripts.final_script(replace(JOB, system="lsf")),
}
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp", "Zs")) | st.sampled_from(" '\"$`\\;&|%"),
                   min_size=1, max_size=30)


# ------------------------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize("name", PRINTED)
def test_scripts_are_as_they_were(name):
    """Print them anew with MCRACE_SNAPSHOTS=write in the environment, and look at the difference."""
    text, path = PRINTED[name](), SNAPSHOTS / name
    if os.environ.get("MCRACE_SNAPSHOTS") == "write":
        path.write_text(text)
    assert text == path.read_text()
    assert subprocess.run(["bash", "-n", path]).returncode == 0


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[list[str]]]:
    """Runs a script whose Python writes down what it is called with."""
    folder = tmp_path_factory.mktemp("listener")
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" END >> {folder}/heard\nprintf '%s' \"$VALUE\" > {folder}/value\n")
    python.chmod(0o755)

    def run(make: Callable[[str], str]) -> tuple[list[list[str]], str]:
        (folder / "heard").unlink(missing_ok=True)
        subprocess.run(["bash"], input=make(str(python)).encode(), cwd=folder, check=False, timeout=20)
        words = (folder / "heard").read_text().split("\0")[:-1]
        ends = [k for k, word in enumerate(words) if word == "END"]
        return [words[a + 1 : b] for a, b in itertools.pairwise([-1, *ends])], (folder / "value").read_text()

    return run


@given(path=ANY_TEXT, value=ANY_TEXT)
@settings(max_examples=12, deadline=None)
def test_values_reach_the_command_as_they_are(listener, path, value):
    job = replace(JOB, directory=f"/x/{path}", study=f"/y/{path}", versions=value, profile=Profile(variables={"VALUE": value}))
    calls, variable = listener(lambda python: scripts.final_script(replace(job, python=python)))
    assert calls == [["-m", "mcrace", "merge", f"/x/{path}", "--complete"], ["-m", "mcrace", "test", f"/x/{path}"],
                     ["-m", "mcrace", "report", f"/x/{path}"]]
    assert variable == value
    calls, _ = listener(lambda python: scripts.array_script(replace(job, python=python), 7, 4))
    assert calls == [["-m", "mcrace", "run", f"/y/{path}", "-o", f"/x/{path}", "--share", "8/1500", "--workers", "64",
                      "--versions", value]]


@given(before=st.text(max_size=5), bad=st.characters(categories=("Cc", "Zl", "Zp", "Cf")), after=st.text(max_size=5),
       key=st.sampled_from(["directory", "folder", "study", "python", "versions"]), make=st.sampled_from(["slurm", "pbs"]))
@settings(max_examples=60, deadline=None)
def test_line_breaks_and_control_characters_are_refused(before, bad, after, key, make):
    job = replace(JOB, system=make, profile=Profile(), **{key: f"/{before}{bad}{after}"})
    with pytest.raises(StudyError, match="line break or a control character"):
        scripts.array_script(job, 0, 2)
        scripts.dask_script(job)
    with pytest.raises(ValueError, match="line break or a control character"):
        Profile(directives=(f"-{before}{bad}{after}",))
    with pytest.raises(ValueError, match="line break or a control character"):
        Profile(variables={"X": f"{before}{bad}{after}"})


@given(name=ANY_TEXT, path=ANY_TEXT)
@settings(max_examples=50, deadline=None)
def test_directives_hold_plain_words_only(name, path):
    """A directive is not read by the shell, so nothing is quoted there."""
    for system in scripts.SYSTEMS:
        job = replace(JOB, system=system, name=name, directory=f"/{path}", folder=f"/{path}", profile=Profile())
        lines = [line for line in scripts.array_script(job, 0, 3).splitlines() if line.startswith("#")][1:]
        plain = scripts.array_script(replace(job, name="a", directory="/b", folder="/c"), 0, 3)
        assert len(lines) == len([line for line in plain.splitlines() if line.startswith("#")]) - 1
        assert all(c.isascii() and (c.isalnum() or c in "#-=_.,:@%[]\" ") for line in lines if not line.startswith("# ")
                   for c in line)


@given(tasks=st.integers(1, 5000), limit=st.integers(1, 2000))
def test_arrays_respect_the_limit(tasks, limit):
    pieces = scripts.arrays(replace(JOB, tasks=tasks, profile=Profile(array_limit=limit)))
    assert all(1 <= count <= limit for _, count in pieces)
    shares = [before + k for before, count in pieces for k in range(1, count + 1)]
    assert shares == list(range(1, tasks + 1))


def program(folder: Path, name: str, text: str) -> None:
    """A program of a batch system that is none."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("system", "restarts", "called"), [
    ("slurm", 0, "scontrol requeue 77_2\n"), ("slurm", 20, ""),
    ("pbs", 0, "qsub -v MCRACE_SHARE=2,MCRACE_RESTARTS=1 again.sh\nqsub -W depend=afterany:91 final.sh\n"), ("lsf", 0, "")])
def test_a_task_that_makes_way(tmp_path, system, restarts, called):
    """The script passes the signal on, and queues its task again, but not for ever."""
    python, bin_ = tmp_path / "python", tmp_path / "bin"
    program(tmp_path, "python", f"trap 'exit 85' USR1\ntouch {tmp_path}/ready\nwhile :; do sleep 0.01; done")
    for name in ("scontrol", "qsub"):
        program(bin_, name, f'echo "{name} $*" >> {tmp_path}/called\necho 91')
    script = tmp_path / "task.sh"
    job = replace(JOB, system=system, python=str(python), profile=Profile(), folder=str(tmp_path))
    script.write_text(scripts.array_script(job, 0, 2))
    indices = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "77", "PBS_ARRAY_INDEX": "2", "LSB_JOBINDEX": "2"}
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "SLURM_RESTART_COUNT": str(restarts), **indices}
    with running(script, command=["bash"], env=environment) as process:
        assert wait_until((tmp_path / "ready").exists)
        process.send_signal(signal.SIGUSR1)
        process.communicate(timeout=20)
        assert process.returncode == 85
    assert ((tmp_path / "called").read_text() if called else "") == called


# ------------------------------------------------------------------------------------------------- shares


@pytest.fixture(scope="module")
def small() -> mcrace.Study:
    """The small study, completed."""
    return complete(mcrace.parse_study(studies.race()))


@pytest.mark.parametrize("size", [None, 1, 9, 16, 100])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 200])
def test_shares_are_the_whole_without_overlap(small, n, size):
    whole = [s for c in small.cells for s in plan.shards_of(small, c, [(0, 40)], size, "")]
    shares = [list(Share(k, n).of(small, whole, size)) for k in range(1, n + 1)]
    assert sorted(s.name for share in shares for s in share) == sorted(s.name for s in whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [s.name for s in shares[-1]] == [s.name for s in whole[::n]]


@given(cuts=st.lists(st.integers(0, 40), min_size=2, max_size=8), n=st.integers(1, 5))
@settings(deadline=None)
def test_a_share_hangs_on_the_full_plan_alone(cuts, n):
    """Whatever is there already, a network is owned by the same task."""
    study = complete(mcrace.parse_study(studies.race()))
    cell = study.cell("lazy")
    ranges = [(a, b) for a, b in zip(sorted(cuts)[::2], sorted(cuts)[1::2]) if a < b]
    owner = {seed: k for k in range(1, n + 1) for s in Share(k, n).of(study, plan.shards_of(study, cell, [(0, 40)], 9, ""), 9)
             for seed in range(s.first, s.stop)}
    for k in range(1, n + 1):
        for shard in Share(k, n).of(study, plan.shards_of(study, cell, ranges, 9, ""), 9):
            assert {owner[seed] for seed in range(shard.first, shard.stop)} == {k}
    assert len(owner) == 40


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "/4", "-1/4", "1/4/2", "a/b", "1.0/4", "²/4", "1/0"])
def test_shares_that_are_none(text):
    with pytest.raises(StudyError, match="must be K/N, with K from 1 to N"):
        Share.parse(text)


def test_shares_and_a_merge(command, study_file, reference, tmp_path):
    path, directory = study_file(studies.race()), tmp_path / "run"
    options = "-o", directory, "--workers", 0, "--shard-size", 9
    answer = command("run", path, *options, "--share", "2/2")
    assert answer.code == 0
    assert "task 2 of 2: 8 of its shards are missing" in answer.out
    assert not (directory / "results.h5").exists()
    assert "task 2 of 2: 0 of its shards are missing" in command("run", path, *options, "--share", "2/2").out
    merged = command("merge", directory, "--complete")
    assert merged.code == 1
    assert "networks are missing: " in merged.out
    assert command("merge", directory).code == 0
    before = shards_of(directory)
    assert command("run", path, *options, "--share", "1/2").code == 0
    assert shards_of(directory).items() > before.items()
    answer = command("merge", directory, "--complete")
    assert (answer.code, "missing" in answer.out) == (0, False)
    studies.assert_same_data(directory, reference.path)


def test_commands_begin_at_different_places(small, monkeypatch):
    whole = list(plan.shards_of(small, small.cells[0], [(0, 40)], 1, ""))
    orders = set()
    for pid in range(20):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        todo = engine.Todo(lambda: whole)
        order = list(todo)
        start = order.index(whole[0])
        assert order[start:] + order[:start] == whole
        assert (todo.shards, todo.networks) == (40, 40)
        orders.add(start)
    assert len(orders) > 10


def test_told_to_make_way(study_file, tmp_path):
    """Another exit code than an interrupt, and nothing that is published is lost."""
    study, directory = study_file(studies.race(200)), tmp_path / "run"
    options = "-o", directory, "--shard-size", 1, "--workers", 0, "--share", "1/1"
    with running("run", study, *options, command=[sys.executable, "-m", "mcrace"]) as process:  # as scripts call it
        assert wait_until(lambda: len(list(directory.glob("shards/*/*.h5"))) >= 3)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR1)  # a batch system tells the script and the command
        _, err = process.communicate(timeout=60)
    assert process.returncode == 85, err
    assert err.strip() == "mcrace: told to make way; run the same command again to go on from here"
    assert 3 <= len(shards_of(directory)) < 600
    assert not list(directory.rglob("*.tmp"))


# ------------------------------------------------------------------------------------------------- versions


def test_versions(small):
    found = versions(small)
    assert f"mcrace={mcrace.__version__} engine={plan.ENGINE} numba=" in found
    assert unlike(found) == unlike("") == ""
    engine_and_plug_in = f"engine is 0 in the plan and {plan.ENGINE} here, plugin is 1.0 in the plan and missing here"
    assert unlike("engine=0 plugin=1.0") == engine_and_plug_in


def test_a_worker_with_other_versions_refuses(small, tmp_path):
    (shard,) = plan.shards_of(small, small.cells[0], [(0, 4)], 4, "", "numpy=1.0 engine=1")
    with pytest.raises(VersionError, match=r"has other versions than the plan: numpy is 1\.0 in the plan and \d"):
        run_shard(shard, str(tmp_path))
    assert tree(tmp_path) == {}


def test_a_task_with_other_versions_than_submitted(command, study_file, tmp_path):
    answer = command("run", study_file(studies.race()), "-o", tmp_path / "run", "--share", "1/1", "--versions", "numba=0.1")
    assert answer.code == 1
    assert "the study was submitted with other versions: numba is 0.1 in the plan and " in answer.err
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------- profiles, sizes


def test_profile(tmp_path):
    path = tmp_path / "profile.toml"
    path.write_text('partition = "compute"\ncores = 64\nmodules = ["python/3.12"]\nvariables = { X = "a b" }\n')
    assert load_profile(path) == Profile(partition="compute", cores=64, modules=("python/3.12",), variables={"X": "a b"})
    assert load_profile(None) == Profile()
    assert load_profile(Path(__file__).parents[1] / "jobs" / "profiles/example.toml").cores


@pytest.mark.parametrize(("text", "words"), [
    ('partition = "a b"', "profile.partition: 'a b' is no name"), ('partitoin = "a"', "did you mean 'partition'"),
    ('cores = "64"', "profile.cores: "), ('directives = ["constraint=x"]', "is no option: it starts with -"),
    ('directives = ["-C x\\nrm -rf /"]', "line break"), ('modules = ["a\\u0007"]', "control character"),
    ('variables = { "A;B" = "1" }', "'A;B' is no name of a variable"), ('account = "x\\n#SBATCH --uid=root"', "is no name"),
    ("cores = ", "not valid TOML"), ("array_limit = 0", "profile.array_limit: "), ("x" * 200_000, "at most 100,000 bytes")])
def test_profiles_with_mistakes(tmp_path, text, words):
    path = tmp_path / "profile.toml"
    path.write_text(text)
    with pytest.raises(StudyError, match=f"^{path}: ") as raised:
        load_profile(path)
    assert words in str(raised.value)


def sized(small: mcrace.Study, core_seconds: float, **options: int) -> submission.Size:
    """The size of the small study if each cell took so long."""
    work = Work(small, Path("x"), {c.name: [(0, 40)] for c in small.cells})
    return submission.sized(work, [Estimate(c, 3, core_seconds, 1000, 50_000_000) for c in small.cells], shard_size=1,
                            **{"cores": 4, **options})


def test_sizes(small):
    quick = sized(small, 30.0)
    assert (quick.tasks, quick.shards, quick.networks, quick.walltime) == (1, 120, 120, 900)
    slow = sized(small, 40_000.0)
    assert slow.tasks == 9  # of an hour on four cores
    assert slow.tasks * slow.cores * (slow.walltime - 600) > 1.2 * 120_000
    assert slow.walltime % 300 == 0
    assert slow.memory == 1000 + 4 * (500 + 75)
    assert sized(small, 40_000.0, tasks=2).walltime > 3 * slow.walltime
    short = sized(small, 40_000.0, walltime=6000)
    assert (short.walltime, short.tasks > slow.tasks) == (6000, True)
    assert sized(small, 1e9).tasks == 30  # no more than there are shards for their cores
    with pytest.raises(StudyError, match=r"a shard takes up to 1000 s on one core.*raise --walltime or lower --shard-size"):
        sized(small, 40_000.0, walltime=1000)


# ------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """A machine with sbatch, qsub and bsub, which write down what they are called with; returns where."""
    folder, heard = tmp_path / "bin", tmp_path / "heard"
    count = f'n=$(($(cat {heard} 2>/dev/null | wc -l) + 100))\necho "$(basename "$PWD"): $(basename "$0") $*" >> {heard}\n'
    program(folder, "sbatch", count + 'echo "$n;test"')
    program(folder, "qsub", count + 'case "$*" in *array*) echo "$n[].server";; *) echo "$n.server";; esac')
    program(folder, "bsub", count + f'cat >> {tmp_path}/read; echo "Job <$n> is submitted to default queue <normal>."')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return heard


@pytest.mark.parametrize(("to", "heard"), [
    ("slurm", ["1: sbatch --parsable array-1.sh", "1: sbatch --parsable array-2.sh",
               "1: sbatch --parsable --dependency=afterany:100:101 final.sh"]),
    ("pbs", ["1: qsub array-1.sh", "1: qsub array-2.sh", "1: qsub -W depend=afterany:100[].server:101[].server final.sh"]),
    ("lsf", ["1: bsub ", "1: bsub ", "1: bsub -w ended(100) && ended(101)"])])
def test_submit(command, study_file, tmp_path, queue, to, heard):
    profile = tmp_path / "profile.toml"
    profile.write_text("array_limit = 2\n")
    path, directory = study_file(studies.race()), tmp_path / "run"
    answer = command("submit", path, "-o", directory, "--to", to, "--tasks", 3, "--profile", profile)
    assert answer.code == 0, answer.err
    assert "120 networks are missing" in answer.out
    assert "final.sh: job 102" in answer.out
    assert queue.read_text().splitlines() == heard
    folder = directory / "jobs" / "1"
    path.write_text("edited")
    assert (folder / "study.toml").read_text() == (directory / "study.toml").read_text() == studies.race()
    if to == "lsf":
        assert (tmp_path / "read").read_text() == "".join(
            (folder / name).read_text() for name in ("array-1.sh", "array-2.sh", "final.sh"))
    again = command("submit", directory, "--to", to)
    assert "jobs/2" in again.out


def test_submit_dask(command, study_file, tmp_path, queue):
    answer = command("submit", study_file(studies.race()), "-o", tmp_path / "run", "--to", "slurm", "--dask")
    assert answer.code == 0, answer.err
    assert queue.read_text().splitlines() == ["1: sbatch --parsable dask.sh",
                                              "1: sbatch --parsable --dependency=afterany:100 final.sh"]


@pytest.mark.parametrize("to", scripts.SYSTEMS)
def test_dry_run_writes_nothing(command, study_file, tmp_path, queue, monkeypatch, to):
    monkeypatch.chdir(tmp_path)
    path = study_file(studies.race())
    before = tree(tmp_path)
    answer = command("submit", path, "--to", to, "--dry-run", "--walltime", "1:30:00", "--memory", "16G", "--cpus", 8)
    assert answer.code == 0
    assert tree(tmp_path) == before
    script = {"slurm": ["--time=01:30:00", "--mem=16000M", "--cpus-per-task=8"], "lsf": ["-W 1:30", "-M 16000MB", "-n 8"],
              "pbs": ["-l select=1:ncpus=8:mem=16000mb", "-l walltime=01:30:00"]}[to]
    assert all(f"{scripts.MARK[to]} {line}\n" in answer.out for line in script), answer.out
    assert "mcrace merge" in answer.out


def test_submit_where_there_is_no_batch_system(command, study_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = command("submit", study_file(studies.race()), "-o", tmp_path / "run", "--to", "slurm")
    assert answer.code == 2
    assert answer.err.startswith("mcrace: sbatch: there is no such program here")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_submit_that_is_refused(command, study_file, tmp_path, queue):
    program(tmp_path / "bin", "sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2\nexit 1")
    answer = command("submit", study_file(studies.race()), "-o", tmp_path / "run", "--to", "slurm")
    assert answer.code == 2
    assert "sbatch does not take" in answer.err
    assert answer.err.strip().endswith("array-1.sh: sbatch: error: invalid partition specified: x")


@pytest.mark.parametrize(("options", "words"), [
    (["--to", "slum"], "--to 'slum': did you mean 'slurm'?"), (["--to", "pbs", "--dask"], "--dask is for Slurm"),
    (["--to", "slurm", "--walltime", "90"], "--walltime '90': must be HH:MM:SS"),
    (["--to", "slurm", "--walltime", "0:01:00"], "more than 120 seconds"),
    (["--to", "slurm", "--memory", "16"], "--memory '16': must be a number with M, G or T"),
    (["--to", "slurm", "--profile", "none.toml"], "none.toml: cannot be read")])
def test_submissions_with_mistakes(command, study_file, tmp_path, queue, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    path = study_file(studies.race())
    before = tree(tmp_path)
    answer = command("submit", path, *options)
    assert answer.code == 2
    assert words in answer.err
    assert tree(tmp_path) == before


def test_nothing_to_submit(command, study_file, reference, queue):
    answer = command("submit", study_file(studies.race()), "-o", reference.path.parent, "--to", "slurm")
    assert answer.code == 2
    assert "nothing is missing" in answer.err


@pytest.mark.parametrize(("options", "words"), [
    (["--share", "3/2"], "must be K/N"), (["--share", "1/2", "--only", "lazy"], "goes without --only"),
    (["--scheduler", "tcp://x:1", "--workers", "2"], "only one of"),
    (["--scheduler", "nonsense://x"], "no Dask scheduler answers at nonsense://x"),
    (["--scheduler-file", "none.json"], "none.json: no scheduler has written its address there")])
def test_runs_with_mistakes(command, study_file, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mcrace.launch.dask_cluster.CONNECT_SECONDS", 0.5)
    answer = command("run", study_file(studies.race()), *options)
    assert answer.code == 2
    assert words in answer.err
    assert list(tree(tmp_path)) == ["study.toml"]
