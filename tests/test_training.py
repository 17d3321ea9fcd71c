"""Whole runs against plain NumPy, one network at a time: what is recorded, when, and how networks end."""

import naive
import numpy as np
import pytest

from mcrace.kernels import GramNetworks, OneLayerNetworks
from mcrace.recording import STATUS_TEXT, Status, Wanted
from mcrace.schedule import first_steps_at, step_sizes, times_at
from mcrace.sections import Training, recording_steps
from mcrace.seeds import SHARED, Stream, batches
from mcrace.study import parse_study
from mcrace.training import initial_velocities, initial_weights, train
from mcrace.worker import kernel_of

ENTROPY = 31
SCALARS = ("loss", "accuracy", "mean_cosine", "alignment", "clusters_95")
OF_NEURONS = ("norm_product", "output_weight", "input_norm", "drift_norm", "cosine", "cosine_permuted", "active",
              "balancedness", "cluster")
GRID = (*SCALARS, *OF_NEURONS)
STATES = ("start", "tau=1", "onset", "level=0.5", "level=0.2", "level=0.12", "final")
LEVELS = {"onset": 0.99, "level=0.5": 0.5, "level=0.2": 0.2, "level=0.12": 0.12}


def config(observables=(*GRID, *(f"{n}@{s}" for s in STATES for n in GRID)), **changes):
    """A tiny cell; the observables are all there are, on the grid and at all states."""
    values = {"samples": 12, "dimension": 5, "task": "", "loss": "logistic", "hidden": 7, "init": "scale = 0.5",
              "step_size": 1.0, "steps": 60, "training": "until = { loss_drop = 0.9 }", "dtype": "float64",
              "times": "{ count = 9 }", "weights": "ends"} | changes
    listed = ", ".join(f'"{o}"' for o in observables)
    return parse_study(f"""
[study]
name = "tiny"
seeds = 1
entropy = {ENTROPY}
[task]
kind = "gaussian"
samples = {values["samples"]}
dimension = {values["dimension"]}
loss = "{values["loss"]}"
{values["task"]}
[network]
hidden = [{values["hidden"]}]
init = {{ {values["init"]} }}
[training]
step_size = {values["step_size"]}
steps = {values["steps"]}
dtype = "{values["dtype"]}"
{values["training"]}
[record]
times = {values["times"]}
weights = "{values["weights"]}"
observables = [{listed}]
""").cells[0].config


def run(config, seeds=20, batch=16, times=None):
    times = recording_steps(config.record.times, config.training.steps) if times is None else np.array(times)
    return train(config, config.task.pool(), ENTROPY, np.arange(seeds), times, batch)


# ------------------------------------------------------------------------------------------------- the oracle


