"""What the command line prints: progress, tables, verdicts."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from mcrace.directory import CellStatus, Work
from mcrace.engine import Reporter
from mcrace.estimate import Estimate
from mcrace.launch.scripts import clock
from mcrace.predictions import Verdict
from mcrace.results import Results
from mcrace.study import Study
from mcrace.submission import Size, Submission
from mcrace.wording import duration as _duration
from mcrace.wording import interval as _interval
from mcrace.wording import number as _number
from mcrace.wording import p_value as _p
from mcrace.wording import size as _size
from mcrace.worker import Receipt

COLOURS = {"supported": "green", "refuted": "red", "not discriminating": "yellow", "inconclusive": "yellow"}
LOG_SECONDS = 10.0
LOG_WIDTH = 120
MOST_ROWS = 12  # cells in the live table
ALL = "all"
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=LOG_WIDTH)


def say(text: str) -> None:
    """Print a sentence as it is."""
    console.print(text, markup=False, soft_wrap=True)


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
    for v in verdicts:
        if v.note:
            say(f"  {v.prediction}, {v.statistic}: {v.note}")


def show_cells(results: Results) -> None:
    """How the networks of each cell ended."""
    table = Table(title=f"{results.study.name}: networks", title_justify="left")
    for name in ("cell", "role", "networks", "stopped", "took all steps", "diverged", "dead", "median steps"):
        table.add_column(name, justify="left" if name in ("cell", "role") else "right")
    for cell in results:
        status, steps = cell["status"], cell["stop_step"]
        counts = [int((status == code).sum()) for code in (1, 0, 2, 3)]
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


def show_status(study: Study, cells: list[CellStatus]) -> None:
    """How far each cell is."""
    table = Table(title=study.name, title_justify="left")
    for name in ("cell", "role", "done", "missing"):
        table.add_column(name, justify="right" if name in ("done", "missing") else "left")
    for c in cells:
        table.add_row(c.cell.name, c.cell.role, f"{c.done:,}", f"{c.missing:,}")
    console.print(table)


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


def show_plan(estimates: list[Estimate]) -> None:
    """What each cell would cost."""
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
