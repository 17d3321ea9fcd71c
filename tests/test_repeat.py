"""More seeds, other random numbers, the same networks again: extend, replicate, verify, export, diff."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies
from studies import assert_same_data, shards_of

import mcrace
from mcrace import directory, rewriting, screen, store
from mcrace.errors import ResultsError, StudyError
from mcrace.predictions.base import Verdict
from mcrace.repeat import agreements
from mcrace.worker import compute

PLAIN = studies.race(12, weights='"ends"').partition("[predictions]")[0]


@pytest.fixture
def copy(reference: mcrace.Results, tmp_path: Path) -> Path:
    """A results directory of the small study of one's own."""
    return Path(shutil.copytree(reference.path.parent, tmp_path / "copy"))


# ------------------------------------------------------------------------------------------------- other numbers in a text


@pytest.mark.parametrize(("text", "expected"), [
    ("[study]\nseeds = 40 # not 40\nentropy = 40", "[study]\nseeds = 7 # not 40\nentropy = 40"),
    ("# 40\n[study]\nname = '40'\nseeds=4_0", "# 40\n[study]\nname = '40'\nseeds=7"),
    ("study.seeds = 0x28", "study.seeds = 7"),
    ("study = { name = 'a', seeds = 40 }", "study = { name = 'a', seeds = 7 }"),
    ("[ study ]\n'seeds' = +40\n[x]\ny = nan", "[ study ]\n'seeds' = 7\n[x]\ny = nan"),
])
def test_a_number_is_replaced_where_it_stands(text, expected):
    assert rewriting.replaced(text, ("study", "seeds"), 7) == expected


@pytest.mark.parametrize("text", ["[task]\nkind = 1\n", "task.kind = 1", "task = { kind = 1 }", "[task.x]\ny = 1",
                                  "[a]\n[task] # x\nk=2", "[task]\ndata = 3\n"])
def test_a_key_is_added_to_any_table(text):
    raw = tomllib.loads(text)
    assert tomllib.loads(rewriting.added(text, ("task", "data"), 9)) == {**raw, "task": {**raw["task"], "data": 9}}


@pytest.mark.parametrize("seeds", ["seeds = 40", "seeds = { first = 5, count = 40 }"])
def test_another_number_of_seeds_is_in_the_text(seeds):
    study = mcrace.parse_study(studies.race().replace("seeds = 40", seeds)).with_seeds(9)
    assert study.seeds.count == 9
    assert mcrace.parse_study(study.text) == study


# ------------------------------------------------------------------------------------------------- extend


def test_extending_is_as_if_all_had_been_asked_for_at_once(reference, tmp_path, command, study_file):
    where = tmp_path / "run"
    assert command("run", study_file(studies.race()), "-o", where, "--seeds", 15, "--workers", 0, "-q").code == 0
    before = {path: path.stat().st_mtime_ns for path in shards_of(where)}
    answer = command("extend", where, "--more", 25, "--workers", 0)
    assert answer.code == 0
    assert "75 networks in" in answer.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same_data(where, reference.path)
    assert directory.own_study(where).seeds.count == 40
    assert "seeds = 40" in (where / "study.toml").read_text()


def test_status_counts_what_was_asked_for_last(tmp_path, command, study_file):
    where = tmp_path / "run"
    for seeds, networks in ((12, 36), (4, 12)):
        assert command("run", study_file(studies.race()), "-o", where, "--seeds", seeds, "--workers", 0, "-q").code == 0
        assert f"{networks} of {networks} networks, 100 %: all done" in command("status", where).out
        assert mcrace.open_results(where).study.seeds.count == seeds


@pytest.mark.parametrize("more", [0, -3])
def test_extending_by_nothing(copy, more):
    before = studies.tree(copy)
    with pytest.raises(StudyError, match="cannot be added"):
        mcrace.extend(copy, more)
    assert studies.tree(copy) == before


# ------------------------------------------------------------------------------------------------- replicate


