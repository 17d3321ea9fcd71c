"""The study file: what it holds, and that every mistake in it is told, with its key."""

import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_tasks_files import archive, records

from mcrace import estimate
from mcrace.completion import complete
from mcrace.errors import StudyError, nearest
from mcrace.sections import Times, recording_steps
from mcrace.study import load_study, parse_study

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.toml"))
RACE = (Path(__file__).parents[1] / "jobs" / "race-digits.toml").read_text()

BASE = """
[study]
name = "small"
seeds = 4
entropy = 1
[task]
kind = "gaussian"
samples = 8
dimension = 3
[network]
hidden = [6]
init = { scale = 0.5 }
[training]
step_size = 0.1
steps = 20
"""


def mistakes(text):
    """What is told of a text, one mistake a line."""
    with pytest.raises(StudyError) as caught:
        complete(parse_study(text))
    head, *rest = str(caught.value).splitlines()
    if rest:
        assert head == f"{len(rest)} mistakes"
    return [line.strip() for line in rest] or [head]


# ------------------------------------------------------------------------------------------------- what is right


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_every_job_of_the_repository_is_a_study(path, tmp_path):
    job = tmp_path / shutil.copy(path, tmp_path)
    if "cifar10" in path.name:  # what is not shipped is made
        archive(tmp_path / "cifar-10-binary.tar.gz", {f"data_batch_{k}.bin": records(200, k).tobytes() for k in range(1, 6)})
    study = complete(load_study(job))
    assert study.cells and study.text.startswith(path.read_text())
    assert len({c.name for c in study.cells}) == len(study.cells)


def test_the_main_job_is_what_its_file_says():
    study = parse_study(RACE)
    main, lazy = study.cells
    assert (study.name, study.seeds.count, study.entropy) == ("race-digits", 2000, 20260204)
    assert main.config.task.classes == (3, 8) and main.config.network.hidden == (100,)
    assert (main.config.network.init.scale, lazy.config.network.init.scale) == (1e-3, 1.0)
    assert lazy.config.network.init.paired and not main.config.network.init.paired
    assert lazy.config.network.init.balanced, "what a cell does not name stays as it was"
    assert lazy.config.training == main.config.training and lazy.config.task == main.config.task
    assert study.predictions["racing"] == {"margin": 0.1, "control": "lazy"}


def test_completing_adds_what_predictions_need():
    study = complete(parse_study(RACE))
    assert [(c.name, c.role, c.of) for c in study.cells] == [
        ("main", "main", ""), ("lazy", "control", "main"), ("main+half-step", "half-step", "main")]
    main, lazy, half = study.cells
    assert "cosine@start" in main.config.record.observables and "alignment@level=0.1" in lazy.config.record.observables
    assert half.config.training.step_size == main.config.training.step_size / 2
    assert half.config.training.steps == 2 * main.config.training.steps and half.seeds.count == 200


def test_what_a_prediction_needs_goes_to_the_cells_that_it_is_judged_on():
    text = BASE + """
[[cells]]
name = "vectors"
task = { kind = "equivariant", loss = "mse" }
[[cells]]
name = "lazy"
network.init.scale = 1.0
[predictions]
racing = { cells = ["main"], control = "lazy" }
"""
    main, vectors, lazy, half = complete(parse_study(text)).cells
    for cell in (main, lazy, half):
        assert "cosine@start" in cell.config.record.observables
    assert vectors.config.record.observables == ("loss",) and half.name == "main+half-step"
    assert any("cell vectors: " in line for line in mistakes(text.replace('["main"]', '["main", "vectors"]')))


def test_a_price_tells_what_is_done_once_from_what_every_step_takes(monkeypatch):
    monkeypatch.setattr(estimate, "_seconds", lambda config, pool, steps, recordings: 0.1 + 0.003 * recordings + 1e-5 * steps)
    for found in estimate.estimate(parse_study(BASE + '[[cells]]\nname = "long"\ntraining.steps = 1_000_000')):
        steps, times = found.cell.config.training.steps, found.cell.config.record.times
        recordings = len(recording_steps(times, steps))
        assert found.core_seconds == pytest.approx(4 * (0.103 + 0.003 * recordings + 1e-5 * steps))


