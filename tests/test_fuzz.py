"""Study files that nobody would write: each is accepted, or told in sentences, and nothing is written."""

from __future__ import annotations

import os
import random
import string
import time
from pathlib import Path

import pytest
import studies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcrace import plan
from mcrace.completion import complete
from mcrace.errors import StudyError
from mcrace.study import Study, load_study, parse_study

FILES = int(os.environ.get("MCRACE_FUZZED_FILES", "500"))
SHIPPED = [path.read_text() for path in sorted((Path(__file__).parents[1] / "jobs").glob("*.toml"))]
SEEDS = [*SHIPPED, studies.race(), studies.race(more='[sweep.grid]\n"training.steps" = [10, 20]\n'),
         studies.race(more='[sweep.random]\ndraws = 3\n"training.step_size" = { low = 0.1, high = 1.0, log = true }\n')]
VALUES = ["nan", "-inf", "1e999", "0", "-1", "9" * 400, "0.1" + "0" * 5000, "true", '""', '"../../x"', '"a\\u001b[31mb"', "[]",
          "{}", "[[[[[[]]]]]]", "1979-05-27", "07:32:00", "1e308", "9223372036854775808", "-0.0", '"main"', "[1, 2, 3]",
          "0x7fff_ffff", "{ low = 1, high = 1e308 }", '"\\u0000"', "18446744073709551616", "5e-324", '[["a"], 1, nan]',
          "{ a.b.c = 1 }"]
SECONDS = 20.0


def told(text: str) -> str:
    """What is said of a file: nothing if it is accepted; anything but a StudyError is let through."""
    began = time.perf_counter()
    try:
        study = complete(parse_study(text))
        if len(study.cells) < 100:
            _used(study)
        said = ""
    except StudyError as error:
        said = str(error)
        assert said and all(c.isprintable() or c == "\n" for c in said), said
        assert len(said) < 100_000
    assert time.perf_counter() - began < SECONDS, text[:2000]
    return said


def _used(study: Study) -> None:
    """What a run does of an accepted study before its first shard."""
    plan.check_memory(study, 2**62)
    for cell in study.cells:
        assert plan.shard_count(cell, [(cell.seeds.first, cell.seeds.first + cell.seeds.count)]) > 0
        assert plan.batch_size(cell.config) > 0
    assert parse_study(study.with_seeds(7).text).seeds.count == 7


def mutated(rng: random.Random) -> str:
    """A study file after a few changes: values, letters, lines, pieces of other files."""
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 4)):
        text = rng.choice([_other_value, _other_letters, _other_lines, _other_piece, _other_key, _nested])(rng, text)
    return text


def _other_value(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    places = [k for k, line in enumerate(lines) if "=" in line]
    if places:
        k = rng.choice(places)
        lines[k] = lines[k].partition("=")[0] + "= " + rng.choice(VALUES)
    return "\n".join(lines)


def _other_letters(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 8)):
        k = rng.randrange(len(text) + 1)
        text = text[:k] + rng.choice([*string.printable, "τ", "\x00", "\x1b", "\u202e", ""]) + text[k + rng.randint(0, 2) :]
    return text


def _other_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    k, n = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[k], lines[n] = lines[n], lines[k]
    return "\n".join(lines[:k] + lines[k + 1 :] if rng.random() < 0.3 else lines)


def _other_piece(rng: random.Random, text: str) -> str:
    other = rng.choice(SEEDS)
    a, b, k = rng.randrange(len(other)), rng.randrange(len(other)), rng.randrange(len(text) + 1)
    return text[:k] + other[min(a, b) : max(a, b)] + text[k:]


def _other_key(rng: random.Random, text: str) -> str:
    key = rng.choice(["x", '"a\\nb"', '"\\u001b"', "study.seeds.count", "task.samples", "training.until.loss_drop", '""',
                      "k" * 3000, '"network.init"', "init.scale", "data_entropy", "sweep.grid.steps", "cells.name"])
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines) + 1), f"{key} = {rng.choice(VALUES)}")
    return "\n".join(lines)


def _nested(rng: random.Random, text: str) -> str:
    depth = rng.choice([3, 30, 3000])
    opened, closed = rng.choice([("[", "]"), ("{ a = ", " }")])
    return text + rng.choice(["", "\n[record]\n", "\n[sweep.grid]\n"]) + f"deep = {opened * depth}1{closed * depth}\n"


