"""Job scripts for Slurm, PBS and LSF: pure functions of a `Job`.

Every value is quoted for the shell, and one with a line break or another control character is refused.  The directives
hold numbers and plain words only: scripts are submitted from their own folder, so that logs need no path.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mcrace.errors import StudyError
from mcrace.interrupt import REQUEUE
from mcrace.launch.dask_cluster import SELDOM_THERE, THREADS
from mcrace.launch.profile import Profile, printable

System = Literal["slurm", "pbs", "lsf"]
SYSTEMS: tuple[System, ...] = ("slurm", "pbs", "lsf")
GRACE_SECONDS = 120  # between the signal and the time limit
REQUEUES = 20  # times that a task may be queued again
FINAL_SECONDS = 3600
INDEX = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "lsf": "LSB_JOBINDEX"}
MARK = {"slurm": "#SBATCH", "pbs": "#PBS", "lsf": "#BSUB"}
CREDENTIALS = ("CLIENT", "SCHEDULER", "WORKER")


@dataclass(frozen=True)
class Job:
    """All that a script hangs on.

    Attributes
    ----------
    system : {"slurm", "pbs", "lsf"}
    name : str
        Of the study.
    directory, folder, study, python : str
        Absolute paths: results, scripts and logs, the copy of the study file, the interpreter.
    versions : str
        As `mcrace.versions.versions` gives them.
    tasks, cores : int
        Tasks of the whole plan, and cores of each.
    walltime : int
        Seconds.
    memory : int
        MB of a task.
    """

    system: System
    name: str
    directory: str
    folder: str
    study: str
    python: str
    versions: str
    tasks: int
    cores: int
    walltime: int
    memory: int
    shard_size: int | None = None
    profile: Profile = field(default_factory=Profile)


def arrays(job: Job) -> list[tuple[int, int]]:
    """The tasks of a job in arrays that respect the site's limit: how many tasks come before each, and how many it has.

    >>> arrays(Job("slurm", "a", "/r", "/r/j", "/r/s", "python", "", 2500, 8, 60, 100))
    [(0, 1000), (1000, 1000), (2000, 500)]
    """
    limit = job.profile.array_limit
    return [(first, min(limit, job.tasks - first)) for first in range(0, job.tasks, limit)]


def array_script(job: Job, before: int, count: int) -> str:
    """An array of tasks, each of which computes its share of the plan."""
    number = before // job.profile.array_limit + 1
    return _text(job, _header(job, f"array-{number}", job.cores, job.walltime, count), [
        *_setting_up(job),
        f"share=$(({before} + ${{{INDEX[job.system]}:-1}}))", *_task(job)])


def again_script(job: Job) -> str:
    """PBS: one task alone, which is submitted by a task that ran into its time limit."""
    return _text(job, _header(job, "again", job.cores, job.walltime), [*_setting_up(job), "share=$MCRACE_SHARE", *_task(job)])


def final_script(job: Job) -> str:
    """What comes after any outcome of the tasks: merges, tests, reports, and says what is missing."""
    mcrace, directory = _mcrace(job), quoted(job.directory)
    return _text(job, _header(job, "final", 1, FINAL_SECONDS), [
        *_setting_up(job), f"{mcrace} merge {directory} --complete", "code=$?", f"{mcrace} test {directory}",
        f"{mcrace} report {directory}", 'exit "$code"'])


def dask_script(job: Job) -> str:
    """Slurm: one allocation with a scheduler, a worker on each core, and the command that feeds them; all over TLS."""
    python, workers = quoted(_python(job)), job.tasks * job.cores
    interface = f" --interface {quoted(job.profile.interface)}" if job.profile.interface else ""
    header = [*_opening(job, "dask"), f"--ntasks={workers}", "--cpus-per-task=1",
              f"--mem-per-cpu={-(-job.memory // job.cores)}M", f"--time={clock(job.walltime)}", *_ending(job, "dask-%j")]
    run = (f"{_mcrace(job)} run {quoted(job.study)} -o {quoted(job.directory)} --share 1/1 "
           f'--scheduler-file "$private/scheduler.json"{_options(job)}')
    return _text(job, header, [
        *_setting_up(job),
        "",
        "# credentials of this allocation alone, which nobody else may read",
        f"private={quoted(job.folder)}/private-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}",
        "(umask 077 && mkdir \"$private\" && openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mcrace \\",
        '    -keyout "$private/key.pem" -out "$private/certificate.pem" 2>"$private/openssl.log") ||',
        '    { echo "mcrace: openssl made no credentials:"; cat "$private/openssl.log"; exit 1; }',
        "export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES='[]'",
        "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]' DASK_LOGGING__DISTRIBUTED=critical",
        _export(SELDOM_THERE),
        'export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$private/certificate.pem"',
        *(f'export DASK_DISTRIBUTED__COMM__TLS__{who}__CERT="$private/certificate.pem" '
          f'DASK_DISTRIBUTED__COMM__TLS__{who}__KEY="$private/key.pem"' for who in CREDENTIALS),
        _export(THREADS),
        "",
        f"{python} -m distributed.cli.dask_scheduler --protocol tls:// --port 0 --no-dashboard \\",
        f'    --dashboard-address 127.0.0.1:0 --scheduler-file "$private/scheduler.json"{interface} &',
        "scheduler=$!",
        f"srun --ntasks={workers} --overlap --kill-on-bad-exit=0 --no-kill --wait=0 \\",
        f"    {python} -m distributed.cli.dask_worker --protocol tls:// --no-nanny --nthreads 1 --memory-limit 0 \\",
        "    --no-dashboard --dashboard-address 127.0.0.1:0 --death-timeout 120 --preload mcrace.worker \\",
        f'    --scheduler-file "$private/scheduler.json"{interface} &',
        "workers=$!",
        *_watched(run, 'kill "$scheduler" 2>/dev/null  # its workers end with it',
                  'for _ in {1..100}; do kill -0 "$workers" 2>/dev/null || break; sleep 0.1; done',
                  'kill "$workers" 2>/dev/null', 'wait "$workers" "$scheduler"', 'rm -rf "$private"'),
        *_again(job)])


def _export(values: dict[str, str]) -> str:
    return f"export {' '.join(f'{name}={value}' for name, value in values.items())}"


def quoted(text: str) -> str:
    """A value for the shell.

    Raises
    ------
    StudyError
        If there is a line break or another control character in it.
    """
    try:
        return shlex.quote(printable(text))
    except ValueError as error:
        raise StudyError(f"{error}; it cannot go into a job script") from None


def _text(job: Job, directives: list[str], lines: list[str]) -> str:
    for line in (*directives, *lines):
        quoted(line)
    shell = "#!/bin/bash -l" if job.profile.modules else "#!/bin/bash"  # a login shell knows the modules
    return "\n".join([shell, *(f"{MARK[job.system]} {d}" for d in directives), "", *lines, ""])


def _python(job: Job) -> str:
    return job.profile.python or job.python


def _mcrace(job: Job) -> str:
    return f"{quoted(_python(job))} -m mcrace"


def _options(job: Job) -> str:
    size = "" if job.shard_size is None else f" --shard-size {job.shard_size}"
    return f"{size} --versions {quoted(job.versions)}"


def _setting_up(job: Job) -> Iterator[str]:
    profile = job.profile
    for name in profile.modules:
        yield f"module load {quoted(name)}"
    for path in profile.source:
        yield f"source {quoted(path)}"
    for name, value in profile.variables.items():
        yield f"export {name}={quoted(value)}"


def _task(job: Job) -> Iterator[str]:
    """The share of a task, with its end before the time limit."""
    before_the_wall = ""
    if job.system != "slurm":  # which sends the signal itself
        before_the_wall = f"timeout --foreground --preserve-status --signal=USR1 {max(1, job.walltime - GRACE_SECONDS)} "
    run = (f"{before_the_wall}{_mcrace(job)} run {quoted(job.study)} -o {quoted(job.directory)} "
           f'--share "$share/{job.tasks}" --workers {job.cores}{_options(job)}')
    yield from _watched(run)
    yield from _again(job)


def _watched(run: str, *afterwards: str) -> list[str]:
    """A command that hears the signals which the batch system sends to the shell."""
    return ["",
            "# a signal before the time limit is passed on; what is under way is given up, what is published stays",
            "task=",
            "trap 'told=1; kill -USR1 $task' USR1",
            "trap 'told=1; kill -TERM $task' TERM",
            f"{run} &",
            "task=$!",
            'while told=; wait "$task"; code=$?; [ -n "$told" ]; do :; done',
            "trap '' USR1 TERM",
            *afterwards]


def _again(job: Job) -> list[str]:
    """Queue the task again if it made way for the time limit; it then computes what is missing."""
    if job.system == "lsf":  # which does so by itself, at this exit code
        return ['exit "$code"']
    if job.system == "slurm":
        count, lines = "${SLURM_RESTART_COUNT:-0}", [
            '    scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"']
    else:
        count, lines = "${MCRACE_RESTARTS:-0}", [
            f"    cd {quoted(job.folder)} || exit 1",
            '    again=$(qsub -v "MCRACE_SHARE=$share,MCRACE_RESTARTS=$((${MCRACE_RESTARTS:-0} + 1))" again.sh) &&',
            '        qsub -W "depend=afterany:$again" final.sh']
    return [f'if [ "$code" -eq {REQUEUE} ] && [ "{count}" -lt {REQUEUES} ]; then', *lines, "fi", 'exit "$code"']


# ------------------------------------------------------------------------------------------------- directives


def _header(job: Job, what: str, cores: int, walltime: int, tasks: int | None = None) -> list[str]:
    """The directives of a job on one node: an array of so many tasks, or a single one."""
    log = what if tasks is None else f"{what}-%a" if job.system == "slurm" else f"{what}-%I"
    if job.system == "slurm":
        array = [] if tasks is None else [f"--array=1-{tasks}"]
        return [*_opening(job, what), *array, "--nodes=1", "--ntasks=1", f"--cpus-per-task={cores}", f"--mem={job.memory}M",
                f"--time={clock(walltime)}", *_ending(job, log)]
    if job.system == "pbs":
        array = [] if tasks in (None, 1) else [f"-J 1-{tasks}"]  # which refuses an array of one
        return [*_opening(job, what), *array, f"-l select=1:ncpus={cores}:mem={job.memory}mb",
                f"-l walltime={clock(walltime)}", *_ending(job, log)]
    hours, minutes = divmod(-(-walltime // 60), 60)
    name = _name(job, what) + ("" if tasks is None else f"[1-{tasks}]")
    return [f'-J "{name}"', f"-n {cores}", '-R "span[hosts=1]"', f"-M {job.memory}MB", f"-W {hours}:{minutes:02}",
            *_ending(job, log)]


def _name(job: Job, what: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{what}-{job.name}")


def _opening(job: Job, what: str) -> list[str]:
    return [f"--job-name={_name(job, what)}"] if job.system == "slurm" else [f"-N {_name(job, what)[:15]}"]


def _ending(job: Job, log: str) -> list[str]:
    """Where the log goes, how a job is queued again, and what the profile adds."""
    if job.system == "slurm":
        own = [f"--output={log}.log", "--open-mode=append", "--requeue", f"--signal=B:USR1@{GRACE_SECONDS}"]
        named = {"--partition=": job.profile.partition, "--account=": job.profile.account, "--qos=": job.profile.qos}
    elif job.system == "pbs":
        own = ["-j oe", "-r y"]
        named = {"-q ": job.profile.partition, "-A ": job.profile.account}
    else:
        own = [f"-o {log}.log", "-r", f'-Q "{REQUEUE}"']
        named = {"-q ": job.profile.partition, "-P ": job.profile.account}
    return [*own, *(f"{option}{value}" for option, value in named.items() if value), *job.profile.directives]


def clock(seconds: int) -> str:
    """Hours, minutes and seconds.

    >>> clock(93_784)
    '26:03:04'
    """
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