def test_seeds_are_a_number_or_a_range():
    assert parse_study(BASE).seeds.first == 0
    seeds = parse_study(BASE.replace("seeds = 4", "seeds = { first = 10, count = 5 }")).seeds
    assert (seeds.first, seeds.count) == (10, 5)
    assert parse_study(BASE).with_seeds(9).cells[0].seeds.count == 9


def test_a_study_does_not_change():
    study = parse_study(BASE)
    with pytest.raises(Exception, match="frozen"):
        study.cells[0].config.training.steps = 3
    with pytest.raises(AttributeError):
        study.name = "x"


def test_the_plain_form_is_json_and_reads_back():
    from mcrace.worker import configuration

    for cell in complete(parse_study(RACE)).cells:
        plain = json.loads(json.dumps(cell.config.plain()))
        assert configuration(plain) == cell.config


def test_dotted_keys_of_cells_may_be_quoted_or_not():
    quoted, nested, table = (parse_study(BASE + f'[[cells]]\nname = "a"\n{text}').cells[1] for text in (
        '"network.init.scale" = 2.0\n"training.steps" = 30',
        "network.init.scale = 2.0\ntraining.steps = 30",
        "network = { init = { scale = 2.0 } }\ntraining = { steps = 30 }"))
    assert quoted == nested == table
    assert quoted.config.network.init.scale == 2.0 and quoted.config.training.steps == 30
    assert quoted.swept == {"network.init.scale": 2.0, "training.steps": 30}


def test_a_cell_may_be_of_another_task():
    cells = parse_study(BASE + '[[cells]]\nname = "odd"\ntask.symmetric = true\ntask.loss = "mse"').cells
    assert cells[1].config.task.symmetric and cells[1].config.task.loss == "mse" and not cells[0].config.task.symmetric


# ------------------------------------------------------------------------------------------------- sweeps


def test_a_grid_is_every_combination():
    study = parse_study(BASE + '[sweep.grid]\n"training.step_size" = [0.1, 0.2]\n"network.hidden" = [[6], [8], [10]]')
    found = [(c.config.training.step_size, c.config.network.hidden) for c in study.cells]
    assert found == [(eta, (m,)) for eta in (0.1, 0.2) for m in (6, 8, 10)]
    assert [c.name for c in study.cells][:2] == ["step_size=0.1,hidden=6", "step_size=0.1,hidden=8"]


def test_a_zip_goes_through_lists_together_and_crosses_a_grid():
    study = parse_study(BASE + '[sweep.zip]\n"training.step_size" = [0.1, 0.2]\n"training.steps" = [20, 10]\n'
                               '[sweep.grid]\n"task.loss" = ["mse", "logistic"]')
    found = [(c.config.task.loss, c.config.training.step_size, c.config.training.steps) for c in study.cells]
    assert found == [("mse", 0.1, 20), ("mse", 0.2, 10), ("logistic", 0.1, 20), ("logistic", 0.2, 10)]


def test_names_of_cells_end_where_they_tell_them_apart():
    zipped = ('[sweep.zip]\n"network.hidden" = [[4], [4], [5]]\n"training.step_size" = [0.1, 0.2, 0.2]\n'
              '"training.steps" = [9, 8, 7]')
    assert [c.name for c in parse_study(BASE + zipped).cells] == ["hidden=4,step_size=0.1", "hidden=4,step_size=0.2",
                                                                  "hidden=5,step_size=0.2"]
    alike = '[sweep.zip]\n"training.step_size" = [0.1, 0.10000000001]\n"training.steps" = [9, 9]'
    assert [c.name for c in parse_study(BASE + alike).cells] == ["step_size=0.1,steps=9", "step_size=0.1,steps=9+1"]


