"""What a run says while it goes on: a live table on a terminal, plain dated lines in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from mcrace import screen
from mcrace.plan import Shard
from mcrace.worker import Receipt

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "


@pytest.fixture
def said(monkeypatch):
    """A reporter on a terminal, or in a log, and what it has written."""

    def make(terminal: bool, width: int = 90) -> tuple[screen.ProgressReporter, io.StringIO]:
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=width, color_system=None, highlight=False)
        monkeypatch.setattr(screen, "console", console)
        monkeypatch.setattr(screen, "LOG_SECONDS", 0.0)
        return screen.ProgressReporter(), file

    return make


def receipt(cell: str, networks: int, diverged: int = 0) -> Receipt:
    """A shard of a cell is on the disk."""
    shard = Shard(cell, "", {}, 1, 0, networks, 16, "")
    return Receipt(shard, 1.0, 0.9, {"stopped": networks - diverged, "diverged": diverged})


def lines_of(reporter: screen.ProgressReporter) -> list[str]:
    """The live table as it stands."""
    file = io.StringIO()
    Console(file=file, width=110, color_system=None).print(reporter.live.get_renderable())
    return [re.sub(r"[━╸╺ ]+", " ", line).strip() for line in file.getvalue().splitlines()]


def test_live_table(said):
    reporter, file = said(True)
    reporter.cells({"main": 40, "lazy": 20, "there already": 0})
    reporter.begin(60, 4)
    reporter.done(receipt("main", 20, diverged=3))
    reporter.done(receipt("lazy", 10))
    main, lazy, total = lines_of(reporter)
    assert main.startswith("main 20/40 3 diverged") and lazy == "lazy 10/20"
    assert re.fullmatch(r"all 30/60 3 diverged [\d.e+]+ a second, \d+ s left", total)
    reporter.end()
    assert "60 networks in 4 shards" in file.getvalue()
    assert re.search(r"30 networks in \d+ s, 3 diverged", file.getvalue())


def test_a_long_sweep_is_told_in_one_line(said):
    reporter, _ = said(True)
    reporter.cells({f"cell-{k}": 10 for k in range(40)})
    reporter.begin(400, 40)
    reporter.done(receipt("cell-3", 10, diverged=1))
    (total,) = lines_of(reporter)
    assert total.startswith("all 10/400 1 diverged")
    reporter.end()


def test_names_of_cells_are_no_markup(said):
    reporter, _ = said(True)
    reporter.cells({"[red]x[/red]": 10, "y": 10})
    reporter.begin(20, 2)
    assert lines_of(reporter)[0].startswith("[red]x[/red] 0/10")
    reporter.end()


def test_a_log_has_plain_dated_lines(said):
    reporter, file = said(False)
    reporter.begin(60, 1)
    reporter.done(receipt("main", 30))
    reporter.done(receipt("main", 30, diverged=2))
    reporter.end()
    first, second, third, last = file.getvalue().splitlines()
    assert re.fullmatch(STAMP + "60 networks in 1 shard", first)
    assert re.fullmatch(STAMP + r"30 of 60 networks, [\d.e+]+ a second, \d+ s left", second)
    assert re.fullmatch(STAMP + r"60 of 60 networks, [\d.e+]+ a second, 0 s left, 2 diverged", third)
    assert re.fullmatch(STAMP + r"60 networks in \d+ s, 2 diverged", last)
    assert "\x1b" not in file.getvalue()


def test_a_log_does_not_have_a_line_for_every_shard(said, monkeypatch):
    reporter, file = said(False)
    monkeypatch.setattr(screen, "LOG_SECONDS", 60.0)
    reporter.begin(60, 2)
    reporter.done(receipt("main", 30))
    reporter.done(receipt("main", 30))
    reporter.end()
    assert len(file.getvalue().splitlines()) == 2


@pytest.mark.parametrize("sort", ["tasks", "observables", "predictions", "stages"])
def test_lists_have_a_line_each_that_fits_a_terminal(said, monkeypatch, command, sort):
    _, file = said(True, width=60)
    assert command("list", sort).code == 0
    assert all(len(line) <= 60 for line in file.getvalue().splitlines()) and file.getvalue()