class Naive:
    """One network, step by step in float64."""

    def __init__(self, config, seed):
        task, training = config.task, config.training
        self.kind, self.seed = task.loss, seed
        self.X, self.y = task.sample(task.pool(), ENTROPY, seed)
        W, v = (a[0].astype(training.dtype).astype(float) for a in initial_weights(config, ENTROPY, np.array([seed])))
        etas = step_sizes(training, 0, training.steps)
        orders = None
        if training.batch:
            orders = batches(ENTROPY, np.array([seed]), 0, training.steps, task.samples, training.batch)[0]
        U, u = initial_velocities(config, ENTROPY, np.array([seed]))
        velocity = (U[0], u[0]) if len(U) else None
        with np.errstate(all="ignore"):
            self.path = naive.path(W, v, self.X, self.y, self.kind, etas, training.weight_decay, training.kept_velocity,
                                   velocity, orders)
            self.losses = [naive.loss(naive.outputs(*step, self.X), self.y, self.kind) for step in self.path]
        zero = naive.loss(0 * self.y, self.y, self.kind)
        drifts = np.linalg.norm(naive.drift(W, v, self.X, self.y, self.kind), axis=1)
        active = (self.X @ W.T > 0).any(axis=0)
        self.dead = not active.any()
        clock = np.concatenate([[0], np.cumsum(etas)])
        tau = np.flatnonzero(clock * np.median(drifts[active]) >= 1) if active.any() else []
        stop = -1
        if training.until:
            stop = naive.met(self.losses, (1 - training.until.loss_drop) * zero, np.inf)
        self.last = 0 if self.dead else stop if stop >= 0 else training.steps
        self.status = Status.DEAD if self.dead else Status.STOPPED if stop >= 0 else Status.STEPS
        self.state_step = {"start": 0, "final": self.last, "tau=1": int(tau[0]) if len(tau) else -1}
        self.state_step |= {s: naive.met(self.losses, level * zero, np.inf) for s, level in LEVELS.items()}
        self.state_step = {s: k if k <= self.last and (not self.dead or s in ("start", "final")) else -1
                           for s, k in self.state_step.items()}

    def outputs(self, step):
        return naive.outputs(*self.path[step], self.X)

    def observe(self, step):
        """Every observable at a step."""
        W, v = self.path[step]
        X, y = self.X, self.y
        f, D = naive.outputs(W, v, X), naive.drift(W, v, X, y, self.kind)
        order = Stream(ENTROPY, "labels", self.seed).permutation(len(y))
        norms, active = np.linalg.norm(W, axis=1), (X @ W.T > 0).any(axis=0)
        a, cosine = np.abs(v) * norms, naive.cosine(W, v, D)
        with np.errstate(invalid="ignore"):
            mean_cosine = (a * cosine)[active].sum() / a[active].sum()
        return {
            "loss": self.losses[step], "accuracy": np.mean(f * y > 0), "mean_cosine": mean_cosine,
            "alignment": naive.alignment(W, v), "clusters_95": naive.clusters_95(W, v, X), "norm_product": a,
            "output_weight": v, "input_norm": norms, "drift_norm": np.linalg.norm(D, axis=1), "cosine": cosine,
            "cosine_permuted": naive.cosine(W, v, naive.drift(W, v, X, y[order], self.kind)),
            "active": active.astype(int), "balancedness": norms**2 - v**2, "cluster": naive.clusters(W, v, X)}


def nothing(values):
    """Whether entries hold nothing: NaN, or -1 for integers."""
    return (values == -1).all() if np.issubdtype(values.dtype, np.integer) else np.isnan(values).all()