def test_a_sweep_goes_over_kinds_of_tasks():
    """The keys of each are laid over those of [task], which may hold what they have in common."""
    text = BASE.replace('kind = "gaussian"', "").replace("dimension = 3", "")
    assert text.count("dimension") == 0 and "kind" not in text
    study = parse_study(text + '[sweep.grid]\n"task" = [{ kind = "gaussian", dimension = 4 }, '
                               '{ kind = "digits", classes = [3, 8], loss = "mse" }]')
    assert [c.name for c in study.cells] == ["task=gaussian", "task=digits"]
    assert [c.config.task.inputs() for c in study.cells] == [4, 64]
    assert [c.config.task.loss for c in study.cells] == ["logistic", "mse"]
    assert {c.config.task.samples for c in study.cells} == {study.cells[0].config.task.samples}


def test_random_draws_fill_their_ranges_and_never_change():
    text = BASE + ('[sweep.random]\ndraws = 300\n"network.init.scale" = { low = 1e-3, high = 10.0, log = true }\n'
                   '"training.step_size" = { low = 0.2, high = 0.4 }')
    scales, sizes = (np.array([get(c.config) for c in parse_study(text).cells]) for get in (
        lambda c: c.network.init.scale, lambda c: c.training.step_size))
    assert scales.min() > 1e-3 and scales.max() < 10 and sizes.min() > 0.2 and sizes.max() < 0.4
    assert abs(np.log10(scales).mean() + 1) < 0.25 and abs(sizes.mean() - 0.3) < 0.01
    again = parse_study(text).cells
    assert [c.config.network.init.scale for c in again] == scales.tolist()
    other = parse_study(text.replace("entropy = 1", "entropy = 2")).cells
    assert other[0].config.network.init.scale != scales[0]


def test_cells_of_a_sweep_have_names_of_their_own():
    near = parse_study(BASE + '[sweep.grid]\n"training.step_size" = [0.1234567, 0.12345671, 0.12345672]')
    assert len({c.name for c in near.cells}) == 3
    assert [c.config.training.step_size for c in near.cells] == [0.1234567, 0.12345671, 0.12345672]
    long = parse_study(BASE + "[sweep.random]\ndraws = 50\n" + "".join(
        f'"{key}" = {{ low = 0.1, high = 0.2 }}\n' for key in (
            "training.step_size", "network.init.scale", "network.init.ratio", "training.until.loss_drop")))
    assert len({c.name for c in long.cells}) == 50 and max(len(c.name) for c in long.cells) <= 100


def test_a_sweep_and_named_cells_go_together():
    study = parse_study(BASE + '[sweep.grid]\n"training.steps" = [10, 20]\n[[cells]]\nname = "main"\ntask.loss = "mse"')
    assert [c.name for c in study.cells] == ["steps=10", "steps=20", "main"]
    assert study.cells[2].swept == {"task.loss": "mse"} and study.cells[2].config.training.steps == 20


@pytest.mark.parametrize("sweep, message", [
    ("grid = 1", "sweep: grid, zip and random are tables"),
    ("gird = {}", "sweep.gird: unknown key: did you mean 'grid'?"),
    ('grid = { "training.steps" = 5 }', "sweep: training.steps: must be a list"),
    ('grid = { "training.steps" = [] }', "sweep: training.steps: must be a list"),
    ("grid = { training.steps = [5] }", "sweep: training: must be a list of values, with quotes"),
    ('grid = { "training.stops" = [5] }', "training.stops: unknown key: did you mean 'steps'?"),
    ('grid = { "study.seeds" = [5] }', "study.seeds: is no key of"),
    ('grid = { "training.step_size" = [1979-05-27] }', "training.step_size: input should be a valid number"),
    ('zip = { "training.steps" = [1, 2], "training.step_size" = [1.0] }', "sweep.zip: the lists must be of one length"),
    ("random = { }", ""),
    ('random = { draws = 0, "training.step_size" = { low = 1, high = 2 } }', "sweep.random.draws: a number from 1"),
    ("random = { draws = true }", "sweep.random.draws: a number from 1"),
    ('random = { draws = 2, "training.step_size" = { low = 2, high = 1 } }', "sweep.random: training.step_size: needs"),
    ('random = { draws = 2, "training.step_size" = { low = 0, high = 1, log = true } }', "low > 0"),
    ('random = { draws = 2, "training.step_size" = { low = nan, high = 1 } }', "sweep.random: training.step_size"),
    ('random = { draws = 2, "training.step_size" = { low = 1, high = 1' + "0" * 400 + " } }", "sweep.random: training"),
    ('grid = { "training.steps" = [' + "1," * 101 + '], "training.step_size" = [' + "1," * 100 + "] }", "than 10,000"),
])
def test_mistakes_in_a_sweep(sweep, message):
    text = BASE + "[sweep]\n" + sweep
    if message:
        assert message in "\n".join(mistakes(text))
    else:
        parse_study(text)


