"""The command line: thin.

Exit codes: 0 done, 1 a shard failed, 2 the user's mistake, 3 --strict, 85 told to make way (SIGUSR1), 130 interrupted;
after the last two the same command goes on from there.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mcrace import interrupt
from mcrace.errors import McraceError

app = typer.Typer(name="mcrace", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
                  rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
                  help="Monte Carlo studies of how neurons race in gradient descent.\n\n"
                       "Example: mcrace run jobs/race-digits.toml && mcrace report results/race-digits\n\n"
                       "mcrace --install-completion makes the shell complete commands and options.")

Plain = partial(typer.Option, show_default=False)
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (TOML).", show_default=False)]
Workers = Annotated[int | None, Plain(min=0, max=4096, help="Workers, one a core by default; 0: this process.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Results directory.", show_default=False)]
Somewhere = Annotated[Path, typer.Argument(metavar="DIR|FILE", help="Results directory or file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 where a network diverged, a prediction is refuted, "
                                                       "or a control did not fail.")]


def _version(asked: bool) -> None:
    if asked:
        from mcrace import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                   help="Print the version.")] = False) -> None:
    pass


@app.command()
def run(
    study: StudyFile,
    output: Annotated[Path | None, Plain("-o", "--output", help="Results directory (results/NAME by default).")] = None,
    workers: Workers = None,
    only: Annotated[str | None, Plain(metavar="CELL", help="Compute this cell alone.")] = None,
    seeds: Annotated[int | None, Plain(min=1, help="Seeds in each cell, instead of those in the file.")] = None,
    shard_size: Annotated[int | None, Plain(min=1, help="Networks in a shard; no number depends on it.")] = None,
    check: Annotated[bool, typer.Option("--check", help="First read every shard that is there, set damaged ones aside, and "
                                                        "compute them anew.")] = False,
    strict: Strict = False,
    share: Annotated[str | None, Plain(metavar="K/N", help="Task K of N of a job array: compute its shards, merge nothing.")]
    = None,
    scheduler: Annotated[str | None, Plain(metavar="ADDRESS", help="Use the Dask scheduler there.")] = None,
    scheduler_file: Annotated[Path | None, Plain(metavar="FILE", help="Use the Dask scheduler that wrote this file.")] = None,
    patience: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Give a Dask scheduler up that has no worker for "
                                                                           "so long.")] = 600.0,
    versions: Annotated[str, typer.Option(hidden=True)] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but mistakes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a study, or go on where it stopped; ends with the verdicts.

    What failed before is tried again.  STUDY may be a results directory, whose own study then goes on.

    Example: mcrace run jobs/race-digits.toml --workers 2
    """
    from contextlib import ExitStack

    from mcrace import engine, launch, screen
    from mcrace.errors import StudyError
    from mcrace.plan import Share
    from mcrace.predictions import test as judge
    from mcrace.study import load_study

    if sum(x is not None for x in (scheduler, scheduler_file, workers)) > 1:
        raise StudyError("only one of --workers, --scheduler and --scheduler-file says who computes")
    if share is not None and only is not None:
        raise StudyError("--share divides the whole plan, so it goes without --only")
    task = Share.parse(share) if share is not None else None
    loaded = study if study.is_dir() else load_study(study)  # before a scheduler is asked
    reporter = engine.Reporter() if quiet or as_json else screen.ProgressReporter()
    with ExitStack() as stack:
        elsewhere = scheduler is not None or scheduler_file is not None
        client = stack.enter_context(launch.connected(scheduler, scheduler_file)) if elsewhere else None
        if task is not None:
            engine.run_share(loaded, output, task, workers=workers, seeds=seeds, shard_size=shard_size, planned=versions,
                             reporter=reporter, client=client, patience=patience)
            return
        results = engine.run(loaded, output, workers=workers, client=client, only=only, seeds=seeds, shard_size=shard_size,
                             check=check, reporter=reporter, patience=patience)
    verdicts = judge(results)
    if as_json:
        print(json.dumps([v.plain() for v in verdicts], indent=1, ensure_ascii=False))
    elif not quiet:
        screen.show_cells(results)
        screen.show_verdicts(verdicts)
        screen.say(f"results in {results.path}")
    _write_report(results, verdicts, quiet or as_json)
    _finish(results, verdicts, strict)


