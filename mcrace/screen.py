"""What the command line prints: progress, tables, verdicts."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from mcrace.compare import Finding
from mcrace.directory import Status, Work
from mcrace.engine import Reporter
from mcrace.estimate import Estimate, queue_jobs
from mcrace.launch.scripts import clock
from mcrace.predictions import Verdict
from mcrace.recording import GAVE_UP
from mcrace.repeat import Agreement, Verification
from mcrace.results import Results
from mcrace.store import Variable
from mcrace.submission import Size, Submission
from mcrace.wording import duration as _duration
from mcrace.wording import interval as _interval
from mcrace.wording import number as _number
from mcrace.wording import p_value as _p
from mcrace.wording import size as _size
from mcrace.worker import Receipt

COLOURS = {"supported": "green", "refuted": "red", "not discriminating": "yellow", "inconclusive": "yellow"}
LOG_SECONDS = 10.0
FAILURES_SHOWN = 10  # of each cell
LOG_WIDTH = 120
MOST_ROWS = 12  # cells in the live table
ALL = "all"
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=LOG_WIDTH)


def say(text: str) -> None:
    """Print a sentence as it is, but for what would steer a terminal."""
    plain = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    console.print(plain, markup=False, soft_wrap=True)


class ProgressReporter(Reporter):
    """A live table on a terminal, plain dated lines in a log."""

    def __init__(self) -> None:
        self.live: Progress | None = None
        self.rows: dict[str, TaskID] = {}
        self.missing: dict[str, int] = {}
        self.failed: Counter[str] = Counter()
        self.networks = self.total = 0
        self.began = self.said = 0.0

    @property
    def diverged(self) -> int:
        """Networks that diverged so far."""
        return sum(self.failed.values())

    def say(self, text: str) -> None:
        say(text if console.is_terminal else f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")

    def cells(self, missing: dict[str, int]) -> None:
        self.missing = {name: count for name, count in missing.items() if count}

    def begin(self, networks: int, shards: int) -> None:
        self.total, self.began = networks, time.monotonic()
        self.said = self.began
        self.say(f"{networks:,} networks in {shards:,} shard{'s' if shards > 1 else ''}")
        if console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                       TextColumn("{task.fields[failed]}", style="red"), TextColumn("{task.fields[pace]}"))
            self.live = Progress(*columns, console=console, transient=True)
            rows = self.missing if 1 < len(self.missing) <= MOST_ROWS else {}
            for name, count in {**rows, ALL: networks}.items():
                self.rows[name] = self.live.add_task(name, total=count, failed="", pace="")
            self.live.start()

    def done(self, receipt: Receipt) -> None:
        self.networks += receipt.networks
        self.failed[receipt.shard.cell] += receipt.statuses.get("diverged", 0)
        rate = self.networks / max(time.monotonic() - self.began, 1e-9)
        pace = f"{rate:.3g} a second, {_duration((self.total - self.networks) / rate)} left"
        if self.live:
            cell = receipt.shard.cell
            for name, failed in ((cell, self.failed[cell]), (ALL, self.diverged)):
                if name in self.rows:
                    self.live.update(self.rows[name], advance=receipt.networks, failed=_failed(failed),
                                     pace=pace if name == ALL else "")
        elif time.monotonic() - self.said > LOG_SECONDS:
            self.said = time.monotonic()
            self.say(f"{self.networks:,} of {self.total:,} networks, {pace}" + _failed(self.diverged, ", "))

    def end(self) -> None:
        if self.live:
            self.live.stop()
        self.say(f"{self.networks:,} networks in {_duration(time.monotonic() - self.began)}" + _failed(self.diverged, ", "))


def _failed(count: int, before: str = "") -> str:
    return f"{before}{count:,} diverged" if count else ""


def show_verdicts(verdicts: list[Verdict]) -> None:
    """The verdicts as a table, a block for each prediction and cell, with what casts doubt on them below."""
    if not verdicts:
        say("the study states no prediction, so there is no verdict")
        return
    table = Table(title="Verdicts", title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  caption="intervals: 95 %, bootstrap over networks; p: of the tests against the margin, adjusted; "
                          "first row of a block: the primary one")
    for name in ("statistic", "estimate", "margin", "p", "control", "verdict"):
        table.add_column(name, justify="right" if name == "p" else "left", overflow="fold")
    block = None
    for v in verdicts:
        if (v.prediction, v.cell) != block:
            block = v.prediction, v.cell
            table.add_section()
            table.add_row(f"[bold]{v.prediction}[/bold] on {v.cell}")
        control = "-"
        if v.control:
            control = f"{v.control.cell}: {_number(v.control.estimate)}, " + ("fails" if v.control.failed else "DOES NOT FAIL")
        colour = COLOURS.get(v.verdict, "default")
        table.add_row(f"  {v.statistic}", escape(f"{_number(v.estimate)} {_interval(v.low, v.high)}"), str(v.margin),
                      _p(v.p_adjusted), control, f"[{colour}]{v.verdict}[/]", style="bold" if v.primary else "")
    console.print(table)
    several = len({v.cell for v in verdicts}) > 1
    for v in verdicts:
        if v.note:
            say(f"  {v.prediction}" + (f" on {v.cell}" if several else "") + f", {v.statistic}: {v.note}")


def show_conclusions(verdicts: list[Verdict]) -> None:
    """What became of each prediction in each cell, as a sentence."""
    for v in verdicts:
        if v.primary:
            beside = f", {_number(v.control.estimate)} in {v.control.cell}" if v.control else ""
            say(f"{v.prediction} is {v.verdict} on {v.cell}: {v.statistic} {_number(v.estimate)}{beside}"
                + (f". {v.note}" if v.note else ""))


def show_cells(results: Results) -> None:
    """How the networks of each cell ended."""
    table = Table(title=f"{results.study.name}: networks", title_justify="left")
    gave_up = any(np.isin(cell["status"], GAVE_UP).any() for cell in results)
    columns = ("stopped", "took all steps", "diverged", "dead", *(["gave up"] if gave_up else []))
    for name in ("cell", "role", "networks", *columns, "median steps"):
        table.add_column(name, justify="left" if name in ("cell", "role") else "right")
    for cell in results:
        status, steps = cell["status"], cell["stop_step"]
        counts = [int(np.isin(status, codes).sum()) for codes in ([1], [0], [2], [3], *([GAVE_UP] if gave_up else []))]
        table.add_row(cell.name, cell.attributes["role"], f"{len(status):,}", *(f"{n:,}" for n in counts),
                      f"{np.median(steps):,.0f}")
    console.print(table)


def show_results(results: Results) -> None:
    """Where a file came from, and what is in it."""
    attributes = results.attributes
    for key in ("name", "identity", "written", "mcrace_version", "engine", "kernel", "versions", "cpu", "git_commit"):
        say(f"{key:>15}  {attributes.get(key, '')}")
    show_cells(results)
    for cell in results:
        say(f"{cell.name}, by the kernel {cell.attributes['kernel']}: {', '.join(cell.variables)}")


def show_shard(path: Path, variables: dict[str, Variable], attributes: dict[str, Any]) -> None:
    """What a shard says of itself, and what is in it; all of it has been compared with its digests."""
    for key in ("identity", "first", "stop", "seconds", "date", "mcrace_version", "engine", "kernel", "versions", "cpu"):
        say(f"{key:>15}  {attributes.get(key, '')}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("variable", "dimensions", "type", ""):
        table.add_column(name, overflow="fold")
    for name, v in variables.items():
        sizes = ", ".join(f"{dim} {size}" for dim, size in zip(v.dims, v.values.shape))
        kind = "text" if v.values.dtype.kind in "OU" else str(v.values.dtype)
        table.add_row(name, sizes, kind, escape(str((v.attributes or {}).get("description", ""))))
    console.print(table)
    say(f"{path}: a shard, and whole")


def show_missing(work: Work) -> None:
    """Say how many networks of which cells are not there, if any."""
    if work.networks:
        counts = [(name, sum(b - a for a, b in ranges)) for name, ranges in work.missing.items()]
        listed = [f"{count:,} of {name}" for name, count in counts if count]
        more = f" and {len(listed) - 10} more cells" if len(listed) > 10 else ""
        say(f"{work.networks:,} networks are missing: {', '.join(listed[:10])}{more}; run or submit the study again")


def show_scripts(submission: Submission) -> None:
    """The scripts of a submission as they would be written; their headings are comments."""
    job, size = submission.job, submission.size
    say(f"# {_summary(size)}\n# nothing is written or submitted; the scripts would go to {job.folder}")
    for name, text in submission.scripts.items():
        say(f"\n# ---------------------------------------------------------------------- {name}\n{text}")


def show_submission(submission: Submission, submitted: Iterable[tuple[str, str]]) -> None:
    """What was cut how, and the job's id of each script as it is handed in."""
    job, size = submission.job, submission.size
    say(f"{job.name}: {_summary(size)}")
    for name, number in submitted:
        after = "; starts after any outcome of the others, merges and tests" if name == "final.sh" else ""
        say(f"  {name}: job {number}{after}")
    say(f"scripts and logs in {job.folder}\nmcrace status {shlex.quote(job.directory)} says how far it is")