def test_many_wrong_cells_are_told_in_bounded_space_and_time():
    began = time.perf_counter()
    with pytest.raises(StudyError) as caught:
        parse_study(BASE + '[sweep.grid]\n"training.steps" = [' + ",".join(map(str, range(-3000, 0))) + "]")
    assert "3000 mistakes" in str(caught.value) and len(str(caught.value)) < 100_000
    assert time.perf_counter() - began < 20


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("old, new, message", [
    ("samples = 8", "samples = 0", "task.samples: input should be greater than or equal to 1, not 0"),
    ("samples = 8", "samples = -3", "task.samples: input should be greater than or equal to 1, not -3"),
    ("samples = 8", 'samples = "8"', "task.samples: input should be a valid integer, not '8'"),
    ("samples = 8", "samples = true", "task.samples: input should be a valid integer, not True"),
    ("samples = 8", "samples = 8.5", "task.samples: input should be a valid integer"),
    ("samples = 8", "sampels = 8", "task.sampels: unknown key: did you mean 'samples'? Valid names: center, "),
    ("samples = 8", "samples = 8\nfresh = 1", "task.fresh: input should be a valid boolean, not 1"),
    ("samples = 8", 'samples = 8\nloss = "hinge"', "task.loss: input should be 'mse' or 'logistic', not 'hinge'"),
    ("samples = 8", "samples = 7\nsymmetric = true", "task: samples must be even"),
    ("dimension = 3", "", "task.dimension: is missing"),
    ('kind = "gaussian"', 'kind = "gausian"', "task.kind: unknown task 'gausian': did you mean 'gaussian'?"),
    ('kind = "gaussian"', "kind = 5", "task.kind: unknown task 5"),
    ('kind = "gaussian"', "kind = []", "task.kind: unknown task []"),
    ('kind = "gaussian"', "", "task.kind: is missing"),
    ("hidden = [6]", "hidden = 6", "network.hidden: must be a list, not 6"),
    ("hidden = [6]", "hidden = []", "network.hidden: list should have at least 1 item"),
    ("hidden = [6]", "hidden = [0]", "network.hidden: a layer has between 1 and 100,000 neurons"),
    ("hidden = [6]", "hidden = [-1]", "network.hidden: a layer has between 1 and 100,000 neurons"),
    ("hidden = [6]", "hidden = [6.5]", "network.hidden.0: input should be a valid integer"),
    ("{ scale = 0.5 }", "{ scale = 0 }", "network.init.scale: input should be greater than 0, not 0"),
    ("{ scale = 0.5 }", "{ scale = inf }", "network.init.scale: input should be a finite number, not inf"),
    ("{ scale = 0.5 }", "{ scale = nan }", "network.init.scale: input should be a finite number, not nan"),
    ("{ scale = 0.5 }", "{ scale = 1e9 }", "network.init.scale: input should be less than or equal to 1000000"),
    ("{ scale = 0.5 }", "{ scael = 1 }", "network.init.scael: unknown key: did you mean 'scale'? Valid names: bal"),
    ("{ scale = 0.5 }", "3", "network.init: must be a table, not 3"),
    ("hidden = [6]\ninit = { scale = 0.5 }", "hidden = [5]\ninit = { paired = true }", "network: the number of"),
    ("step_size = 0.1", "step_size = -0.1", "training.step_size: input should be greater than 0, not -0.1"),
    ("step_size = 0.1", 'step_size = "fast"', "training.step_size: input should be a valid number, not 'fast'"),
    ("step_size = 0.1", 'step_size = 0.1\nmethod = "adam"', "training.method: input should be"),
    ("step_size = 0.1", 'step_size = 0.1\ndtype = "float16"', "training.dtype: input should be 'float32' or 'float64'"),
    ("step_size = 0.1", "step_size = 0.1\nuntil = { loss_drop = 1.0 }", "training.until.loss_drop: input should be"),
    ("step_size = 0.1", "step_size = 0.1\nuntil = { los_drop = 0.9 }", "training.until.los_drop: unknown key: did"),
    ("steps = 20", "steps = 0", "training.steps: input should be greater than or equal to 1, not 0"),
    ("steps = 20", "steps = 1e3", "training.steps: input should be a valid integer, not 1000.0"),
    ("seeds = 4", "seeds = 0", "study.seeds.count: input should be greater than or equal to 1, not 0"),
    ("seeds = 4", 'seeds = "4"', "study.seeds: a number of networks, or a table { first, count }"),
    ("seeds = 4", "seeds = true", "study.seeds: a number of networks, or a table { first, count }"),
    ("seeds = 4", "seeds = { first = -1, count = 3 }", "study.seeds.first: input should be greater than or equal to 0"),
    ("seeds = 4", "", "study.seeds: is missing"),
    ("entropy = 1", "entropy = -1", "study.entropy: input should be greater than or equal to 0"),
    ("entropy = 1", f"entropy = {2**63}", "study.entropy: input should be less than"),
    ('name = "small"', 'name = "../up"', "study.name: '../up' is no name"),
    ('name = "small"', 'name = ""', "study.name: '' is no name"),
    ('name = "small"', f'name = "{"a" * 101}"', "is no name"),
    ('name = "small"', 'name = "a b"', "study.name: 'a b' is no name"),
    ('name = "small"', "nam = 3", "study.nam: unknown key: did you mean 'name'?"),
    ("[training]", "[trianing]", "trianing: unknown table: did you mean 'training'?"),
    ("[training]", "[record]\n[training]\n[training.step]", "training.step: unknown key"),
    ("[study]", "cells = 3\n[study]", "cells: each is a table of its own, [[cells]]"),
    ("[study]", "cells = [3]\n[study]", "cells: each is a table of its own, [[cells]]"),
    ("[study]", "predictions = 3\n[study]", "predictions: must be a table [predictions]"),
    ("[study]", "record = []\n[study]", "record: must be a table [record]"),
    ("[study]", "sweep = 1\n[study]", "sweep: must be a table [sweep]"),
])
def test_a_mistake_is_told_with_its_key(old, new, message):
    assert BASE.count(old) == 1
    told = mistakes(BASE.replace(old, new))
    assert any(message in line for line in told), told