@app.command()
def submit(
    study: StudyFile,
    to: Annotated[str, Plain(metavar="slurm|pbs|lsf", help="The batch system.")],
    output: Annotated[Path | None, Plain("-o", "--output", help="Results directory (results/NAME by default).")] = None,
    tasks: Annotated[int | None, Plain(min=1, max=100_000, help="Tasks of the array; from the estimate by default.")] = None,
    walltime: Annotated[str | None, Plain(metavar="HH:MM:SS", help="Time limit of a task; from the estimate by default.")]
    = None,
    memory: Annotated[str | None, Plain(metavar="16G", help="Memory of a task; from the estimate by default.")] = None,
    cpus: Annotated[int | None, Plain(min=1, max=4096, help="Cores of a task; by default the profile's or those here.")] = None,
    profile: Annotated[Path | None, Plain(metavar="FILE", help="The site's profile (TOML).")] = None,
    shard_size: Annotated[int | None, Plain(min=1, help="Networks in a shard; no number depends on it.")] = None,
    dask: Annotated[bool, typer.Option("--dask", help="One allocation with a Dask cluster, instead of an array.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts; write and submit nothing.")] = False,
) -> None:
    """Submit a study to a batch system, or what is missing of a results directory.

    Example: mcrace submit jobs/race-digits.toml --to slurm --dry-run
    """
    from mcrace import screen, submission
    from mcrace.errors import StudyError, nearest
    from mcrace.launch import scripts
    from mcrace.launch.profile import load_profile
    from mcrace.study import load_study

    if to not in scripts.SYSTEMS:
        raise StudyError(f"--to {to!r}: {nearest(to, scripts.SYSTEMS)}")
    time_limit = submission.seconds_of(walltime) if walltime is not None else None
    megabytes = submission.megabytes_of(memory) if memory is not None else None
    if study.is_dir():
        output, study = output or study, study / "study.toml"
    found, work = submission.planned(load_study(study), output, to, profile=load_profile(profile), tasks=tasks, cores=cpus,
                                     walltime=time_limit, memory=megabytes, shard_size=shard_size, dask=dask)
    if dry_run:
        screen.show_scripts(found)
    else:
        screen.show_submission(found, submission.submit(found, work, screen.ProgressReporter()))