def _summary(size: Size) -> str:
    """How a study is cut into tasks, in a line."""
    tasks = f"{size.tasks:,} task" + ("s" if size.tasks > 1 else "")
    cores = f"{size.cores} core" + ("s" if size.cores > 1 else "")
    return (f"{size.networks:,} networks are missing, {size.shards:,} shards, at most {_duration(size.core_seconds)} of core "
            f"time; {tasks} of {cores}, {clock(size.walltime)} and {_size(size.memory * 1e6)} each")


def show_agreements(found: list[Agreement]) -> None:
    """Verdicts and estimates of a study beside those of its replication, then those that differ, and how many."""
    table = Table(title="Replication", title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  caption="in bold: the primary verdict of each prediction and cell")
    for name in ("statistic", "before", "now", "verdict before", "verdict now", "agree"):
        table.add_column(name, overflow="fold")
    block = None
    for a in found:
        if (a.here.prediction, a.here.cell) != block:
            block = a.here.prediction, a.here.cell
            table.add_section()
            table.add_row(f"[bold]{block[0]}[/bold] on {block[1]}")
        before, now = (escape(f"{_number(v.estimate)} {_interval(v.low, v.high)}") for v in (a.there, a.here))
        words = ["verdicts" if a.same_verdict else "REVERSED" if a.reversed else "VERDICTS DIFFER"]
        words += [] if a.overlap is None else ["intervals" if a.overlap else "INTERVALS ARE DISJOINT"]
        table.add_row(f"  {a.here.statistic}", before, now, a.there.verdict, a.here.verdict, ", ".join(words),
                      style="bold" if a.here.primary else "")
    console.print(table)
    for a in found:
        if not a.same_verdict:
            before, now = (f"{v.verdict} at {_number(v.estimate)} {_interval(v.low, v.high)}" for v in (a.there, a.here))
            say(f"  {a.here.prediction} on {a.here.cell}, {a.here.statistic}, margin {a.here.margin}: {before}, now {now}")
    same, known = sum(a.same_verdict for a in found), [a.overlap for a in found if a.overlap is not None]
    changed = sum(a.reversed for a in found)
    first = [a for a in found if a.here.primary]
    say(f"{same} of {len(found)} verdicts agree; {sum(known)} of {len(known)} intervals overlap "
        "(of the same number, all but 1 pair in 180 do)")
    say(f"{sum(a.same_verdict for a in first)} of the {len(first)} primary verdicts agree; {changed or 'none'} of all "
        "went from supported to refuted, or back")