@pytest.mark.parametrize("record, message", [
    ("times = 5", ["record.times: must be a table or a list of steps, not 5"]),
    ("times = [3, 2]", ["record.times: a list of recording times holds steps from 0 on, in increasing order"]),
    ("times = [-1, 2]", ["record.times: a list of recording times holds steps from 0 on, in increasing order"]),
    ("times = []", ["record.times: a list of recording times holds steps from 0 on, in increasing order"]),
    ("times = [1, 1]", ["record.times: a list of recording times holds steps from 0 on, in increasing order"]),
    ("times = [21, 30]", ["record.times: the first, 21, lies beyond the last step, 20"]),
    ("times = [1, 2.5]", ["record.times.1: input should be a valid integer, not 2.5"]),
    ('times = { spacing = "log10" }', ["record.times.spacing: input should be 'log' or 'linear', not 'log10'"]),
    ("times = { count = 1 }", ["record.times.count: input should be greater than or equal to 2, not 1 "
                               "(recording times, step 0 and the last included)"]),
    ("times = { cuont = 9 }", ["record.times.cuont: unknown key: did you mean 'count'? Valid names: count, spacing"]),
    ('weights = "some"', ["record.weights: input should be 'none', 'ends' or 'all', not 'some'"]),
    ('observables = "loss"', ["record.observables: must be a list, not 'loss'"]),
    ('observables = ["loss@never"]', ["record.observables: 'loss@never': a state is start, tau=x, onset, "
                                    "level=0.x or final"]),
])
def test_mistakes_in_what_is_recorded(record, message):
    assert mistakes(BASE + "[record]\n" + record) == message