@pytest.mark.faults
@pytest.mark.parametrize("text", [
    "study.seeds = " + "9" * 5000, "a" * 900_000, "[" * 900_000, "a." * 400_000 + "b = 1", "a = [" + "1," * 400_000 + "]",
    "\n".join(f"k{i} = 1" for i in range(90_000)), "\n".join(f"[k{i}]" for i in range(90_000)),
    studies.race(more="[[cells]]\n" * 90_000), studies.race(more="\n".join(f'[[cells]]\nname="c{i}"' for i in range(30_000))),
    studies.race(times="[" + ",".join(map(str, range(100_000))) + "]", more="[sweep.grid]\n\"task.samples\" = ["
                 + ",".join(map(str, range(2, 9000))) + "]"),
    studies.race(more="[sweep.random]\ndraws = 10000\n"
                 + "".join(f'"task.k{i}" = {{ low = 1, high = 2 }}\n' for i in range(9000))),
    studies.race(more="[sweep.grid]\n" + "\n".join(f'"task.k{i}" = [1, 2]' for i in range(20_000))),
    studies.race(observables="[" + ",".join('"nothing"' for _ in range(70_000)) + "]"),
    studies.race(observables="[" + ",".join(f'"n{i}"' for i in range(70_000)) + "]"),
    studies.race(more="[training.schedule]\n" + "\n".join(f"k{i} = 1" for i in range(60_000))),
    studies.race(more="[predictions.x]\n" + "\n".join(f"k{i} = 1" for i in range(60_000))),
    studies.race(more="\n".join(f"p{i} = {{}}" for i in range(60_000))),
], ids=lambda text: text.strip()[-20:])
def test_large_and_deep_files_are_refused_soon(text):
    assert len(text) < 1_000_000
    assert told(text)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("old", ["seeds = 40", "samples = 20", "step_size = 0.5", 'name = "small"', "margin = 0.1"])
def test_odd_values_are_told_or_taken(old, value):
    text = studies.race(more="").replace("racing = {", "racing = { margin = 0.1,")
    assert old in text
    told(text.replace(old, old.partition("=")[0] + "= " + value, 1))


def test_mutated_files(tmp_path, monkeypatch):
    """A few of them; the many are below."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1)
    said = [told(mutated(rng)) for _ in range(60)]
    assert 0 < sum(not s for s in said) < len(said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_many_mutated_files(tmp_path, monkeypatch):
    """MCRACE_FUZZED_FILES of them, 500 by default; some go through the files of the command line."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(2)
    accepted = 0
    for _ in range(FILES):
        accepted += not told(mutated(rng))
    assert 0 < accepted < FILES
    assert list(tmp_path.iterdir()) == []


LEAVES = st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=20)
TOML = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
                    max_leaves=12)
KEYS = st.sampled_from(["name", "seeds", "entropy", "kind", "samples", "dimension", "hidden", "init", "step_size", "steps",
                        "until", "times", "observables", "weights", "grid", "zip", "random", "draws", "racing", "control", "x"])
TABLES = st.sampled_from(["study", "task", "network", "training", "record", "sweep", "predictions", "cells", "other"])


def _written(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(k)} = {_written(v)}" for k, v in value.items()) + "}"
    return repr(value)


@pytest.mark.faults
@settings(max_examples=max(1, FILES // 2), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(TABLES, st.dictionaries(KEYS, TOML, max_size=4), max_size=5))
def test_invented_files(tables):
    """Tables of the right names with anything in them, laid over a study that is right."""
    base = {"study": {"name": "a", "seeds": 4, "entropy": 1}, "task": {"kind": "gaussian", "samples": 8, "dimension": 3},
            "network": {"hidden": [5]}, "training": {"step_size": 0.1, "steps": 20}}
    merged = {name: {**base.get(name, {}), **tables.get(name, {})} for name in base.keys() | tables.keys()}
    told("\n".join(f"[{name}]\n" + "\n".join(f"{key} = {_written(v)}" for key, v in table.items())
                   for name, table in merged.items()))


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00" * 100, b"[study]\nname = \"\xc3\x28\"", b"", b"\xef\xbb\xbf[study]"])
def test_bytes_that_are_no_study(tmp_path, data):
    path = tmp_path / "study.toml"
    path.write_bytes(data)
    with pytest.raises(StudyError, match=r"study\.toml: "):
        load_study(path)
