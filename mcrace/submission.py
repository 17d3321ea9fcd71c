"""submit: a study into the queue of a batch system, cut by what it is estimated to cost."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcrace import engine, plan, store
from mcrace.completion import complete
from mcrace.directory import STUDY, Work, directory_of, survey, writable
from mcrace.errors import ResultsError, StudyError
from mcrace.estimate import Estimate, estimate
from mcrace.launch import cores as cores_here
from mcrace.launch import queues, scripts
from mcrace.launch.profile import Profile
from mcrace.launch.scripts import GRACE_SECONDS, Job, System
from mcrace.study import Study
from mcrace.versions import versions

TASK_SECONDS = 3600.0  # what a task should take, about
SAFETY = 1.5  # of walltime and memory over the estimate
START_SECONDS = 600.0  # to start workers and compile
STEP_SECONDS = 300  # walltimes are multiples
BASE_MB, WORKER_MB = 1000, 500  # of the command, and of a worker before it has any network
MAX_TASKS = 100_000


@dataclass(frozen=True)
class Size:
    """How a study is cut into tasks.

    Attributes
    ----------
    shards, networks : int
        What is missing.
    core_seconds : float
        At most.
    tasks, cores, walltime, memory : int
        As in `mcrace.launch.scripts.Job`.
    """

    shards: int
    networks: int
    core_seconds: float
    tasks: int
    cores: int
    walltime: int
    memory: int


@dataclass(frozen=True)
class Submission:
    """Scripts by name, in the order of their submission, and how the study is cut."""

    job: Job
    size: Size
    scripts: dict[str, str]


def planned(
    study: Study,
    directory: str | Path | None,
    system: System,
    *,
    profile: Profile | None = None,
    tasks: int | None = None,
    cores: int | None = None,
    walltime: int | None = None,
    memory: int | None = None,
    shard_size: int | None = None,
    dask: bool = False,
) -> tuple[Submission, Work]:
    """What would be submitted; nothing is written.

    Parameters
    ----------
    study : Study
    directory : path, optional
        Where results go; ``results/<study name>`` by default.
    system : {"slurm", "pbs", "lsf"}
    profile : Profile, optional
    tasks, cores, walltime, memory : int, optional
        Instead of what follows from the estimate; cores also instead of the profile's.
    shard_size : int, optional
    dask : bool
        One allocation with a Dask cluster, instead of an array.

    Raises
    ------
    StudyError, ResultsError
        If the study or the directory cannot be used, nothing is missing, or a shard outlasts the walltime.
    """
    if dask and system != "slurm":
        raise StudyError("--dask is for Slurm; an array works everywhere")
    profile = profile or Profile()
    if profile.qos and system != "slurm":
        raise StudyError("profile.qos: is for Slurm; elsewhere it goes into profile.directives")
    study = complete(study)
    directory = directory_of(study, directory)
    work = survey(study, directory)
    if not work.networks:
        raise StudyError(f"{directory}: nothing is missing; mcrace merge {directory} writes its results file")
    size = sized(work, estimate(study), cores or profile.cores or cores_here(), tasks, walltime, memory, shard_size)
    folder = _folder(directory.resolve())
    job = Job(system, study.name, str(directory.resolve()), str(folder), str(folder / STUDY), sys.executable, versions(study),
              size.tasks, size.cores, size.walltime, size.memory, shard_size, profile)
    return Submission(job, size, dict(_scripts(job, dask))), work


def sized(work: Work, estimates: list[Estimate], cores: int, tasks: int | None = None, walltime: int | None = None,
          memory: int | None = None, shard_size: int | None = None) -> Size:
    """Tasks, walltime and memory from what is missing, if every network took all its steps.

    Raises
    ------
    StudyError
        If a shard alone takes longer than the walltime.
    """
    shards, seconds, longest, largest = 0, 0.0, 0.0, 0
    for e in estimates:
        missing = sum(b - a for a, b in work.missing.get(e.cell.name, []))
        if missing:
            size = min(shard_size or plan.shard_size(e.cell), missing)
            each = e.core_seconds / e.cell.seeds.count
            shards += math.ceil(missing / size)
            seconds += missing * each
            longest = max(longest, size * each)
            largest = max(largest, e.batch_bytes)
    share = TASK_SECONDS if walltime is None else max(longest, (walltime - START_SECONDS) / SAFETY - longest)
    wanted = max(1, min(math.ceil(seconds / (cores * share)), math.ceil(shards / cores), MAX_TASKS))
    tasks = tasks or wanted
    busy = START_SECONDS + SAFETY * (seconds / (tasks * cores) + longest)
    walltime = walltime or int(math.ceil(busy / STEP_SECONDS) * STEP_SECONDS)
    if longest > walltime - GRACE_SECONDS:
        raise StudyError(f"a shard takes up to {longest:.0f} s on one core, and a walltime of {walltime} s leaves less, as its "
                         f"last {GRACE_SECONDS} s are kept to end in order; raise --walltime or lower --shard-size")
    memory = memory or BASE_MB + cores * (WORKER_MB + math.ceil(SAFETY * largest / 1e6))
    return Size(shards, work.networks, seconds, tasks, cores, walltime, memory)


def submit(submission: Submission, work: Work, reporter: engine.Reporter) -> Iterator[tuple[str, str]]:
    """Put study and scripts into the results directory, and hand them in; yields the name of each script with its job's id.

    Raises
    ------
    StudyError, ResultsError
        If there is no batch system here, it refuses, or the directory cannot be written.
    """
    job = submission.job
    queues.program(job.system)
    engine.prepare(work, reporter)
    folder = Path(job.folder)
    with writable(work.directory):
        folder.parent.mkdir(exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise ResultsError(f"{folder}: is there already: another submission runs at this moment; try again") from None
        store.publish_text(folder / STUDY, work.study.text)
        for name, text in submission.scripts.items():
            store.publish_text(folder / name, text)
    ids: list[str] = []
    for name in submission.scripts:
        if name != "again.sh":
            try:
                found = queues.hand_in(job.system, folder / name, ids if name == "final.sh" else [])
            except StudyError as error:
                before = f"; submitted before it: {', '.join(ids)}" if ids else ""
                raise StudyError(f"{error}{before}") from None
            ids.append(found)
            yield name, found


def _scripts(job: Job, dask: bool) -> Iterator[tuple[str, str]]:
    if dask:
        yield "dask.sh", scripts.dask_script(job)
    else:
        for number, (before, count) in enumerate(scripts.arrays(job), 1):
            yield f"array-{number}.sh", scripts.array_script(job, before, count)
    if job.system == "pbs":
        yield "again.sh", scripts.again_script(job)
    yield "final.sh", scripts.final_script(job)


def _folder(directory: Path) -> Path:
    """Where the scripts and logs of the next submission go: 1, 2, 3, ..."""
    try:
        taken = [int(name) for name in os.listdir(directory / "jobs") if name.isascii() and name.isdigit()]
    except (FileNotFoundError, NotADirectoryError):
        taken = []
    return directory / "jobs" / str(max(taken, default=0) + 1)


def seconds_of(text: str) -> int:
    """A walltime as batch systems write it.

    >>> seconds_of("1:30:00"), seconds_of("2-00:00:00")
    (5400, 172800)

    Raises
    ------
    StudyError
    """
    found = re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", text, re.ASCII)
    total = 0 if found is None else sum(int(n or 0) * k for n, k in zip(found.groups(), (86_400, 3600, 60, 1)))
    if total <= GRACE_SECONDS:
        raise StudyError(f"--walltime {text[:40]!r}: must be HH:MM:SS or D-HH:MM:SS, and more than {GRACE_SECONDS} seconds")
    return total


def megabytes_of(text: str) -> int:
    """An amount of memory.

    >>> megabytes_of("16G"), megabytes_of("900M")
    (16000, 900)

    Raises
    ------
    StudyError
    """
    found = re.fullmatch(r"(\d{1,9})([MGT])B?", text, re.ASCII)
    total = int(found[1]) * {"M": 1, "G": 1000, "T": 1_000_000}[found[2]] if found else 0
    if not total:
        raise StudyError(f"--memory {text[:40]!r}: must be a number with M, G or T, as in 16G")
    return total