def test_an_unknown_observable_names_the_nearest():
    for name in ("los", "los@onset"):
        told = "\n".join(mistakes(BASE + f'[record]\nobservables = ["{name}"]'))
        assert "'los'" in told and "did you mean 'loss'?" in told and "accuracy" in told


@pytest.mark.parametrize("table, message", [
    ("raceing = {}", "predictions.raceing: unknown prediction 'raceing': did you mean 'racing'?"),
    ("racing = 3", "predictions.racing: must be a table"),
    ("racing = { margni = 0.1 }", "predictions.racing.margni: unknown key: did you mean 'margin'? Valid names: cells, con"),
    ("racing = { margin = -0.1 }", "predictions.racing.margin: input should be greater than 0, not -0.1"),
    ('racing = { margin = "0.1" }', "predictions.racing.margin: input should be a valid number, not '0.1'"),
    ('racing = { control = "lzy" }', "no cell 'lzy'"),
    ("racing = { control = 3 }", "predictions.racing.control: input should be a valid string, not 3"),
])
def test_mistakes_in_predictions(table, message):
    told = mistakes(BASE + "[predictions]\n" + table)
    assert any(message in line for line in told), told


@pytest.mark.parametrize("cell, message", [
    ("network.hidden = [8]", "cells.0.name: is missing"),
    ("name = 3", "cells.0.name: '' is no name"),
    ('name = "main"', "cells.0.name: 'main' is taken"),
    ('name = "a/b"', "cells.0.name: 'a/b' is no name"),
    ('name = "a"\nnetwork.init.scael = 1', "cell a: network.init.scael: unknown key: did you mean 'scale'?"),
    ('name = "a"\nscale = 1', "cell a: scale: is no key of task, network, training, record"),
    ('name = "a"\nstudy.seeds = 1', "cell a: study.seeds: is no key of task, network, training, record"),
    ('name = "a"\n"network.hidden.deep" = 1', "cell a: network.hidden.deep: is no key of"),
    ('name = "a"\ntraining.steps = 0', "cell a: training.steps: input should be greater than or equal to 1, not 0"),
    ('name = "a"\ntask.kind = "digits"', "cell a: task.classes: is missing"),
    ('name = "a"\n"" = 1', "cell a: : is no key of"),
])
def test_mistakes_in_cells(cell, message):
    told = mistakes(BASE + "[[cells]]\n" + cell)
    assert any(message in line for line in told), told


def test_all_mistakes_are_told_at_once_also_across_cells():
    text = (BASE.replace("samples = 8", "sampels = 8").replace("step_size = 0.1", "step_size = -1").replace("[6]", "[]")
            + '[record]\ntimes = 3\n[[cells]]\nname = "one"\ntraining.steps = -1\n[[cells]]\nname = "two"\n'
              'network.init.scael = 1\n[predictions]\nracing = 1')
    told = "\n".join(mistakes(text))
    for key in ("task.samples: is missing", "task.sampels: unknown", "training.step_size: ", "network.hidden: ",
                "record.times: ", "cell one: training.steps:", "cell two: network.init.scael: ", "predictions.racing:"):
        assert told.count(key) == 1, (key, told)


@pytest.mark.parametrize("text, line", [
    ("[study\n", "line 1"), ("[study]\nname = \n", "line 2"), ("[a]\n[a]\n", "line 2"),
    ("[study]\nname = 'x' 'y'", "line 2"), ("x = 1\ny = [1,", "")])