def test_replication(copy, tmp_path, command):
    answer = command("replicate", copy, "--entropy", 12, "-o", tmp_path / "again", "--workers", 0)
    assert answer.code == 0
    assert re.search(r"[0-9] of 9 verdicts agree; [0-9] of [0-9] intervals overlap", answer.out)
    assert re.search(r"[0-9] of the [0-9] primary verdicts agree; none of all went from supported to refuted", answer.out)
    here, there = mcrace.open_results(tmp_path / "again"), mcrace.open_results(copy)
    assert here.study.entropy == 12
    assert (here.cells, here.study.seeds) == (there.cells, there.study.seeds)
    for cell in here:
        assert not (cell["loss"][:, 1] == there.cell(cell.name)["loss"][:, 1]).any()


def test_replication_on_the_same_data(tmp_path):
    text = studies.race(6, weights='"ends"').partition("[predictions]")[0]
    mcrace.run(mcrace.parse_study(text), tmp_path / "a", workers=0)
    here, _ = mcrace.replicate(tmp_path / "a", 12, tmp_path / "b", same_data=True, workers=0)
    assert here.study.cell("main").config.task.data_entropy == 11
    other, _ = mcrace.replicate(tmp_path / "a", 12, tmp_path / "c", workers=0)
    a, b, c = (mcrace.network(tmp_path / name, "main", 3) for name in "abc")
    assert np.array_equal(a["X"], b["X"]) and np.array_equal(a["y"], b["y"])
    assert not np.isclose(a["X"], c["X"]).any()
    assert not (a["W_start"] == b["W_start"]).any()
    assert np.array_equal(b["W_start"], c["W_start"])
    assert here.cell("main").attributes["identity"] != other.cell("main").attributes["identity"]


def test_the_same_entropy_replicates_nothing(copy, tmp_path):
    with pytest.raises(StudyError, match="has the entropy 11 already"):
        mcrace.replicate(copy, 11, tmp_path / "again")
    with pytest.raises(StudyError, match=r"study\.entropy"):
        mcrace.replicate(copy, -1, tmp_path / "again")
    with pytest.raises(ResultsError, match="holds another study"):
        mcrace.replicate(copy, 12, copy)
    assert not (tmp_path / "again").exists()


def test_what_agrees():
    there = [Verdict("p", "main", "a", "supported", low=1.0, high=2.0), Verdict("p", "main", "b", "refuted"),
             Verdict("p", "main", "c", "supported", low=1.0, high=2.0), Verdict("p", "main", "d", "supported")]
    here = [Verdict("p", "main", "c", "supported", low=2.5, high=3.0), Verdict("p", "main", "a", "refuted", low=1.9, high=4.0),
            Verdict("p", "main", "b", "refuted", low=0.0, high=1.0), Verdict("p", "other", "a", "supported")]
    found = {a.here.statistic: (a.same_verdict, a.overlap, a.reversed) for a in agreements(there, here)}
    assert found == {"c": (True, False, False), "a": (False, True, True), "b": (True, None, False)}


def test_verdicts_that_differ_are_told_once_more(capsys):
    row = Verdict("p", "main", "slope", "supported", estimate=1.0, low=0.9, high=1.1)
    others = [replace(row, verdict="refuted", estimate=2.0), replace(row, statistic="rank", verdict="inconclusive")]
    screen.show_agreements(agreements([row, replace(row, statistic="rank")], others))
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"p on main, slope, margin -: supported at 1\.?0* \[.*\], now refuted at 2\.?0* \[", out)
    assert "0 of 2 verdicts agree" in out and "1 of all went from supported to refuted, or back" in out


# ------------------------------------------------------------------------------------------------- verify


def test_verifying_what_is_right(copy, command):
    before = studies.tree(copy)
    answer = command("verify", copy, "--networks", 7)
    assert (answer.code, answer.out) == (0, "4 files and 7 recomputed networks: the same, bit for bit\n")
    assert studies.tree(copy) == before


def test_samples_are_drawn(copy):
    found = mcrace.verify(copy, 10**6)
    assert (found.networks, found.differences, found.notes) == (120, [], [])


