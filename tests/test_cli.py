"""The command line: what it prints, what it exits with, and that a mistake is a sentence and changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import psutil
import pytest
import studies
from studies import finish, running, shards_of, tree, wait_until

import mcrace
from mcrace import interrupt, store
from mcrace.predictions.base import Control, Verdict

COMMANDS = ("run", "submit", "plan", "status", "test", "report", "show", "merge", "list", "diff", "extend", "replicate",
            "verify", "export", "bench")
KEYS = {"prediction", "cell", "statistic", "estimate", "low", "high", "p", "margin", "control", "verdict"}
DIGITS = studies.race(4).replace('kind = "gaussian"', 'kind = "digits"\nclasses = [3, 8]').replace("dimension = 5\n", "")


@pytest.fixture
def copy(reference: mcrace.Results, tmp_path: Path) -> Path:
    """A results directory of the small study of one's own."""
    return Path(shutil.copytree(reference.path.parent, tmp_path / "copy"))


@pytest.fixture
def refused(command, tmp_path, monkeypatch) -> Callable[..., str]:
    """A command that has to be refused, with nothing changed on disk; returns what it says."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> str:
        before = tree(tmp_path)
        answer = command(*arguments)
        assert answer.code == 2, answer
        assert answer.out == ""
        assert answer.err.startswith("mcrace: ")
        assert "Traceback" not in answer.err
        assert tree(tmp_path) == before
        return answer.err.removeprefix("mcrace: ").rstrip("\n")

    return call


# ------------------------------------------------------------------------------------------------- studies with mistakes


@pytest.mark.parametrize(("old", "new", "words"), [
    ('name = "small"', 'name = "small', ["not valid TOML", "line 3"]),
    ("seeds = 40", "seeds = [", ["not valid TOML"]),
    ("seeds = 40", 'seeds = "many"', ["study.seeds"]),
    ("seeds = 40", "seeds = 0", ["study.seeds.count", "greater than or equal to 1", "not 0"]),
    ("seeds = 40", "seeds = -3", ["study.seeds.count", "-3"]),
    ("seeds = 40", "seeds = true", ["study.seeds"]),
    ("entropy = 11", "entropy = -1", ["study.entropy"]),
    ("entropy = 11", "", ["study.entropy", "missing"]),
    ("samples = 20", "samples = 0", ["task.samples", "greater than or equal to 1"]),
    ("samples = 20", "samples = -5", ["task.samples", "-5"]),
    ("samples = 20", 'samples = "twenty"', ["task.samples", "'twenty'"]),
    ("dimension = 5", "dimension = 0", ["task.dimension"]),
    ("hidden = [8]", "hidden = [0]", ["network.hidden", "between 1 and"]),
    ("hidden = [8]", "hidden = [-8]", ["network.hidden", "between 1 and"]),
    ("hidden = [8]", "hidden = 8", ["network.hidden"]),
    ("hidden = [8]", "hidden = []", ["network.hidden"]),
    ("step_size = 0.5", "step_size = 0", ["training.step_size", "greater than 0"]),
    ("step_size = 0.5", "step_size = nan", ["training.step_size"]),
    ("steps = 300", "steps = 0", ["training.steps"]),
    ("steps = 300", "stepps = 300", ["training.stepps: unknown key", "did you mean 'steps'", "training.steps: is missing"]),
    ("loss_drop = 0.9", "loss_drop = 1.5", ["training.until.loss_drop"]),
    ("loss_drop = 0.9", "los_drop = 0.9", ["training.until.los_drop: unknown key", "did you mean 'loss_drop'"]),
    ('dtype = "float32"', 'dtype = "float16"', ["training.dtype", "float16"]),
    ("[record]", "[records]", ["records: unknown table", "did you mean 'record'"]),
    ('kind = "gaussian"', 'kind = "gausian"', ["unknown task 'gausian'", "did you mean 'gaussian'"]),
    ('observables = ["loss", "accuracy"]', 'observables = ["los"]', ["unknown observable 'los'", "did you mean 'loss'"]),
    ('observables = ["loss", "accuracy"]', 'observables = ["loss@end"]', ["'loss@end'", "final"]),
    ("racing = {", "raicng = {", ["predictions.raicng", "unknown prediction", "did you mean 'racing'"]),
    ('racing = { control = "lazy" }', "racing = { margn = 0.1 }", ["predictions.racing.margn", "did you mean 'margin'"]),
    ('racing = { control = "lazy" }', "racing = { margin = 7 }", ["predictions.racing.margin"]),
    ('racing = { control = "lazy" }', "racing = 1", ["predictions.racing", "table"]),
    ('racing = { control = "lazy" }', 'racing = { control = "lasy" }', ["no cell 'lasy'", "did you mean 'lazy'"]),
    ('"network.init.paired"', '"network.init.pared"', ["lazy", "network.init.pared", "did you mean 'paired'"]),
    ('"network.init.paired"', '"nework.init.paired"', ["lazy", "nework.init.paired"]),
    ('name = "lazy"', 'name = "../lazy"', ["cells.0.name", "'../lazy' is no name"]),
    ('name = "lazy"', 'name = "main"', ["cells.0.name", "'main' is taken"]),
    ("hidden = [8]", "hidden = [7]", ["lazy", "must be even"]),
])
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_mistakes_in_a_study(refused, study_file, verb, old, new, words):
    text = studies.race()
    assert old in text
    said = refused(verb, study_file(text.replace(old, new, 1)))
    assert all(word in said for word in words), said


@pytest.mark.parametrize(("old", "new", "words"), [
    ("[3, 8]", "[3, 11]", ["task.classes", "classes 0 to 9", "11"]),
    ("[3, 8]", "[3, 3]", ["task.classes", "the same"]),
    ("[3, 8]", '["a", "b"]', ["task.classes"]),
    ("samples = 20", "samples = 5000", ["task.samples", "5000", "images"]),
])
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_what_the_data_lack(refused, study_file, verb, old, new, words):
    pytest.importorskip("sklearn")
    said = refused(verb, study_file(DIGITS.replace(old, new, 1)))
    assert all(word in said for word in words), said


def test_all_mistakes_are_told_at_once(refused, study_file):
    text = studies.race().replace("samples = 20", "samples = 0").replace("steps = 300", "steps = -1").replace("[8]", "[0]")
    said = refused("run", study_file(text))
    assert "3 mistakes" in said
    assert len(said.splitlines()) == 4
    assert all(key in said for key in ("task.samples", "training.steps", "network.hidden"))


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_files_that_are_no_study(refused, tmp_path, verb):
    assert "No such file" in refused(verb, tmp_path / "none.toml")
    assert "directory" in refused(verb, tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused(verb, tmp_path / "binary.toml")
    (tmp_path / "long.toml").write_text("#" * 2_000_000)
    assert "at most 1,000,000 bytes" in refused(verb, tmp_path / "long.toml")
    (tmp_path / "empty.toml").write_text("")
    assert "study.name: is missing" in refused(verb, tmp_path / "empty.toml")


# ------------------------------------------------------------------------------------------------- options and directories


def test_unknown_cell(refused, study_file):
    said = refused("run", study_file(studies.race()), "--only", "lasy")
    assert "no cell 'lasy': did you mean 'lazy'?" in said


def test_output_is_a_file(refused, study_file, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert f"{tmp_path / 'out'}: is a file" in refused("run", study_file(studies.race()), "-o", tmp_path / "out")


def test_output_below_a_file(refused, study_file, tmp_path):
    """Stands in for a directory that cannot be written: root may write everywhere."""
    (tmp_path / "out").write_text("mine")
    said = refused("run", study_file(studies.race()), "-o", tmp_path / "out" / "run")
    assert str(tmp_path / "out" / "run") in said
    assert "\n" not in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_that_cannot_be_written(refused, study_file, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    assert "cannot be written" in refused("run", study_file(studies.race()), "-o", tmp_path / "out")


def test_output_with_other_things(refused, study_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert "is not empty and holds no study" in refused("run", study_file(studies.race()), "-o", tmp_path / "out")


@pytest.mark.parametrize(("old", "new", "words"), [
    ("step_size = 0.5", "step_size = 0.25", ["main: training.step_size: there 0.5, here 0.25"]),
    ("samples = 20", "samples = 30", ["main: task.samples: there 20, here 30"]),
    ("entropy = 11", "entropy = 12", ["study.entropy: there 11, here 12"]),
    ('"network.init.scale" = 1.0', '"network.init.scale" = 2.0', ["lazy: network.init.scale: there 1.0, here 2.0"]),
])
def test_output_with_another_study(refused, study_file, copy, old, new, words):
    said = refused("run", study_file(studies.race().replace(old, new)), "-o", copy)
    assert f"{copy}: holds another study" in said
    assert all(word in said for word in words), said


def test_output_with_a_study_that_cannot_be_read(refused, study_file, copy):
    (copy / "study.toml").write_text("[study")
    assert f"{copy}: holds a study that this mcrace cannot read" in refused("run", study_file(studies.race()), "-o", copy)


@pytest.mark.parametrize("verb", ["test", "show"])
def test_results_that_do_not_open(refused, reference, tmp_path, verb):
    path = tmp_path / "results.h5"
    whole = reference.path.read_bytes()
    assert refused(verb, path) == f"{path}: no such file"
    assert refused(verb, tmp_path) == f"{path}: no such file"
    for data, words in ((b"", "no HDF5 file"), (b"x" * 3000, "no HDF5 file"), (whole[: len(whole) // 2], "is truncated"),
                        (whole[:3000] + b"x" + whole[3001:], "is damaged")):
        path.write_bytes(data)
        said = refused(verb, path)
        assert said.startswith(f"{path}: ")
        assert words in said
        assert "\n" not in said
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    assert refused(verb, path) == f"{path}: has format version 99; this mcrace reads version {store.FORMAT_VERSION}"


@pytest.mark.parametrize("verb", ["status", "merge"])
def test_directories_that_hold_no_study(refused, tmp_path, verb):
    assert "no-such" in refused(verb, "no-such")
    (tmp_path / "empty").mkdir()
    assert "holds no study of mcrace" in refused(verb, tmp_path / "empty")
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(verb, tmp_path / "file")


def test_merge_before_there_is_anything(refused, tmp_path):
    (tmp_path / "study.toml").write_text(studies.race())
    assert "holds no shard" in refused("merge", tmp_path)


@pytest.mark.parametrize("arguments", [
    ["rum"], ["run"], ["run", "a.toml", "--workers", "-1"], ["run", "a.toml", "--seeds", "0"],
    ["run", "a.toml", "--shard-size", "0"], ["run", "a.toml", "--colour"], ["run", "a.toml", "--workers", "two"],
    ["list"], ["status"], ["test"]])
def test_mistakes_of_usage(command, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    answer = command(*arguments)
    assert answer.code == 2
    assert "Usage: mcrace" in answer.err
    assert "Traceback" not in answer.err
    assert tree(tmp_path) == {}


# ------------------------------------------------------------------------------------------------- what commands print


@pytest.mark.parametrize("verb", COMMANDS)
def test_help(command, verb):
    answer = command(verb, "--help")
    assert answer.code == 0
    assert f"Usage: mcrace {verb}" in answer.out
    assert "Example: mcrace" in answer.out


def test_help_of_all(command):
    answer = command("--help")
    assert answer.code == 0
    assert all(verb in answer.out for verb in COMMANDS)
    assert command("-h").out == answer.out
    assert command("--version").out.strip() == mcrace.__version__


@pytest.mark.parametrize(("sort", "names"), [
    ("tasks", ["cifar10", "digits", "file", "gaussian", "patches", "teacher"]),
    ("observables", ["loss", "cosine", "alignment"]),
    ("predictions", ["racing", "mutual-alignment"])])
def test_list(command, sort, names):
    answer = command("list", sort)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert all(any(re.match(rf"{name} +\w", line) for line in lines) for name in names), answer.out


def test_list_of_what_there_is_not(refused):
    assert "'observable' cannot be listed: did you mean 'observables'?" in refused("list", "observable")


def test_plan(command, study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = study_file(studies.race())
    answer = command("plan", path)
    assert answer.code == 0
    assert all(cell in answer.out for cell in ("main", "lazy", "main+half-step"))
    cells = json.loads(command("plan", path, "--json").out)
    assert [(c["cell"], c["role"], c["networks"]) for c in cells] == [
        ("main", "main", 40), ("lazy", "control", 40), ("main+half-step", "half-step", 40)]
    assert all(c["core_seconds"] > 0 and c["memory_bytes"] > 0 and c["disk_bytes"] > 0 for c in cells)
    assert list(tree(tmp_path)) == ["study.toml"]


def test_status(command, reference, copy):
    answer = command("status", copy)
    assert answer.code == 0
    assert re.search(r"lazy\W+control\W+40\W+0", answer.out) and "mcrace merge" not in answer.out
    next(iter(shards_of(copy))).unlink()
    cells = json.loads(command("status", copy, "--json").out)
    assert sorted((c["done"], c["missing"]) for c in cells) == [(0, 40), (40, 0), (40, 0)]


def test_show(command, reference):
    answer = command("show", reference.path)
    assert answer.code == 0
    assert mcrace.__version__ in answer.out
    assert all(word in answer.out for word in ("main+half-step", "control", "alignment_at", "diverged"))
    assert command("show", reference.path.parent).out == answer.out


def test_merge(command, reference, copy):
    (copy / "results.h5").unlink()
    assert "holds 0 of these networks; mcrace merge" in " ".join(command("status", copy).out.split())
    answer = command("merge", copy)
    assert answer.code == 0
    assert str(copy / "results.h5") in answer.out
    studies.assert_same_data(copy, reference.path)


def test_verdicts_as_json(command, reference):
    answer = command("test", reference.path.parent, "--json")
    assert answer.code == 0
    verdicts = json.loads(answer.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert {v["prediction"] for v in verdicts} == {"racing", "mutual-alignment"}
    for v in verdicts:
        assert v.keys() >= KEYS
        assert v["cell"] == "main"
        assert v["control"] is None or v["control"].keys() >= {"cell", "estimate", "failed"}
    assert any(v["control"] and v["control"]["cell"] == "lazy" for v in verdicts)
    table = command("test", reference.path)
    assert "racing on main" in table.out
    assert command("test", reference.path, "--json").out == answer.out


def test_run_quietly_and_as_json(command, study_file, tmp_path):
    arguments = "run", study_file(studies.race(8)), "-o", tmp_path / "run", "--workers", 0
    quiet = command(*arguments, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    answer = command(*arguments, "--json", "--quiet")
    assert answer.code == 0
    assert {v["prediction"] for v in json.loads(answer.out)} == {"racing", "mutual-alignment"}


def test_default_directory(command, study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("run", study_file(studies.race(4)), "--workers", 0, "-q").code == 0
    assert set(mcrace.open_results("results/small").cells) == {"main", "lazy", "main+half-step"}


def test_second_run_computes_nothing(command, study_file, copy):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (*shards_of(copy), copy / "results.h5")}
    answer = command("run", study_file(studies.race()), "-o", copy)
    assert answer.code == 0
    assert "racing on main" in answer.out
    assert "networks in" not in answer.out
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (*shards_of(copy), copy / "results.h5")} == before


def test_other_margins_and_names_compute_nothing(command, study_file, copy):
    before = shards_of(copy)
    text = studies.race().replace('racing = { control = "lazy" }', 'racing = { control = "lazy", margin = 0.2 }')
    text = text.replace('"lazy"', '"calm"').replace('"small"', '"renamed"')
    answer = command("run", study_file(text), "-o", copy, "--workers", 0, "--json")
    assert json.loads(answer.out)[0]["margin"] == [0.8, 1.2]
    assert shards_of(copy) == before


def test_another_observable_is_trained_again(command, study_file, copy):
    before = shards_of(copy)
    answer = command("run", study_file(studies.race(observables='["loss", "alignment"]')), "-o", copy, "--workers", 0)
    assert answer.code == 0
    assert "main: other things are to be recorded, so its networks are trained again" in answer.out
    assert len(shards_of(copy)) == 2 * len(before)
    assert shards_of(copy).items() >= before.items()
    assert mcrace.open_results(copy).cell("main")["alignment"].shape == (40, 12)


# ------------------------------------------------------------------------------------------------- --strict


@pytest.mark.parametrize(("verdict", "failed", "code"), [("supported", True, 0), ("supported", False, 3), ("refuted", True, 3),
                                                         ("inconclusive", True, 0), ("inconclusive", None, 0)])
def test_strict(command, reference, monkeypatch, verdict, failed, code):
    """Exit code 3 where a prediction is refuted or a control does not fail."""
    control = None if failed is None else Control("lazy", 0.0, 0.0, 0.0, failed)
    monkeypatch.setattr("mcrace.predictions.test", lambda _: [Verdict("law", "main", "slope", verdict, control=control)])
    assert command("test", reference.path, "--strict").code == code
    assert command("test", reference.path).code == 0


def test_strict_where_networks_diverged(command, study_file, tmp_path):
    calm, wild = (text.partition("[predictions]")[0] for text in (studies.race(8), studies.diverging(16)))
    assert command("run", study_file(calm), "-o", tmp_path / "calm", "--workers", 0, "--strict").code == 0
    assert command("run", study_file(wild), "-o", tmp_path / "wild", "--workers", 0, "--strict").code == 3
    assert command("run", study_file(wild), "-o", tmp_path / "wild", "--workers", 0).code == 0


# ------------------------------------------------------------------------------------------------- processes


def test_console_script(study_file, tmp_path):
    assert finish("--version").stdout.strip() == mcrace.__version__
    answer = finish("run", tmp_path / "none.toml", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(("number", "code", "workers"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 0)])
def test_interrupted(study_file, tmp_path, number, code, workers):
    """One line, no worker left, and the same command goes on from there."""
    study, directory = study_file(studies.race(200)), tmp_path / "run"
    with running("run", study, "-o", directory, "--shard-size", 1, "--workers", workers) as process:
        assert wait_until(lambda: len(list(directory.glob("shards/*/*.h5"))) >= 5)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert err.strip() == "mcrace: interrupted; run the same command again to go on from here"
        assert len(started) >= workers
        assert wait_until(lambda: not process.family(), 20)
    before = shards_of(directory)
    assert 5 <= len(before) < 600
    assert not (directory / "results.h5").exists()
    assert not list(directory.rglob("*.tmp"))
    mcrace.run(study, directory, workers=0)
    assert shards_of(directory).items() >= before.items()
    studies.assert_same_data(directory, mcrace.run(study, tmp_path / "at once", workers=0).path)


def test_an_interrupt_waits_for_a_file(signals, tmp_path, monkeypatch):
    """HDF5 would lose the exception, or break a lock over it."""
    fsync = os.fsync

    def interrupted(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        signal.raise_signal(signal.SIGINT)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", interrupted)
    interrupt.watch()
    try:
        store.publish_text(tmp_path / "a.txt", "whole")
        wait_until(lambda: False, 10)
    except interrupt.Interrupted as asked:
        assert asked.exit_code == 130
    else:
        pytest.fail("the interrupt was lost")
    assert tree(tmp_path) == {"a.txt": b"whole"}
    assert signal.getsignal(signal.SIGINT) is not interrupt._received


def test_output_into_a_closed_pipe(reference):
    """As in `mcrace show FILE | head -1`: no traceback."""
    script = f'"{studies.COMMAND[0]}" show "{reference.path}" | head -1'
    answer = finish(script, command=["bash", "-c"])
    assert len(answer.stdout.splitlines()) == 1
    assert "Traceback" not in answer.stderr
    assert "Error" not in answer.stderr


def test_unguarded_script(tmp_path):
    """Workers are programs of their own: a script without a guard runs once."""
    script = tmp_path / "script.py"
    script.write_text(f"import mcrace\nprint('once')\ntext = {studies.race(8)!r}\n"
                      "results = mcrace.run(mcrace.parse_study(text), 'run', workers=2, shard_size=4)\n"
                      "print(len(results.cell('main').seeds), len(mcrace.test(results)) > 0)\n")
    with socket.socket() as port, running(script, command=[sys.executable], cwd=tmp_path) as process:
        with suppress(OSError):
            port.bind(("", 8787))  # Dask's favourite: another run may have it
            port.listen()
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        assert out.split() == ["once", "8", "True"]
        assert wait_until(lambda: not process.family(), 20)


def test_a_command_that_computes_nothing_loads_no_statistics():
    """A second of processor time at every start: SciPy loads its parts when they are first asked for, if it is let."""
    program = "import sys, mcrace.cli; print([name for name in sys.modules if name in ('scipy.stats', 'scipy.cluster')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
