"""A task, an observable and a prediction from an installed package of its own, by entry points, in a process of its own."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns
from subprocess import CompletedProcess

import pytest
from studies import finish

import mcrace

PLUGIN = Path(__file__).with_name("plugin")
LINES = 20


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CompletedProcess]:
    """The package in a folder, as an installer leaves it, and the command with that folder on its path."""
    site = tmp_path_factory.mktemp("site")
    copytree(PLUGIN / "mcrace_sectors", site / "mcrace_sectors", ignore=ignore_patterns("__pycache__"))
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = ([f"[{group}]", *(f"{k} = {v}" for k, v in points.items())] for group, points in project["entry-points"].items())
    (info / "entry_points.txt").write_text("\n".join(line for group in groups for line in group) + "\n")
    path = os.pathsep.join([str(site), str(Path(mcrace.__file__).parents[1])])
    return lambda *arguments, cwd: finish(*arguments, cwd=cwd, env={"PYTHONPATH": path})


@pytest.fixture(scope="module")
def ran(installed, tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("sectors")
    answer = installed("run", PLUGIN / "sectors.toml", "-o", where / "run", "--workers", 1, "--json", cwd=where)
    assert answer.returncode == 0, answer.stderr
    (where / "verdicts.json").write_text(answer.stdout)
    return where


def test_a_run_uses_all_three(ran):
    (verdict,) = json.loads((ran / "verdicts.json").read_text())
    assert verdict["prediction"] == "concentration" and verdict["networks"] == 60
    cell = mcrace.open_results(ran / "run").cell("main")
    assert cell.config["task"] == cell.config["task"] | {"kind": "sectors", "sectors": 4}
    start, end = cell.at("top_share", "start"), cell.at("top_share", "level=0.1")
    assert verdict["estimate"] == pytest.approx((end - start).mean(), abs=1e-12)
    assert (start >= 0.1).all() and (end <= 1).all()


def test_the_report_has_its_figure_and_its_words(ran):
    page = (ran / "run" / "report.html").read_text()
    section = page[page.index('<section id="concentration"') :].partition("</section>")[0]
    assert section.count("<svg") == 1 and "could not be drawn" not in section
    assert "S(T) - S(0) ≥ 0.1" in section and "A tenth of the neurons comes to hold most of the norm." in section


def test_it_is_listed(installed, tmp_path):
    lines = installed("list", "predictions", cwd=tmp_path).stdout.splitlines()
    said = dict(line.split(maxsplit=1) for line in lines)
    assert said["concentration"] == "a tenth of the neurons comes to hold most of the norm" and len(said) >= 3


def test_without_the_package_its_study_is_refused(tmp_path):
    answer = finish("run", PLUGIN / "sectors.toml", cwd=tmp_path)
    assert answer.returncode == 2 and "unknown task 'sectors'" in answer.stderr


@pytest.mark.parametrize("name", ["task", "observable", "prediction"])
def test_each_is_short(name):
    assert len((PLUGIN / "mcrace_sectors" / f"{name}.py").read_text().splitlines()) <= LINES + 1
