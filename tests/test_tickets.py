"""Tickets: who is chosen, and that a part trained alone is what plain descent of that part gives."""

from dataclasses import replace

import naive
import numpy as np
import pytest
import studies
from test_invariance import differing, shard

import mcrace
from mcrace.completion import complete
from mcrace.errors import StudyError
from mcrace.initial import initial_weights
from mcrace.observe.capacity import fewest_kept
from mcrace.recording import Status
from mcrace.schedule import step_sizes
from mcrace.stages import STAGES
from mcrace.stages.tickets import OWN, TEN, VARIANTS, Start, _wider, another_direction, matched
from mcrace.training import train
from mcrace.worker import compute, configuration, kernel_of

SMALL = {"dtype": '"float64"', "hidden": "[22]", "samples": "24", "dimension": "6", "until": "{ loss_drop = 0.91 }"}


def study(more="", **changes):
    """A small study whose main cell trains tickets."""
    text = studies.race(24, **({**SMALL, "observables": '["loss"]'} | changes))
    text = text.replace("[[cells]]", f"{more}\n[[cells]]", 1).replace("weights = ", 'stages = ["tickets"]\nweights = ')
    return complete(mcrace.parse_study(text[: text.index("[predictions]")]))


@pytest.fixture(scope="module")
def small():
    """The study, and the variables of its main cell's only shard."""
    found = study()
    return found, compute(shard(found, found.cells[0], range(24), 24), {})


def column(variables, name, variant):
    return variables[name].values[:, VARIANTS.index(variant)]


# ------------------------------------------------------------------------------------------------- who is chosen


def at_start(variables):
    """The `Start` of the networks, from what the file holds."""
    states = variables["state"].values.tolist()
    at = {n: variables[f"{n}_at"].values[:, states.index("start")] for n in
          ("output_weight", "norm_product", "input_norm", "cosine", "drift_norm", "active")}
    handicap = (np.abs(at["output_weight"]) + at["input_norm"] * at["cosine"]) ** 2 / 4
    return at, handicap


