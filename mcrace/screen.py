"""What the command line prints: progress, tables, verdicts."""

from __future__ import annotations

import time
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mcrace.directory import CellStatus
from mcrace.engine import Reporter
from mcrace.estimate import Estimate
from mcrace.predictions import Verdict
from mcrace.results import Results
from mcrace.study import Study
from mcrace.wording import duration as _duration
from mcrace.wording import interval as _interval
from mcrace.wording import number as _number
from mcrace.wording import p_value as _p
from mcrace.wording import size as _size
from mcrace.worker import Receipt

COLOURS = {"supported": "green", "refuted": "red", "not discriminating": "yellow", "inconclusive": "yellow"}
LOG_SECONDS = 10.0
LOG_WIDTH = 120
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=LOG_WIDTH)


def say(text: str) -> None:
    """Print a sentence as it is."""
    console.print(text, markup=False, soft_wrap=True)


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


def show_status(study: Study, cells: list[CellStatus]) -> None:
    """How far each cell is."""
    table = Table(title=study.name, title_justify="left")
    for name in ("cell", "role", "done", "missing"):
        table.add_column(name, justify="right" if name in ("done", "missing") else "left")
    for c in cells:
        table.add_row(c.cell.name, c.cell.role, f"{c.done:,}", f"{c.missing:,}")
    console.print(table)


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
    """Names with the first line of what each is."""
    for name in things:
        thing = things[name]
        text = thing.text if hasattr(thing, "text") else (thing.__doc__ or "").split("\n\n")[0]
        say(f"{name:18}  {' '.join(text.split())}")