@app.command()
def plan(
    study: StudyFile,
    seeds: Annotated[int | None, Plain(min=1, help="Seeds in each cell, instead of those in the file.")] = None,
    cores: Annotated[int, typer.Option(min=1, max=100_000, help="Cores of a queue's job.")] = 16,
    hours: Annotated[float, typer.Option(min=0.01, max=10_000, help="Hours of a queue's job.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Say what a study will cost, without running it: a few networks of each sort are timed, for a second or so.

    Example: mcrace plan jobs/race-digits.toml --seeds 100000000
    """
    from mcrace import screen
    from mcrace.completion import complete
    from mcrace.estimate import estimate
    from mcrace.study import load_study

    loaded = load_study(study)
    estimates = estimate(complete(loaded if seeds is None else loaded.with_seeds(seeds)))
    if as_json:
        print(json.dumps([screen.plain_estimate(e) for e in estimates], indent=1))
    else:
        screen.show_plan(estimates, cores, hours)


@app.command()
def status(directory: Directory, as_json: AsJson = False) -> None:
    """Say how far a run is: done, missing, failed, rate, time left; works while others write.

    Example: mcrace status results/race-digits
    """
    from mcrace import directory as directories
    from mcrace import screen

    found = directories.status(directory)
    if as_json:
        print(json.dumps(screen.plain_status(found), indent=1))
    else:
        screen.show_status(found, directory)


@app.command()
def test(where: Somewhere, as_json: AsJson = False, strict: Strict = False) -> None:
    """Judge the predictions of a study on its results.

    Example: mcrace test results/race-digits --json
    """
    from mcrace import screen
    from mcrace.predictions import test as judge
    from mcrace.results import open_results

    results = open_results(where)
    verdicts = judge(results)
    if as_json:
        print(json.dumps([v.plain() for v in verdicts], indent=1, ensure_ascii=False))
    else:
        screen.show_verdicts(verdicts)
    _finish(results, verdicts, strict)


@app.command()
def report(
    where: Somewhere,
    output: Annotated[Path | None, Plain("-o", "--output", metavar="FILE", help="The page (report.html beside results.h5 by "
                                                                              "default).")] = None,
) -> None:
    """Write the results as one HTML page: question, verdicts, figures, cells, and where they come from.

    Example: mcrace report results/race-digits
    """
    from mcrace import screen
    from mcrace.report import write_report
    from mcrace.results import open_results

    screen.say(f"report in {write_report(open_results(where), output)}")


@app.command()
def show(
    file: Somewhere,
    check: Annotated[bool, typer.Option("--check", help="Compare all bytes with the seal first, in large files too.")] = False,
) -> None:
    """Say what is in a results file, or in a shard: study, cells, statuses, variables, where it came from.

    Example: mcrace show results/race-digits/results.h5
    """
    from mcrace import screen, store
    from mcrace.results import open_results

    if store.is_shard(file):
        screen.show_shard(file, *store.read_shard(file))
    else:
        screen.show_results(open_results(file, check=check or None))


@app.command()
def diff(
    one: Annotated[Path, typer.Argument(metavar="A", help="Results file or directory.", show_default=False)],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)],
) -> None:
    """Say whether two results hold the same studies, seeds and values, and where not; exits with 1 if not.

    Example: mcrace diff results/one results/other
    """
    from mcrace import compare, screen

    found = compare.diff(one, other)
    screen.show_findings(found)
    raise typer.Exit(int(any(f.text for f in found)))


@app.command()
def extend(
    directory: Directory,
    more: Annotated[int, Plain(min=1, max=10**9, help="Seeds to add to each cell, after the last.")],
    workers: Workers = None,
) -> None:
    """Add seeds to each cell of a study, and recompute nothing; ends with the verdicts.

    Example: mcrace extend results/race-digits --more 1000
    """
    from mcrace import repeat, screen
    from mcrace.predictions import test as judge

    results = repeat.extend(directory, more, workers=workers, reporter=screen.ProgressReporter())
    screen.show_cells(results)
    screen.show_verdicts(judge(results))
    screen.say(f"results in {results.path}")


@app.command()
def replicate(
    directory: Directory,
    entropy: Annotated[int, Plain(help="Root of the new random streams: another number than the study's.")],
    output: Annotated[Path, Plain("-o", "--output", metavar="DIR2", help="Results directory of the replication.")],
    same_data: Annotated[bool, typer.Option("--same-data", help="Keep the samples; draw starts and minibatches anew.")] = False,
    workers: Workers = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where a verdict differs.")] = False,
) -> None:
    """Run the study of a directory from new random numbers, and say whether verdicts and estimates agree.

    Example: mcrace replicate results/race-digits --entropy 7 -o results/race-digits-7
    """
    from mcrace import repeat, screen

    results, found = repeat.replicate(directory, entropy, output, same_data=same_data, workers=workers,
                                      reporter=screen.ProgressReporter())
    screen.show_agreements(found)
    screen.say(f"results in {results.path}")
    if strict and not all(a.same_verdict for a in found):
        raise typer.Exit(3)


@app.command()
def verify(
    directory: Directory,
    networks: Annotated[int, typer.Option(min=0, max=10**6, help="Networks to recompute.")] = 20,
    draw: Annotated[int, typer.Option(min=0, help="Another number: another random sample.")] = 0,
) -> None:
    """Read every file, recompute a random sample of networks, and compare bit for bit; exits with 1 where bits differ.

    Example: mcrace verify results/race-digits --networks 100
    """
    from mcrace import repeat, screen

    found = repeat.verify(directory, networks, draw)
    screen.show_verification(found)
    raise typer.Exit(int(bool(found.differences)))


@app.command()
def export(
    directory: Directory,
    cell: Annotated[str, Plain(help="Its cell.")],
    seed: Annotated[int, Plain(min=0, help="Its seed.")],
    output: Annotated[Path, Plain("-o", "--output", metavar="FILE.npz", help="Where it goes; numpy.load reads it.")],
) -> None:
    """Write one network's weights, samples and labels; trained again, to the same bits, where weights were not stored.

    Example: mcrace export results/race-digits --cell main --seed 17 -o network.npz
    """
    from mcrace import repeat, screen, store

    found = repeat.network(directory, cell, seed)
    store.publish_arrays(output, found)
    screen.say(f"{output}: " + ", ".join(f"{name} {list(a.shape)}" if a.ndim else name for name, a in found.items()))


@app.command()
def merge(
    directory: Directory,
    complete: Annotated[bool, typer.Option("--complete", help="Exit with 1 where something is missing.")] = False,
) -> None:
    """Write results.h5 from the shards that are there, also while a run writes more.

    Example: mcrace merge results/race-digits
    """
    from mcrace import directory as directories
    from mcrace import merging, screen

    work = directories.survey(directories.study_of(directory), directory)
    results = merging.merge(work)
    screen.say(f"results in {results.path}")
    screen.show_missing(work)
    if complete and work.networks:
        raise typer.Exit(1)


@app.command("list")
def list_things(
    sort: Annotated[str, typer.Argument(metavar="SORT", show_default=False, help="tasks, observables, stages or predictions.")],
) -> None:
    """List tasks, observables, stages or predictions, a line each.

    Example: mcrace list predictions
    """
    from mcrace import screen
    from mcrace.errors import StudyError, nearest
    from mcrace.observe import OBSERVABLES
    from mcrace.predictions import PREDICTIONS
    from mcrace.stages import STAGES
    from mcrace.tasks import TASKS

    registries: dict[str, Any] = {"tasks": TASKS, "observables": OBSERVABLES, "stages": STAGES, "predictions": PREDICTIONS}
    if sort not in registries:
        raise StudyError(f"{sort!r} cannot be listed: {nearest(sort, registries)}")
    screen.show_list(registries[sort])


@app.command()
def bench(
    shape: Annotated[list[str] | None, Plain(help="Shape A to G, P, f, BN or CN; may be repeated (all by default).")] = None,
    dtype: Annotated[list[str] | None, Plain(help="float32 or float64 (both by default).")] = None,
    whole: Annotated[bool, Plain("--whole", help="Time a study from end to end, with one worker and with two.")] = False,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds; their median counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Time the kernels against NumPy, PyTorch and JAX, where they are installed; one thread each, minutes.

    Example: mcrace bench --shape B --dtype float32
    """
    from mcrace import bench as benchmark
    from mcrace import screen
    from mcrace.errors import StudyError

    if whole and (shape or dtype):
        raise StudyError("--whole: goes without --shape and --dtype")
    if whole:
        rows, table = benchmark.measure_whole(rounds), benchmark.whole_table
    else:
        rows, table = benchmark.measure(shape, tuple(dtype or ("float32", "float64")), rounds), benchmark.table
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        screen.console.print(table(rows))


def _write_report(results: Any, verdicts: list[Any], quiet: bool) -> None:
    """The page at the end of a run; where it cannot be written, the results are none the worse."""
    from mcrace import screen
    from mcrace.report import write_report

    try:
        said = f"report in {write_report(results, verdicts=verdicts)}"
    except McraceError as error:
        said = f"there is no report: {error}"
    if not quiet:
        screen.say(said)


def _finish(results: Any, verdicts: list[Any], strict: bool) -> None:
    """Exit with 3 if that is asked for and something is not as the predictions say."""
    if not strict:
        return
    diverged = any(int((cell["status"] == 2).sum()) for cell in results)
    wrong = any(v.verdict == "refuted" or (v.control and not v.control.failed) for v in verdicts)
    if diverged or wrong:
        raise typer.Exit(3)


def main() -> None:
    """The console script: errors of ours are one sentence, an interrupt is one line."""
    interrupt.watch()
    try:
        app(prog_name="mcrace")
    except McraceError as error:
        print(f"mcrace: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except interrupt.Interrupted as asked:
        print(f"\nmcrace: {asked}; run the same command again to go on from here", file=sys.stderr)
        sys.exit(asked.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