def show_findings(found: list[Finding]) -> None:
    """Whether two results files are the same, and where they are not."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("cell", "", "same?"):
        table.add_column(name, overflow="fold")
    cell = None
    for f in found:
        said = f.text or "same"
        table.add_row("" if f.cell == cell else f.cell or "study", f.what, escape(f"{said}, {f.on}" if f.on else said))
        cell = f.cell
    console.print(table)
    say("the same" if not any(f.text for f in found) else "not the same")


def show_verification(found: Verification) -> None:
    """What was compared, and what is not as it should be."""
    for note in found.notes:
        say(f"note: {note}")
    for difference in found.differences:
        say(difference)
    what = f"{found.files:,} files and {found.networks:,} recomputed networks"
    say(f"{what}: " + (f"{len(found.differences)} differences" if found.differences else "the same, bit for bit"))


def show_status(status: Status, directory: Path) -> None:
    """How far each cell is, how long the rest will take, and what to do about what failed."""
    table = Table(title=status.study.name, title_justify="left")
    for name in ("cell", "role", "done", "missing", "failed", "damaged"):
        table.add_column(name, justify="left" if name in ("cell", "role") else "right")
    for c in status.cells:
        failed = sum(end - begin for begin, end in c.failed)
        damaged = f"{c.damaged} shards" if c.damaged > 1 else f"{c.damaged} shard" if c.damaged else "0"
        table.add_row(c.cell.name, c.cell.role, f"{c.done:,}", f"{c.missing:,}", f"{failed:,}", damaged)
    console.print(table)
    total = status.done + status.missing
    share = math.floor(1000 * status.done / total) / 10  # 100 % is all of them
    say(f"{status.done:,} of {total:,} networks, {share:g} %" + ("" if status.missing else ": all done"))
    if status.missing and status.rate:
        say(f"{status.rate:.3g} a second over {_duration(status.rate_seconds)}: "
            f"{_duration(status.seconds_left)} left, if it goes on so")
    if status.written:
        ago = time.time() - status.written
        say(f"last shard written {_duration(ago)} ago" if ago >= 0 else "last shard written in the future, by this clock")
    for c in status.cells:
        for (begin, end), why in list(c.failed.items())[:FAILURES_SHOWN]:
            say(f"failed: {c.cell.name} seeds {begin}-{end - 1}: {why.splitlines()[0] if why else ''}")
    if any(c.failed or c.damaged for c in status.cells):
        say(f"mcrace run {directory} tries what failed once more, and computes what was damaged anew")
    elif status.missing:
        say(f"mcrace run {directory} computes what is missing")
    if status.merged < status.done:
        say(f"results.h5 holds {status.merged:,} of these networks; mcrace merge {directory} writes it anew")


def plain_status(status: Status) -> list[dict[str, Any]]:
    """How far each cell is, as JSON can hold it; the rate is that of all cells together."""
    rate = status.rate or None
    return [{"cell": c.cell.name, "done": c.done, "missing": c.missing, "damaged_shards": c.damaged,
             "failed": [{"first": begin, "stop": end, "error": why} for (begin, end), why in c.failed.items()],
             "networks_a_second": rate, "seconds_left": c.missing / rate if rate else 0.0 if not c.missing else None}
            for c in status.cells]


def show_plan(estimates: list[Estimate], cores: int, hours: float) -> None:
    """What each cell would cost, and how many jobs of so many cores and hours that fills."""
    table = Table(title="If every network takes all its steps", title_justify="left")
    for name in ("cell", "role", "networks", "shards", "core time", "memory a worker", "disk at most"):
        table.add_column(name, justify="left" if name in ("cell", "role") else "right")
    for e in estimates:
        table.add_row(e.cell.name, e.cell.role, f"{e.cell.seeds.count:,}", f"{e.shards:,}", _duration(e.core_seconds),
                      _size(e.batch_bytes), _size(e.stored_bytes))
    total = sum(e.core_seconds for e in estimates)
    table.add_row("all", "", f"{sum(e.cell.seeds.count for e in estimates):,}", f"{sum(e.shards for e in estimates):,}",
                  _duration(total), "", _size(sum(e.stored_bytes for e in estimates)))
    console.print(table)
    jobs = queue_jobs(estimates, cores, hours)
    say(f"{total / 3600:,.3g} core hours; on a queue {jobs:,} job{'s' if jobs > 1 else ''} of {cores} cores and {hours:g} h")


def plain_estimate(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON can hold it."""
    return {"cell": estimate.cell.name, "role": estimate.cell.role, "networks": estimate.cell.seeds.count,
            "shards": estimate.shards, "core_seconds": estimate.core_seconds, "memory_bytes": estimate.batch_bytes,
            "disk_bytes": estimate.stored_bytes}


def show_list(things: Any) -> None:
    """Names with what each is, a line each; a terminal cuts what is too long."""
    names = list(things)
    if not names:
        say(f"there are no {things.sort}s yet")
    for name in names:
        thing = things[name]
        text = thing.text if hasattr(thing, "text") else (thing.__doc__ or "").split("\n\n")[0]
        line = f"{name:{max(map(len, names))}}  {' '.join(text.split())}"
        wide = console.is_terminal and len(line) > console.width
        say(line[: console.width - 1] + "…" if wide else line)