@pytest.mark.parametrize("name", ["loss", "cosine_at", "status", "step"])
def test_a_number_that_no_network_has(copy, command, name):
    """The file is whole, and its digests are right: only computing the network again tells."""
    shard = sorted(shards_of(copy))[0]
    with h5py.File(shard) as file:
        identity = file.attrs["identity"]
    variables, attributes = store.read_shard(shard, identity)
    values = variables[name].values
    values[(slice(4, 5) if name != "step" else 4, *(0,) * (values.ndim - 1))] += 1
    shard.unlink()
    own = ("format_version", "attributes_digest")
    store.write_shard(shard, variables, {k: v for k, v in attributes.items() if k not in own})
    answer = command("verify", copy, "--networks", 120)
    assert answer.code == 1
    cell = next(c.name for c in mcrace.open_results(copy) if c.attributes["identity"] == identity)
    wrong = [line for line in answer.out.splitlines() if "another" in line]
    assert len(wrong) == (40 if name == "step" else 1)
    seed = 0 if name == "step" else 4
    assert wrong[0].startswith(f"{cell} seed {seed}: the shard has another {name} ")


def test_a_results_file_that_is_not_its_shards(copy, command):
    with h5py.File(copy / "results.h5", "r+") as file:
        file["cells/lazy/loss"][11, 2] *= 1 + 1e-15
    found = mcrace.verify(copy, 120)
    assert any("there is no seal" in d for d in found.differences)
    (said,) = [d for d in found.differences if "seed" in d]
    assert said.startswith("lazy seed 11: results.h5 has another loss than the network has: ")


def test_a_damaged_shard_is_named(copy, command):
    shard = sorted(shards_of(copy))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    answer = command("verify", copy)
    assert answer.code == 1
    assert f"{shard}: is damaged" in answer.out
    assert "Traceback" not in answer.err
    answer = command("run", copy, "--check", "--workers", 0)
    assert answer.code == 0
    assert f"{shard}: is damaged: its bytes do not match the seal at its end; it is set aside" in answer.out
    assert command("verify", copy).code == 0


def test_nothing_to_verify(tmp_path):
    with pytest.raises(ResultsError, match="holds no study"):
        mcrace.verify(tmp_path)
    store.publish_text(tmp_path / "study.toml", studies.race())
    with pytest.raises(ResultsError, match="holds no shard"):
        mcrace.verify(tmp_path)


# ------------------------------------------------------------------------------------------------- one network


def test_a_network_is_the_same_read_or_trained_again(tmp_path, command):
    mcrace.run(mcrace.parse_study(PLAIN), tmp_path / "with", workers=0)
    mcrace.run(mcrace.parse_study(PLAIN.replace('weights = "ends"', 'weights = "none"')), tmp_path / "without", workers=0)
    stored = mcrace.open_results(tmp_path / "with").cell("lazy")
    for where in ("with", "without"):
        path = tmp_path / f"{where}.npz"
        answer = command("export", tmp_path / where, "--cell", "lazy", "--seed", 7, "-o", path)
        assert answer.code == 0
        assert "W_final [8, 5]" in answer.out
        with np.load(path) as found:
            for name in ("W_start", "v_start", "W_final", "v_final", "status", "stop_step"):
                assert np.array_equal(found[name], stored[name][7]), (where, name)
            assert (found["X"].shape, found["y"].shape, int(found["seed"])) == ((20, 5), (20,), 7)


def test_a_network_that_there_is_not(copy, tmp_path, command):
    for cell, seed, words in (("lasy", 3, "did you mean 'lazy'?"), ("lazy", 40, "0 to 39")):
        answer = command("export", copy, "--cell", cell, "--seed", seed, "-o", tmp_path / "n.npz")
        assert answer.code == 2
        assert words in answer.err
    assert not (tmp_path / "n.npz").exists()
    (tmp_path / "file").touch()
    answer = command("export", copy, "--cell", "lazy", "--seed", 3, "-o", tmp_path / "file" / "n.npz")
    assert (answer.code, answer.err.count("\n")) == (2, 1)


# ------------------------------------------------------------------------------------------------- diff


def test_the_same_results(reference, copy, command):
    answer = command("diff", reference.path, copy)
    assert answer.code == 0
    assert answer.out.rstrip().endswith("\nthe same")


def test_other_values_are_told(reference, copy):
    with h5py.File(copy / "results.h5", "r+") as file:
        for row, value in ((5, 0.25), (9, np.nan)):
            file["cells/main/loss"][row, 1] = value
        data = file["cells/main/loss"]
        data.attrs["digest"] = store.digest(data[...])
        cell = file["cells/main"]
        store.write_attributes(cell, {k: v for k, v in cell.attrs.items() if k != "attributes_digest"})
    unlike = [f for f in mcrace.diff(reference.path, copy) if f.text]
    assert [(f.cell, f.what) for f in unlike] == [("main", "values")]
    assert "loss: 2 of 480 values of 2 networks, first seed 5, by " in unlike[0].text