def test_syntax_errors_are_told_with_their_line(text, line):
    (told,) = mistakes(text)
    assert told.startswith("not valid TOML: ") and line in told


@pytest.mark.parametrize("text", [
    "[study]\nx = " + "[" * 3000 + "]" * 3000,
    BASE + "x = " + "{a=" * 200 + "1" + "}" * 200,
    BASE.replace("[task]", "[task]\n" + ".".join("a" * 3000) + " = 1"),
    BASE + "[[cells]]\nname = 'a'\n" + ".".join("a" * 3000) + " = 1",
    BASE + "[predictions]\nracing." + ".".join("a" * 3000) + " = 1",
    BASE + "[" + ".".join(["sweep", *("a" * 3000)]) + "]",
])
def test_deep_nesting_is_a_mistake_like_any_other(text):
    assert any(word in mistakes(text)[0] for word in ("nested", "recursion", "parts"))


def test_what_is_no_study_file_says_so(tmp_path):
    cases = {"missing.toml": None, "empty.toml": b"", "binary.toml": b"\xff\xfe\x00", "large.toml": b"#" * 1_000_001}
    for name, data in cases.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(StudyError, match=name) as caught:
            load_study(path)
        if name == "empty.toml":
            assert "study.name: is missing" in str(caught.value) and "task.kind: is missing" in str(caught.value)
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(tmp_path)


def test_a_mistake_has_an_end():
    (told,) = mistakes(BASE.replace('"gaussian"', '"' + 5000 * "x" + '"'))
    assert len(told) == 600 and told.endswith(" ...")


@pytest.mark.parametrize("old, new, layered", [
    ("", "", False), ("[6]", "[6, 6]", True), ("gaussian", "equivariant", True), ("[6]", "[6]\nbias = true", True)])
def test_more_than_one_layer_or_output_is_layered(old, new, layered):
    study = parse_study(BASE.replace("dimension = 3", "dimension = 2").replace(old, new))
    assert study.cells[0].config.layered == layered


def test_the_nearest_name():
    assert nearest("lerning", ["training", "learning"]).startswith("did you mean 'learning'?")
    assert nearest("zzz", ["b", "a"]) == "Valid names: a, b"


# ------------------------------------------------------------------------------------------------- recording times


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(["log", "linear"]), st.integers(2, 2000), st.integers(1, 10**9))
@example("log", 100_000, 100_000)
@example("log", 99_999, 100_000)
@example("log", 100_000, 10**9)
@example("linear", 100_000, 100_001)
@example("log", 2, 1)
@example("log", 3, 2)
def test_recording_steps(spacing, count, steps):
    found = recording_steps(Times(spacing=spacing, count=count), steps)
    assert found.dtype == np.int64 and found[0] == 0 and found[-1] == steps
    assert (np.diff(found) > 0).all() and len(found) == min(count, steps + 1)


def test_log_spacing_is_dense_first_and_even_in_the_logarithm_then():
    found = recording_steps(Times(count=48), 5000)
    gaps, ratios = np.diff(found), np.diff(np.log(found[1:]))
    assert (np.diff(gaps) >= -1).all(), "gaps never shrink but for rounding"
    even = ratios[found[1:-1] > 100]
    assert even.max() - even.min() < 0.02


def test_linear_spacing_is_even():
    assert recording_steps(Times(spacing="linear", count=5), 100).tolist() == [0, 25, 50, 75, 100]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 50), min_size=1).map(sorted), st.integers(1, 60))
def test_a_list_of_times_is_taken_up_to_the_last_step(times, steps):
    assert recording_steps(tuple(times), steps).tolist() == [t for t in times if t <= steps]


# ------------------------------------------------------------------------------------------------- anything else