def test_half_a_ticket_of_each_sign_with_the_highest_scores(small):
    _, variables = small
    at, handicap = at_start(variables)
    states = variables["state"].values.tolist()
    end = states.index("level=0.1")
    v, sizes = at["output_weight"], variables["ticket_size"].values
    fewest = fewest_kept(variables["merge_curve_at"].values[:, end], np.full(24, np.log(2)))
    expected = np.where(np.isnan(fewest), 0, np.clip(2 * np.ceil(fewest / 2), 4, 16))
    assert np.array_equal(sizes, expected) and set(sizes) == {0, 4, 6, 8}
    scores = {"winners": variables["norm_product_at"].values[:, end], "handicap": handicap, "a0": at["norm_product"],
              "snip": at["norm_product"] * at["drift_norm"] * np.abs(at["cosine"])}
    own = {name: (score, sizes) for name, score in scores.items()}
    ten = {f"ten:{n}": (s, np.full(24, 10)) for n, s in {**scores, "cosine": at["cosine"]}.items() if f"ten:{n}" in VARIANTS}
    for name, (score, size) in {**own, **ten}.items():
        for i, chosen in enumerate(column(variables, "ticket_neurons", name)):
            chosen, expected = set(chosen[chosen >= 0].tolist()), set()
            for sign in (-1, 1):
                able = [a for a in range(22) if v[i, a] * sign > 0 and at["active"][i, a]]
                expected |= set(sorted(able, key=lambda a: -score[i, a])[: size[i] // 2])
            assert chosen == expected, (name, i)


def test_random_tickets_are_random_and_new_ones_new(small):
    _, variables = small
    sizes = variables["ticket_size"].values
    random = [column(variables, "ticket_neurons", f"ten:random-{k}") for k in range(10)]
    assert len({r.tobytes() for r in random}) == 10
    counts = np.bincount(np.concatenate(random).reshape(-1)[np.concatenate(random).reshape(-1) >= 0], minlength=22)
    assert counts.min() > 60 and counts.sum() == np.sum([(r >= 0).sum() for r in random]), "each about 24·10·10/22 = 109 times"
    new = column(variables, "ticket_neurons", "fresh")
    assert ((new >= 22) | (new == -1)).all() and np.array_equal((new >= 0).sum(axis=1), sizes)


def test_matched_neurons_are_off_the_ticket_of_the_same_sign_and_of_like_norms(small):
    _, variables = small
    at, _ = at_start(variables)
    a, v = at["norm_product"], at["output_weight"]
    apart, others = [], []
    for i, (ticket, match) in enumerate(zip(column(variables, "ticket_neurons", "ten:handicap"),
                                            column(variables, "ticket_neurons", "ten:matched"))):
        pairs = [(x, z) for x, z in zip(ticket, match) if z >= 0]
        assert len({z for _, z in pairs}) == len(pairs) and not {z for _, z in pairs} & set(ticket.tolist())
        assert all(v[i, x] * v[i, z] > 0 for x, z in pairs)
        apart += [abs(np.log(a[i, x] / a[i, z])) for x, z in pairs]
        off = set(range(22)) - set(ticket.tolist())
        others += [abs(np.log(a[i, x] / a[i, z])) for x, _ in pairs for z in off if v[i, x] * v[i, z] > 0]
    assert np.mean(apart) < 0.7 * np.mean(others)


def test_the_nearest_free_neuron_is_taken():
    a, v = np.array([[1.0, 2.0, 1.1, 0.5, 1.05, 1.01]]), np.array([[1.0, 1, 1, 1, -1, 1]])
    usable, out = np.array([[True] * 5 + [False]]), np.empty((1, 4), np.int64)
    matched(np.array([[0, 4, -1, 1]]), v, a, usable, out)
    assert out.tolist() == [[2, -1, -1, 3]], "1.1 for 1; nothing of sign -1; nothing for nothing; 0.5 is left for 2"


def test_neurons_that_are_dead_or_have_no_score_are_not_chosen():
    v, score = np.array([[1.0, 1, 1, -1, -1]]), np.array([[3.0, 2.0, np.nan, 1.0, 5.0]])
    usable = np.array([[False, True, True, True, True]])
    start = Start(v, score, score, score, score, usable, np.ones(1))
    assert start.highest(score, np.array([4]), 5).tolist() == [[1, -1, -1, 4, 3]]
    assert start.highest(score, np.array([3]), 3).tolist() == [[1, -1, 4]]
    assert start.sum_of(score, np.array([[1, -1, 4]])) == [7.0]
    assert all(np.isnan(start.sum_of(score, np.array([chosen]))).all() for chosen in ([-1, -1], [1, 7], [1, 2]))


# ------------------------------------------------------------------------------------------------- the other labels


def test_labels_of_another_direction():
    rng = np.random.default_rng(1)
    half = rng.normal(size=(6, 30, 5))
    X = np.concatenate([half, -half], axis=1)
    y = np.where(X[:, :, 0] > 0, 1.0, -1.0)
    seeds = np.arange(3, 9)
    found = another_direction(11, X, y, seeds)
    assert set(np.unique(found)) == {-1.0, 1.0} and np.array_equal(found[:, :30], -found[:, 30:]), "odd, as the true ones"
    assert (abs((found * y).mean(axis=1)) < 0.6).all() and abs((found * y).mean()) < 0.2
    # some u that is orthogonal to the drift separates them: the least-squares direction is not far from orthogonal
    drift, other = (y[:, :, None] * X).mean(axis=1), (found[:, :, None] * X).mean(axis=1)
    cosine = (drift * other).sum(axis=1) / np.linalg.norm(drift, axis=1) / np.linalg.norm(other, axis=1)
    assert (abs(cosine) < 0.4).all()
    for i in (0, 4):
        assert np.array_equal(another_direction(11, X[i : i + 1], y[i : i + 1], seeds[i : i + 1])[0], found[i])
    assert not np.array_equal(another_direction(12, X, y, seeds), found)
    shared = another_direction(11, X[0], y[0], seeds)
    assert shared.shape == (60,) and np.array_equal(shared, another_direction(11, X[0], y[0], seeds[:1]))


# ------------------------------------------------------------------------------------------------- training again


@pytest.mark.parametrize("variant", ["winners", "fresh", "ten:a0", "ten:random-3", "other:handicap"])
def test_a_ticket_is_trained_as_plain_descent_trains_that_part_alone(small, variant):
    """With the neurons of weight 0 that are packed beside it, it comes to the same steps and losses."""
    found, variables = small
    config = found.cells[0].config
    seeds = np.arange(24)
    W, v = initial_weights(_wider(config), found.entropy, seeds)
    X, y = config.task.samples_of({}, found.entropy, seeds)
    if variant.startswith("other:"):
        y = another_direction(found.entropy, X, y, seeds)
    chosen, steps = column(variables, "ticket_neurons", variant), column(variables, "ticket_onset_step", variant)
    times, losses = column(variables, "ticket_onset_time", variant), column(variables, "ticket_final_loss", variant)
    for i in (0, 5, 23):
        part = chosen[i][chosen[i] >= 0]
        way = naive.path(W[i, part], v[i, part], X[i], y[i], "logistic", [0.5] * 300)
        loss = np.array([naive.loss(naive.outputs(w, u, X[i]), y[i], "logistic") for w, u in way])
        expected = int(naive.met(loss, 0.99 * np.log(2), 10**6))
        assert steps[i] == expected and (times[i] == 0.5 * expected if expected >= 0 else np.isnan(times[i]))
        if variant in OWN:
            end = naive.met(loss, 0.09 * np.log(2), 300)
            assert losses[i] == pytest.approx(loss[end], rel=1e-9)
            assert column(variables, "ticket_stop_step", variant)[i] == end
        else:
            assert np.isnan(losses[i])


def test_handicaps_and_clocks(small):
    _, variables = small
    at, handicap = at_start(variables)
    for name in ("winners", "ten:matched", "other:cosine"):
        chosen = column(variables, "ticket_neurons", name)
        sums = [handicap[i, c[c >= 0]].sum() if (c >= 0).any() else np.nan for i, c in enumerate(chosen)]
        assert column(variables, "ticket_handicap", name) == pytest.approx(np.array(sums), nan_ok=True)
    assert np.isnan(column(variables, "ticket_handicap", "fresh")).all()
    medians = [np.median(d[on == 1]) for d, on in zip(at["drift_norm"], at["active"])]
    assert variables["ticket_clock"].values.tolist() == medians
    assert not np.array_equal(variables["ticket_clock_other"].values, variables["ticket_clock"].values)
    assert np.array_equal(variables["variant"].values, VARIANTS) and len(VARIANTS) == len(OWN) + 2 * len(TEN)


def test_no_bit_hangs_on_the_shard_or_the_batch(small):
    found, variables = small
    some = compute(shard(found, found.cells[0], range(5, 22), 4), {})
    assert differing(some, variables, slice(5, 22)) == []
    again = study(fresh="false", dtype='"float32"', hidden="[8]")
    whole = compute(shard(again, again.cells[0], range(12), 12), {})
    assert differing(compute(shard(again, again.cells[0], range(3, 9), 6), {}), whole, slice(3, 9)) == []
    assert (whole["ticket_neurons"].values[:, VARIANTS.index("ten:a0")] >= 0).sum(axis=1).max() == 8


def test_networks_that_do_not_get_to_the_end_have_no_winners():
    short = study(steps="12")
    variables = compute(shard(short, short.cells[0], range(8), 8), {})
    assert (variables["ticket_size"].values == 0).all()
    for name in OWN:
        assert (column(variables, "ticket_onset_step", name) == -1).all()
        assert np.isnan(column(variables, "ticket_final_loss", name)).all()
    assert (column(variables, "ticket_neurons", "ten:a0") >= 0).any(), "the others need no end"


def test_neurons_of_weight_0_do_not_move_with_momentum_and_decay():
    moving = study(more='[training.schedule]\nwarm_up = 3', step_size="0.1")
    cell = moving.cells[0]
    training = cell.config.training.model_copy(update={
        "method": "heavy-ball", "momentum": 0.9, "weight_decay": 1e-3, "initial_velocity": 0.1})
    cell = replace(cell, config=replace(cell.config, training=training))
    variables = compute(shard(moving, cell, range(8), 8), {})
    W, v = initial_weights(cell.config, moving.entropy, np.arange(8))
    X, y = cell.config.task.samples_of({}, moving.entropy, np.arange(8))
    etas = step_sizes(training, 0, 300)
    part = column(variables, "ticket_neurons", "ten:a0")[2]
    part = part[part >= 0]
    way = naive.path(W[2, part], v[2, part], X[2], y[2], "logistic", etas, 1e-3, 0.9)
    loss = [naive.loss(naive.outputs(w, u, X[2]), y[2], "logistic") for w, u in way]
    onset = naive.met(loss, 0.99 * np.log(2), 10**6)
    assert column(variables, "ticket_onset_step", "ten:a0")[2] == onset > 3
    assert column(variables, "ticket_onset_time", "ten:a0")[2] == pytest.approx(etas[:onset].sum(), rel=1e-12)


def test_the_stage_is_named_and_has_a_cost():
    config = configuration(study().cells[0].config.plain())
    assert 1 < STAGES["tickets"].work(config) < 20 and "initial weights" in STAGES["tickets"].text
    with pytest.raises(StudyError, match="unknown stage 'ticket': did you mean 'tickets'"):
        text = studies.race().replace("weights = ", 'stages = ["ticket"]\nweights = ')
        complete(mcrace.parse_study(text))


@pytest.mark.parametrize("dimension, kernel", [(6, "one-layer-lanes"), (400, "one-layer-gram")])
def test_a_batch_of_neurons_of_weight_0_alone_ends_at_once_in_every_kernel(dimension, kernel):
    cell = study(dimension=str(dimension), dtype='"float32"').cells[0]
    assert kernel_of(cell.config) == kernel
    zeros = lambda seeds: (np.zeros((len(seeds), 22, dimension)), np.zeros((len(seeds), 22)))
    record = train(cell.config, {}, 1, np.arange(3), np.array([0, 5]), 16, zeros)
    assert (record.status == Status.DEAD).all() and (record.stop_step == 0).all()
