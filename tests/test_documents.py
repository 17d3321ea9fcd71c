"""The documents: each block of code runs, at a small size, and links lead somewhere; what is public is explained."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mcrace
from mcrace.completion import complete

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "analysis/README.md", "analysis/FORMAT.md", "jobs/README.md"]
SMALL = 31  # networks a cell: one more than a verdict needs
INSTALLS = re.compile(r"python -m pip install \S+( && |$)")
NOT_RUN = ("python -m pytest",)  # these tests themselves
PLUGIN = ROOT / "tests" / "plugin"


@dataclass(frozen=True)
class Block:
    """A block of code in a document."""

    document: str
    number: int
    language: str
    text: str


def blocks() -> list[Block]:
    """All fenced blocks of all documents."""
    found = []
    for name in DOCUMENTS:
        parts = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
        found += [Block(name, number, language, text) for number, (language, text) in enumerate(parts, 1)]
    return found


BLOCKS = blocks()


def of(language: str, *but: str) -> list:
    """The blocks of a language, but for those with some text, as parameters of a test."""
    return [pytest.param(b, id=f"{b.document}-{b.number}") for b in BLOCKS
            if b.language == language and not any(text in b.text for text in but)]


def contents(path: Path) -> str:
    """The text of a file of the example package."""
    return path.read_text().strip()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the studies and scripts, where the first command of the README has been run at a small size."""
    where = tmp_path_factory.mktemp("documents")
    for name in ("jobs", "analysis"):
        (where / name).symlink_to(ROOT / name)
    study = next(b.text for b in BLOCKS if b.document == "README.md" and b.language == "toml")
    (where / "my-race.toml").write_text(study.replace("seeds = 500", f"seeds = {SMALL}"))
    small(["mcrace", "run", "jobs/race-digits.toml"], where)
    return where


def small(words: list[str], where: Path) -> subprocess.CompletedProcess:
    """Run a command, a study with few networks and in one process."""
    if words[:2] == ["mcrace", "run"]:
        words = [*words, "--workers", "0", *([] if "--seeds" in words else ["--seeds", str(SMALL)])]
    program = sys.executable if words[0] == "python" else str(Path(sys.executable).with_name(words[0]))
    done = subprocess.run([program, *words[1:]], cwd=where, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    return done


# ------------------------------------------------------------------------------------------------- blocks


def test_there_are_blocks_in_known_languages():
    languages = {b.language for b in BLOCKS if "study file ─▶" not in b.text}
    assert languages == {"sh", "toml", "python", "text", "julia", "r"}
    assert len(BLOCKS) > 15


@pytest.mark.documents
@pytest.mark.parametrize("block", of("sh"))
def test_commands(block, workplace):
    for line in block.text.splitlines():
        line = INSTALLS.sub("", line)
        if line and line not in NOT_RUN:
            small(shlex.split(line, comments=True), workplace)
    assert (workplace / "results" / "race-digits" / "report.html").exists()


@pytest.mark.parametrize("block", of("toml"))
def test_tables(block):
    if "[project]" in block.text or "[project." in block.text:
        assert block.text.strip() in contents(PLUGIN / "pyproject.toml")
    elif "[study]" in block.text:
        assert complete(mcrace.parse_study(block.text)).cells
    else:
        study = (ROOT / "jobs/race-digits.toml").read_text()
        assert len(mcrace.parse_study(f"{study}\n{block.text}").cells) > 2


@pytest.mark.parametrize("block", of("python"))
def test_own_things_are_those_of_the_example(block):
    names = {"@mcrace.task(": "task", "@mcrace.observable(": "observable", "@mcrace.prediction(": "prediction"}
    for mark, name in names.items():
        if mark in block.text:
            assert block.text.strip() == contents(PLUGIN / "mcrace_sectors" / f"{name}.py"), "test_plugin runs it"
            return
    assert "@mcrace." not in block.text, "it is in the example, or it runs by itself"


@pytest.mark.documents
@pytest.mark.parametrize("block", of("python", "@mcrace.", "dask_jobqueue"))
def test_python(block, workplace):
    script = workplace / f"block-{block.number}.py"
    script.write_text(block.text.replace("seeds=100", f"seeds={SMALL}, workers=0"))
    small(["python", script.name], workplace)


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "analysis").glob("*.py")))
def test_scripts_read_as_short_papers(script):
    text = (ROOT / "analysis" / script).read_text()
    places = [text.index(f"**{part}.**") for part in ("Question", "Data", "Test", "Figure", "Conclusion")]
    assert text.startswith("# %% [markdown]") and places == sorted(places)
    assert f"]({script})" in (ROOT / "analysis" / "README.md").read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text()):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            found = (ROOT / name).parent / path if path else ROOT / name
            assert found.exists(), target
            assert not anchor or f"## {anchor}" in found.read_text(), target


def test_every_study_is_in_the_list_of_studies():
    text = (ROOT / "jobs" / "README.md").read_text()
    for path in (ROOT / "jobs").glob("*.toml"):
        assert f"[{path.name}]({path.name})" in text
        assert path.read_text().startswith("# "), "a study begins with its question"


# ------------------------------------------------------------------------------------------------- the reference


def public() -> list:
    """What the rooms that others build on make public, and the public methods of their classes."""
    found = {}
    for room in (mcrace, mcrace.tasks, mcrace.observe, mcrace.stages, mcrace.predictions, mcrace.statistics):
        for name in room.__all__:
            thing = getattr(room, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found[f"{room.__name__}.{name}"] = thing
            if inspect.isclass(thing):
                found |= {f"{room.__name__}.{name}.{m}": getattr(thing, m) for m, value in vars(thing).items()
                          if not m.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))}
    return [pytest.param(thing, id=name) for name, thing in found.items()]


@pytest.mark.parametrize("thing", public())
def test_what_is_public_is_explained(thing):
    assert len(inspect.getdoc(thing) or "") > 10


@pytest.mark.parametrize("name", [n for n in mcrace.__all__ if inspect.isfunction(getattr(mcrace, n))])
def test_every_parameter_of_a_public_function_is_explained(name):
    thing = getattr(mcrace, name)
    text = inspect.getdoc(thing)
    missing = [p for p in inspect.signature(thing).parameters if not re.search(rf"^(\w+, )*{p}(, \w+)* :", text, re.MULTILINE)]
    assert missing == [] or name in ("parse_study", "task", "prediction"), "these say it in their first line"