ODD = ["0", "-1", "1e400", "-0.0", "nan", "inf", "-inf", "1" + "0" * 500, "9223372036854775808", "true", '""', "'x'",
       '"µ∞\\u0000"', "[]", "[[]]", "{}", "[1, 'a']", "{ a = 1 }", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z",
       "[nan]", "[-1]", "0x10", "1_000", "'''\na\n'''", "[" * 50 + "]" * 50, "{ control = 'lazy' }",
       "{ first = 2, count = 3 }", "[0, 1, 2]", "['loss@start']"]
KEYS = ["a", '""', '"a.b"', '"network.init"', "scale", "kind", "'µ'", "network.init.scale", '"task.samples"', "steps"]
TABLES = ["[sweep]", "[sweep.grid]", "[sweep.zip]", "[sweep.random]", "[[cells]]", "[record.times]", "[x]",
          "[predictions.racing]", "[training.until]", "[network.init]", "[[task]]", "[study.seeds]"]


def mutated(text, rng):
    """The text with a few lines deleted, doubled, moved, or altered."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(lines))
        line = lines[place]
        key, equals, value = line.partition("=")
        kind = rng.randrange(9)
        if kind == 0:
            del lines[place]
        elif kind == 1:
            lines.insert(rng.randrange(len(lines)), line)
        elif kind == 2:
            lines.insert(place, rng.choice(TABLES))
        elif kind == 3:
            lines.insert(place, f"{rng.choice(KEYS)} = {rng.choice(ODD)}")
        elif kind in (4, 5) and equals:
            lines[place] = f"{key}= {rng.choice(ODD)}"
        elif kind == 6 and equals:
            lines[place] = f"{rng.choice(KEYS)} ={value}"
        elif kind == 7 and line:
            at = rng.randrange(len(line))
            lines[place] = line[:at] + rng.choice("=[]{}.,\"'#0-9 \t\x00é🏁") + line[at + rng.randint(0, 1) :]
        else:
            words = line.split()
            rng.shuffle(words)
            lines[place] = " ".join(words)
        if not lines:
            return ""
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(6))
def test_a_mutated_study_is_a_study_or_a_mistake(seed):
    rng, outcomes = random.Random(seed), []
    for _ in range(100):
        text = mutated(RACE, rng)
        try:
            study = complete(parse_study(text))
        except StudyError as error:
            assert str(error).strip(), text
            outcomes.append("mistake")
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{text}") from error
        else:
            assert study.cells and len({c.name for c in study.cells}) == len(study.cells), text
            outcomes.append("study")
    assert outcomes.count("mistake") > 30 and outcomes.count("study") > 5


# ------------------------------------------------------------------------------------------------- completing


TINY = """
[study]
name = "tiny"
seeds = 40
entropy = 1
[task]
kind = "gaussian"
samples = 8
dimension = 3
[network]
hidden = [4]
[training]
step_size = 0.1
steps = {steps}
[record]
observables = ["{observable}"]
[[cells]]
name = "{cell}"
"network.init.scale" = 2.0
[predictions]
racing = {{ control = "{control}" }}
"""
GOOD = {"steps": 10, "observable": "loss", "cell": "lazy", "control": "lazy"}


@pytest.mark.parametrize(("wrong", "sentences"), [
    ({"control": "lzy", "observable": "los"}, ["predictions.racing.control: no cell 'lzy'", "did you mean 'lazy'",
                                               "record.observables: unknown observable 'los'", "did you mean 'loss'"]),
    ({"cell": "main+half-step", "control": "main"}, ["kept for the cells at half the step"]),
    ({"steps": 600_000_000}, ["at half the step", "steps"]),
])
def test_what_cannot_be_completed_is_told_with_its_key(wrong, sentences):
    with pytest.raises(StudyError) as error:
        complete(parse_study(TINY.format(**GOOD | wrong)))
    assert all(sentence in str(error.value) for sentence in sentences)


def test_a_study_of_controls_alone_is_refused():
    text = TINY.format(**GOOD | {"control": "main"})
    text = text.replace('[[cells]]\nname = "lazy"\n"network.init.scale" = 2.0\n', "")
    with pytest.raises(StudyError, match="no cell is left to be judged"):
        complete(parse_study(text))