CASES = {
    "logistic": {},
    "mse, symmetric, no stop": {"loss": "mse", "task": "symmetric = true", "training": "", "step_size": 0.25},
    "lazy pairs": {"hidden": 8, "init": "scale = 1.0, paired = true", "step_size": 0.5},
    "small start": {"init": "scale = 1e-2", "steps": 90},
    "unbalanced": {"init": "scale = 0.5, balanced = false", "loss": "mse", "step_size": 0.125},
    "Gram": {"dimension": 40, "samples": 6, "hidden": 9, "step_size": 0.5},
    "heavy ball": {"training": 'method = "heavy-ball"\nmomentum = 0.75\ninitial_velocity = 0.125\n'
                               "until = { loss_drop = 0.8 }", "step_size": 0.125},
    "decay": {"training": "weight_decay = 0.0625\nuntil = { loss_drop = 0.5 }"},
    "minibatches": {"training": "batch = 5\nuntil = { loss_drop = 0.7 }", "step_size": 0.25},
    "schedule": {"training": 'schedule = { kind = "cosine", warm_up = 7, floor = 0.1 }\nuntil = { loss_drop = 0.6 }'},
    "linear times": {"times": '{ spacing = "linear", count = 7 }'},
    "listed times": {"times": "[3, 4, 17, 59]"},
    "one neuron": {"hidden": 1, "samples": 4, "dimension": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_records_are_those_of_networks_trained_one_by_one(case):
    cell = config(**CASES[case])
    assert kernel_of(cell) == (GramNetworks if case == "Gram" else OneLayerNetworks).kernel
    found = run(cell)
    assert found.states == list(STATES)
    seen = set()
    for seed in range(20):
        one = Naive(cell, seed)
        assert found.status[seed] == one.status and found.stop_step[seed] == one.last
        assert dict(zip(found.states, found.state_step[seed].tolist())) == one.state_step
        seen |= {state for state, step in one.state_step.items() if step > 0}
        where = [(found.grid, place, step if step <= one.last else -1) for place, step in enumerate(found.times)]
        where += [(found.at, place, one.state_step[state]) for place, state in enumerate(found.states)]
        for records, place, step in where:
            expected = one.observe(step) if step >= 0 else {}
            for name in GRID:
                values = records[name][seed, place]
                if step < 0:
                    assert nothing(values), (name, place)
                else:
                    if name == "accuracy" and np.abs(one.outputs(step)).min() < 1e-12:
                        continue  # paired networks start at f = 0 but for rounding
                    close = np.allclose(values, expected[name], rtol=1e-8, atol=1e-10, equal_nan=True)
                    assert close, (seed, name, step)
        for state, step in (("start", 0), ("final", one.last)):
            for name, expected in zip(("W", "v"), one.path[step]):
                assert np.allclose(found.weights[f"{name}_{state}"][seed], expected, rtol=1e-9, atol=1e-11)
    if case == "logistic":
        assert seen == set(STATES) - {"start"}, "every state was reached by some network"
        assert len(set(found.stop_step)) > 5 and {Status.STEPS, Status.STOPPED} == set(found.status)


def test_shared_samples_are_those_of_the_shared_stream():
    found = run(config(task="fresh = false", observables=("loss",), training=""))
    X, y = config().task.model_copy(update={"fresh": False}).sample({}, ENTROPY, 5)
    assert np.array_equal(X, config().task.sample({}, ENTROPY, SHARED)[0])
    for seed in range(20):
        W, v = (found.weights[f"{n}_final"][seed] for n in ("W", "v"))
        expected = naive.loss(naive.outputs(W, v, X), y, "logistic")
        assert found.grid["loss"][seed, -1] == pytest.approx(expected, rel=1e-12)


def test_single_precision_trains_what_double_precision_does():
    single, double = (run(config(dtype=d, steps=20)) for d in ("float32", "float64"))
    assert np.abs(single.grid["loss"] - double.grid["loss"])[:, :6].max() < 1e-5
    assert single.grid["loss"].dtype == single.weights["W_final"].dtype == float
    assert np.array_equal(single.weights["W_start"], double.weights["W_start"].astype(np.float32))


def test_all_weights_are_kept_where_they_are_asked_for():
    cell = config(observables=(), weights="all", training="")
    found = run(cell, seeds=3)
    for seed in range(3):
        path = Naive(cell, seed).path
        for place, step in enumerate(found.times):
            assert np.allclose(found.weights["W"][seed, place], path[step][0], rtol=1e-9, atol=1e-11)
            assert np.allclose(found.weights["v"][seed, place], path[step][1], rtol=1e-9, atol=1e-11)
    assert not found.grid and not found.at


# ------------------------------------------------------------------------------------------------- how networks end


def test_a_stop_at_the_start():
    """A loss that is low enough at step 0: no step is taken, and the start is the end."""
    found = run(config(init="scale = 1.0", training="until = { loss_drop = 1e-3 }"))
    at_once = found.stop_step == 0
    assert at_once.any() and not at_once.all() and (found.status[at_once] == Status.STOPPED).all()
    assert np.isfinite(found.grid["loss"][at_once, 0]).all() and np.isnan(found.grid["loss"][at_once, 1:]).all()
    for name in ("W", "v"):
        assert np.array_equal(found.weights[f"{name}_start"][at_once], found.weights[f"{name}_final"][at_once])


def test_a_stop_at_a_recording_time_is_recorded_there():
    free = run(config(), seeds=4)
    stop = int(free.stop_step[0])
    found = run(config(), seeds=4, times=[0, stop - 1, stop, stop + 1])
    assert found.status[0] == Status.STOPPED and found.stop_step[0] == stop
    assert np.isfinite(found.grid["loss"][0, :3]).all() and np.isnan(found.grid["loss"][0, 3])
    assert found.grid["loss"][0, 2] == found.at["loss"][0, found.states.index("final")]


def test_a_stop_at_the_very_last_step_counts():
    free = run(config(), seeds=4)
    stop = int(free.stop_step[0])
    found = run(config(steps=stop), seeds=4)
    assert found.status[0] == Status.STOPPED and found.stop_step[0] == stop
    assert found.state_step[0, found.states.index("final")] == stop
    short = run(config(steps=stop - 1), seeds=4)
    assert short.status[0] == Status.STEPS and short.stop_step[0] == stop - 1


DEAD = {"samples": 2, "dimension": 1, "hidden": 1, "task": 'center = false\nscale = "none"', "step_size": 0.5}


@pytest.mark.parametrize("batch", [1, 16, 64])
def test_dead_networks_end_at_the_start_and_cost_the_others_nothing(batch):
    cell = config(**DEAD)
    found = run(cell, seeds=40, batch=batch)
    ones = [Naive(cell, seed) for seed in range(40)]
    dead = np.array([one.dead for one in ones])
    assert 3 < dead.sum() < 37 and np.array_equal(found.status == Status.DEAD, dead)
    assert (found.stop_step[dead] == 0).all()
    assert np.isfinite(found.grid["loss"][dead, 0]).all() and np.isnan(found.grid["loss"][dead, 1:]).all()
    assert (found.grid["cluster"][dead, 0] == 0).all() and (found.grid["active"][dead, 0] == 0).all()
    assert np.isnan(found.grid["cosine"][dead]).all() and np.isnan(found.grid["clusters_95"][dead]).all()
    places = [found.states.index(s) for s in ("start", "final")]
    assert (found.state_step[dead][:, places] == 0).all()
    assert (np.delete(found.state_step[dead], places, axis=1) == -1).all()
    assert np.array_equal(found.weights["W_final"][dead], found.weights["W_start"][dead])
    for seed in np.flatnonzero(~dead):
        assert found.stop_step[seed] == ones[seed].last and found.status[seed] == ones[seed].status
        assert np.allclose(found.weights["W_final"][seed], ones[seed].path[ones[seed].last][0], rtol=1e-9)


@pytest.mark.parametrize("times", ["{ count = 9 }", "[5, 9]"])
def test_a_batch_of_dead_networks_only(times):
    """One centred sample is zero, so nothing is ever on."""
    found = run(config(samples=1, times=times))
    assert (found.status == Status.DEAD).all() and (found.stop_step == 0).all()
    assert np.allclose(found.at["loss"][:, found.states.index("final")], np.log(2))


def test_diverged_networks_have_a_status_and_cost_the_others_nothing():
    changes = {"loss": "mse", "step_size": 2.5, "init": "scale = 1.0", "training": "", "samples": 3, "hidden": 3,
               "steps": 100}
    cell = config(**changes)
    found = run(cell, seeds=60)
    last = [Naive(cell, seed).path[-1] for seed in range(60)]
    diverged = np.array([not np.isfinite(v).all() for _, v in last])
    assert 3 < diverged.sum() < 57 and np.array_equal(found.status == Status.DIVERGED, diverged)
    assert (found.status[~diverged] == Status.STEPS).all()
    after = found.times[None, :] > found.stop_step[:, None]
    for name in GRID:
        assert nothing(found.grid[name][after])
    assert (found.stop_step[diverged] <= 100).all()
    assert not np.isfinite(found.weights["v_final"][diverged]).all(axis=1).any(), "a NaN stays a NaN"
    # the same seeds without those that diverge: the same bits
    alone = train(cell, {}, ENTROPY, np.flatnonzero(~diverged), found.times, 16)
    assert np.array_equal(alone.weights["W_final"], found.weights["W_final"][~diverged])
    assert np.array_equal(alone.grid["loss"], found.grid["loss"][~diverged])


def test_every_status_says_what_it_means():
    assert set(STATUS_TEXT) == set(Status)
    assert "step_size" in Status.DIVERGED.text and "training.steps" in Status.STEPS.text


# ------------------------------------------------------------------------------------------------- the same bits


FEW = ("loss", "norm_product", "alignment", "cosine@start", "norm_product@onset", "cosine@level=0.5", "active@final")
SAME = ["logistic", "Gram", "heavy ball", "decay", "minibatches", "schedule"]


def long_cell(case, dtype, observables=FEW):
    """A cell of many recording times, at which groups shrink and go on together."""
    changes = {"steps": 90, "times": "{ count = 25 }", "dtype": dtype, "observables": observables}
    return config(**CASES[case] | changes)


def same(one, other, grid=True):
    """Whether two runs recorded the same bits, on their grids too if these are the same."""
    tables = [(one.weights, other.weights), (one.at, other.at), *([(one.grid, other.grid)] if grid else [])]
    return (np.array_equal(one.status, other.status) and np.array_equal(one.stop_step, other.stop_step)
            and np.array_equal(one.state_step, other.state_step)
            and all(a.keys() == b.keys() for a, b in tables)
            and all(np.array_equal(a[name], b[name], equal_nan=True) for a, b in tables for name in a))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SAME)
def test_no_bit_hangs_on_the_batch(case, dtype):
    cell = long_cell(case, dtype)
    whole = run(cell, seeds=45, batch=64)
    assert len(set(whole.stop_step)) > 5, "groups shrink"
    for batch in (1, 7, 16, 44):
        assert same(whole, run(cell, seeds=45, batch=batch)), batch
    part = train(cell, {}, ENTROPY, np.array([44, 3, 17]), whole.times, 16)
    assert np.array_equal(part.weights["W_final"], whole.weights["W_final"][[44, 3, 17]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SAME)
def test_recording_changes_no_bit(case, dtype):
    cell = long_cell(case, dtype)
    whole = run(cell, seeds=45)
    for times in ([0, 90], [90], [0], [1], [0, 5, 6, 7, 30], list(range(0, 91, 3))):
        assert same(whole, run(cell, seeds=45, times=times), grid=False), times
    quiet = run(long_cell(case, dtype, observables=()), seeds=45)
    assert np.array_equal(quiet.weights["W_final"], whole.weights["W_final"])
    assert np.array_equal(quiet.stop_step, whole.stop_step) and not quiet.grid


# ------------------------------------------------------------------------------------------------- what is wanted


def test_states_stand_in_the_order_of_a_run():
    wanted = Wanted.parse(("loss", "cosine@level=0.05", "cosine@level=0.3", "loss@final", "loss@start", "loss@start"))
    assert list(wanted.states) == ["start", "tau=1", "onset", "level=0.5", "level=0.3", "level=0.05", "final"]
    assert wanted.grid == ["loss"] and wanted.states["level=0.3"] == ["cosine"] and wanted.states["onset"] == []


# ------------------------------------------------------------------------------------------------- schedules


SCHEDULES = [{}, {"warm_up": 5}, {"kind": "step", "every": 7, "factor": 0.5}, {"kind": "cosine"},
             {"kind": "cosine", "warm_up": 4, "floor": 0.25}, {"kind": "step", "every": 3, "factor": 0.9, "warm_up": 2}]


def by_hand(schedule, step, steps=40, size=0.3):
    """The size of a step."""
    warm = schedule.get("warm_up", 0)
    after = max(step - warm, 0)
    if schedule.get("kind") == "step":
        size *= schedule["factor"] ** (after // schedule["every"])
    if schedule.get("kind") == "cosine":
        floor = schedule.get("floor", 0.0)
        size *= floor + (1 - floor) * (1 + np.cos(np.pi * min(after / (steps - warm), 1))) / 2
    return size * (step + 1) / (warm + 1) if step < warm else size


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_step_sizes_and_their_clock(schedule):
    training = Training(step_size=0.3, steps=40, schedule=schedule)
    expected = np.array([by_hand(schedule, k) for k in range(40)])
    assert np.allclose(step_sizes(training, 0, 40), expected, rtol=1e-12, atol=1e-15)
    assert np.array_equal(step_sizes(training, 13, 29), step_sizes(training, 0, 40)[13:29])
    clock = np.concatenate([[0], np.cumsum(expected)])
    steps = np.array([0, 1, 2, 5, 17, 40])
    assert np.allclose(times_at(training, steps), clock[steps], rtol=1e-12)
    shuffled = np.array([[17, 0, 40], [5, 17, 1]])
    assert np.allclose(times_at(training, shuffled), clock[shuffled], rtol=1e-12)
    wanted = np.concatenate([clock[1:] - 1e-9, clock[1:-1] + 1e-9, [1e-9, clock[-1] + 1, np.inf]])
    first = [next((k for k in range(41) if clock[k] >= t), -7) for t in wanted]
    assert first_steps_at(training, wanted, -7).tolist() == first
