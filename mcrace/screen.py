"""What the command line prints: progress, tables, verdicts."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mcrace.compare import Finding
from mcrace.directory import Status
from mcrace.engine import Reporter
from mcrace.estimate import Estimate, queue_jobs
from mcrace.predictions import Verdict
from mcrace.repeat import Agreement, Verification
from mcrace.results import Results
from mcrace.store import Variable
from mcrace.worker import Receipt

COLOURS = {"supported": "green", "refuted": "red", "not discriminating": "yellow", "inconclusive": "yellow"}
LOG_SECONDS = 10.0
FAILURES_SHOWN = 10  # of each cell
LOG_WIDTH = 120
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=LOG_WIDTH)


def say(text: str) -> None:
    """Print a sentence as it is, but for what would steer a terminal."""
    plain = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    console.print(plain, markup=False, soft_wrap=True)


class ProgressReporter(Reporter):
    """A live line on a terminal, plain dated lines in a log."""

    def __init__(self) -> None:
        self.live: Progress | None = None
        self.task = TaskID(0)
        self.networks = self.total = self.diverged = 0
        self.began = self.said = 0.0

    def say(self, text: str) -> None:
        say(text)

    def begin(self, networks: int, shards: int) -> None:
        self.total, self.began = networks, time.monotonic()
        self.said = self.began
        say(f"{networks:,} networks in {shards:,} shards")
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("networks"), TextColumn("{task.fields[rate]}"),
                       TimeRemainingColumn(), TextColumn("left {task.fields[failed]}"))
            self.live = Progress(*columns, console=console, transient=True)
            self.task = self.live.add_task("", total=networks, rate="", failed="")
            self.live.start()

    def done(self, receipt: Receipt) -> None:
        self.networks += receipt.networks
        self.diverged += receipt.statuses.get("diverged", 0)
        seconds = time.monotonic() - self.began
        rate = self.networks / max(seconds, 1e-9)
        failed = f"{self.diverged} diverged" if self.diverged else ""
        if self.live:
            self.live.update(self.task, completed=self.networks, rate=f"{rate:.0f} a second", failed=failed)
        elif time.monotonic() - self.said > LOG_SECONDS:
            self.said = time.monotonic()
            left = (self.total - self.networks) / rate
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            say(f"{stamp}  {self.networks:,} of {self.total:,} networks, {rate:.0f} a second, {_duration(left)} left"
                + (f", {failed}" if failed else ""))

    def end(self) -> None:
        if self.live:
            self.live.stop()
        seconds = time.monotonic() - self.began
        say(f"{self.networks:,} networks in {_duration(seconds)}" + (f", {self.diverged} diverged" if self.diverged else ""))


def show_verdicts(verdicts: list[Verdict]) -> None:
    """The verdicts as a table, a block for each prediction and cell, with what casts doubt on them below."""
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
                      f"{sorted(steps)[len(steps) // 2]:,}")
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


def show_agreements(found: list[Agreement]) -> None:
    """Verdicts and estimates of a study beside those of its replication."""
    table = Table(title="Replication", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("statistic", "before", "now", "verdict before", "verdict now", "agree"):
        table.add_column(name, overflow="fold")
    block = None
    for a in found:
        if (a.here.prediction, a.here.cell) != block:
            block = a.here.prediction, a.here.cell
            table.add_section()
            table.add_row(f"[bold]{block[0]}[/bold] on {block[1]}")
        before, now = (escape(f"{_number(v.estimate)} {_interval(v.low, v.high)}") for v in (a.there, a.here))
        words = ["verdicts" if a.same_verdict else "VERDICTS DIFFER"]
        words += [] if a.overlap is None else ["intervals" if a.overlap else "INTERVALS ARE DISJOINT"]
        table.add_row(f"  {a.here.statistic}", before, now, a.there.verdict, a.here.verdict, ", ".join(words))
    console.print(table)
    same, known = sum(a.same_verdict for a in found), [a.overlap for a in found if a.overlap is not None]
    say(f"{same} of {len(found)} verdicts agree; {sum(known)} of {len(known)} intervals overlap")


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
    """Names with the first line of what each is."""
    for name in things:
        thing = things[name]
        text = thing.text if hasattr(thing, "text") else (thing.__doc__ or "").split("\n\n")[0]
        say(f"{name:18}  {' '.join(text.split())}")


def _number(x: float) -> str:
    return "-" if not math.isfinite(x) else f"{x:.3g}" if abs(x) < 0.1 else f"{x:.3f}"


def _interval(low: float, high: float) -> str:
    return "" if not math.isfinite(low) else f"[{_number(low)}, {_number(high)}]"


def _p(p: float) -> str:
    return "-" if not math.isfinite(p) else "<1e-4" if p < 1e-4 else f"{p:.2g}"


def _duration(seconds: float) -> str:
    """A time as a person says it.

    >>> _duration(42.3), _duration(150), _duration(9000)
    ('42 s', '2 min 30 s', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    """Bytes as a person says them.

    >>> _size(3_500_000)
    '3.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""