def test_other_seeds_and_studies_are_told(reference, tmp_path, command):
    text = studies.race(10).replace("step_size = 0.5", "step_size = 0.25").replace('"lazy"', '"idle"')
    mcrace.run(mcrace.parse_study(text), tmp_path / "run", workers=0)
    found = {(f.cell, f.what): f.text for f in mcrace.diff(reference.path, tmp_path / "run")}
    assert found["", "entropy"] == ""
    assert "racing.control: lazy and idle" in found["", "predictions"]
    assert found["main", "configuration"] == "training.step_size: 0.5 and 0.25"
    assert found["main", "seeds"] == "0-39 and 0-9"
    assert "of 10 networks" in found["main", "values"]
    assert found["lazy", "cell"] == f"is not in {tmp_path / 'run' / 'results.h5'}"
    assert found["idle", "cell"] == f"is not in {reference.path}"
    answer = command("diff", reference.path, tmp_path / "run")
    assert answer.code == 1
    assert "not the same" in answer.out


def test_more_seeds_have_the_same_values(reference, tmp_path):
    mcrace.run(mcrace.parse_study(studies.race(10)), tmp_path / "run", workers=0)
    found = mcrace.diff(reference.path, tmp_path / "run")
    assert {f.what for f in found if f.text} == {"seeds"}
    assert {f.on for f in found if f.what == "values"} == {"on the 10 seeds of both"}


# ------------------------------------------------------------------------------------------------- while a run goes on


def test_results_are_readable_while_a_run_goes_on(reference, tmp_path, command, monkeypatch):
    """After each shard: what is there is merged, opens, and makes a table; the end is as ever."""
    where, seen = tmp_path / "run", []

    class Looking(mcrace.engine.Reporter):
        def done(self, receipt) -> None:
            if not seen:
                with pytest.raises(ResultsError, match=rf"no such file yet; mcrace merge {where} writes it"):
                    mcrace.open_results(where)
            assert command("merge", where).code == 0
            seen.append(len(mcrace.open_results(where).to_table()))
            assert directory.status(where).merged == directory.status(where).done == seen[-1]

    mcrace.run(mcrace.parse_study(studies.race()), where, workers=0, shard_size=20, reporter=Looking())
    assert seen == [20, 40, 60, 80, 100, 120]
    assert_same_data(where, reference.path)


def test_a_shard_of_any_cell_is_shown(copy, command):
    shard = sorted(shards_of(copy))[0]
    answer = command("show", shard)
    assert answer.code == 0
    assert all(word in answer.out for word in ("seed 40, time 12", "float64", "Mean loss", "identity", "numba="))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert command("show", shard).code == 2
    assert command("show", copy, "--check").code == 0


def test_failed_shards_are_told_until_they_are_there(tmp_path, command, monkeypatch, study_file):
    where = tmp_path / "run"

    def broken(shard, pool):
        if shard.first == 20 and shard.cell == "lazy":
            raise ValueError("a \x1b[31mpoisoned\nnetwork")
        return compute(shard, pool)

    arguments = "run", study_file(studies.race()), "-o", where, "--workers", 0, "--shard-size", 20
    with monkeypatch.context() as patched:
        patched.setattr("mcrace.worker.compute", broken)
        answer = command(*arguments)
    assert answer.code == 1
    assert "1 of 6 shards failed" in answer.err
    answer = command("status", where)
    assert "failed: lazy seeds 20-39: ValueError: a ?[31mpoisoned" in answer.out
    assert f"mcrace run {where} tries what failed once more" in answer.out
    (lazy,) = [c for c in json.loads(command("status", where, "--json").out) if c["missing"]]
    assert lazy["missing"] == 20
    assert [(f["first"], f["stop"]) for f in lazy["failed"]] == [(20, 40)]
    assert command("run", where, "--workers", 0).code == 0
    assert "failed: " not in command("status", where).out
    assert json.loads(command("status", where, "--json").out)[1]["failed"] == []


def test_only_a_cell_leaves_its_control(tmp_path):
    found = mcrace.run(mcrace.parse_study(studies.race(6)), tmp_path, workers=0, only="main")
    assert found.cells == ("main", "main+half-step")
