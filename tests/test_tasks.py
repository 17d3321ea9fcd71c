"""Tasks: what samples are, that they are the same for whoever draws them, and what is said where data are lacking."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats
from sklearn.datasets import load_digits, load_sample_image

from mcrace import registry, tasks
from mcrace.errors import StudyError
from mcrace.seeds import SHARED, Stream
from mcrace.tasks import TASKS, Digits, Gaussian, Patches, Task, Teacher

IMAGES = load_digits()


def digits(**options):
    return Digits(**{"classes": (3, 8), "samples": 50, "center": False, "scale": "none", **options})


def gaussian(**options):
    return Gaussian(**{"dimension": 5, "samples": 40, "center": False, "scale": "none", **options})


# ------------------------------------------------------------------------------------------------- digits


@pytest.mark.parametrize("classes", [(3, 8), (8, 3), (0, 1)])
def test_samples_are_images_with_the_label_of_their_class(classes):
    task = digits(classes=classes)
    X, y = task.sample(task.pool(), 1, 4)
    assert X.shape == (50, 64) and X.shape[1] == task.inputs() and X.dtype == y.dtype == float
    of = {image.tobytes(): target for image, target in zip(IMAGES.data, IMAGES.target)}
    assert [of[x.tobytes()] for x in X] == [classes[1] if label > 0 else classes[0] for label in y]
    assert set(y) == {-1.0, 1.0}


def test_no_image_comes_twice_in_a_draw():
    task = digits()
    pool = task.pool()
    available = int(np.isin(IMAGES.target, (3, 8)).sum())
    assert len(pool["y"]) == len(pool["X"]) == available
    rows = np.arange(available, dtype=float)
    for samples in (1, 50, available):
        X, _ = digits(samples=samples).sample({"X": rows[:, None], "y": pool["y"]}, 1, 0)
        assert len(np.unique(X)) == samples


def test_every_image_is_drawn_as_often():
    task = digits(samples=10)
    rows = {"X": np.arange(40.0)[:, None], "y": np.ones(40)}
    drawn = np.concatenate([task.sample(rows, 3, i)[0][:, 0] for i in range(2000)]).astype(int)
    assert stats.chisquare(np.bincount(drawn, minlength=40)).pvalue > 1e-3


def test_more_samples_than_images_is_a_sentence():
    available = int(np.isin(IMAGES.target, (3, 8)).sum())
    with pytest.raises(StudyError, match=f"task.samples: classes 3 and 8 have {available} images together, fewer"):
        digits(samples=available + 1).pool()


@pytest.mark.parametrize("classes, message", [
    ((3, 3), "the same"), ((3, 10), "not 10"), ((-1, 3), "not -1"), ((-1, 11), "-1, 11")])
def test_classes_that_the_data_lack(classes, message):
    with pytest.raises(ValidationError, match=message):
        digits(classes=classes)


def test_missing_scikit_learn_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(StudyError, match=r"task.kind: 'digits' needs scikit-learn; install mcrace\[full\]"):
        digits().pool()


# ------------------------------------------------------------------------------------------------- gaussian


def test_gaussian_samples_are_normal_and_labelled_by_their_first_coordinate():
    X, y = gaussian(samples=4000).sample({}, 1, 2)
    assert X.shape == (4000, 5) and X.shape[1] == gaussian().inputs()
    assert np.array_equal(y, np.sign(X[:, 0]))
    assert stats.kstest(X.reshape(-1), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(X.T) - np.eye(5)).max() < 4 / np.sqrt(4000)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**40))
def test_symmetric_samples_come_in_pairs_with_odd_labels(pairs, dimension, network):
    X, y = gaussian(samples=2 * pairs, dimension=dimension, symmetric=True).sample({}, 1, network)
    assert np.array_equal(X[:pairs], -X[pairs:]) and np.array_equal(y[:pairs], -y[pairs:])
    assert np.array_equal(y, np.sign(X[:, 0]))


def test_centring_keeps_the_symmetry():
    X, _ = gaussian(symmetric=True, center=True, scale="unit-rms").sample({}, 1, 0)
    assert np.abs(X[:20] + X[20:]).max() < 1e-15


def test_symmetric_samples_are_an_even_number():
    with pytest.raises(ValidationError, match="samples must be even"):
        gaussian(samples=7, symmetric=True)


# ------------------------------------------------------------------------------------------------- teacher


def teacher(**options):
    return Teacher(**{"dimension": 5, "samples": 40, "teacher_neurons": 3, "center": False, "scale": "none", **options})


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**40), st.booleans())
def test_labels_are_those_of_the_teacher(neurons, dimension, network, own):
    options = {"teacher_neurons": neurons, "dimension": dimension, "fresh_teacher": own}
    W = Stream(6, "teacher", network if own else SHARED).normals(neurons, dimension) / np.sqrt(dimension)
    v = np.resize([1.0, -1.0], neurons) / np.sqrt(neurons)
    X, y = teacher(**options, labels="value", loss="mse").sample({}, 6, network)
    expected = np.maximum(X @ W.T, 0) @ v
    assert np.abs(y - expected).max() < 1e-13
    other_X, signs = teacher(**options).sample({}, 6, network)
    assert np.array_equal(X, other_X) and np.array_equal(signs, np.where(y > 0, 1.0, -1.0))


def test_one_teacher_for_all_or_one_for_each():
    streams = [Stream(6, "data", i) for i in (0, 1)]
    shared, own = ([task.weights(s) for s in streams] for task in (teacher(), teacher(fresh_teacher=True)))
    assert np.array_equal(*shared) and not np.array_equal(*own) and not np.array_equal(own[0], shared[0])
    assert not np.array_equal(shared[0], teacher().weights(Stream(7, "data", 0)))
    for task in (teacher(), teacher(fresh_teacher=True)):
        assert np.array_equal(task.weights(streams[0]), task.weights(streams[0].other("test"))), "tests have the same teacher"


@pytest.mark.parametrize("neurons", [1, 2, 5])
def test_teachers_give_both_labels(neurons):
    task = teacher(teacher_neurons=neurons, fresh_teacher=True, samples=400)
    shares = [np.mean(task.sample({}, 1, i)[1] > 0) for i in range(100)]
    assert abs(np.mean(shares) - 0.5) < 0.15 and np.mean([0.02 < s < 0.98 for s in shares]) > 0.8


def test_pairs_have_their_own_labels():
    X, y = teacher(symmetric=True, labels="value", loss="mse").sample({}, 1, 0)
    assert np.array_equal(X[:20], -X[20:]) and not np.allclose(y[:20], -y[20:])


@pytest.mark.parametrize("options, message", [
    ({"labels": "value"}, 'labels = "value" goes with loss = "mse"'),
    ({"fresh_teacher": True, "fresh": False}, "fresh_teacher = true goes with fresh = true"),
    ({"teacher_neurons": 0}, "greater than or equal to 1"),
    ({"symmetric": True, "samples": 7}, "samples must be even"),
])
def test_options_of_a_teacher_that_cannot_be(options, message):
    with pytest.raises(ValidationError, match=message):
        teacher(**options)


# ------------------------------------------------------------------------------------------------- patches


def patches(**options):
    return Patches(**{"samples": 21, "size": 6, "center": False, "scale": "none", **options})


PHOTOGRAPHS = patches().pool()


@pytest.mark.parametrize("size, samples", [(1, 9), (6, 21), (32, 10), (427, 4)])
def test_patches_are_parts_of_the_photograph_that_is_their_label(size, samples):
    task = patches(size=size, samples=samples)
    X, y = task.sample(PHOTOGRAPHS, 1, 7)
    assert X.shape == (samples, 3 * size**2) and X.shape[1] == task.inputs()
    half = samples - samples // 2
    assert y.tolist() == [-1] * half + [1] * (samples - half)
    orders = Stream(1, "data", 7).choices((428 - size) * (641 - size), 2, half)
    images = [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    for n in (0, 1, half, samples - 1):
        which = int(y[n] > 0)
        top, left = divmod(int(orders[which, n - which * half]), 641 - size)
        assert np.array_equal(X[n], images[which][top : top + size, left : left + size].reshape(-1) / 255)


def test_every_position_is_cut_and_none_twice(monkeypatch):
    monkeypatch.setattr("mcrace.tasks.patches.HEIGHT", 8)
    monkeypatch.setattr("mcrace.tasks.patches.WIDTH", 9)
    small = {name: np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3) for name in PHOTOGRAPHS}
    X, _ = patches(samples=2 * 3 * 4).sample(small, 1, 0)
    corners = [3 * (9 * row + column) for row in range(3) for column in range(4)]
    for half in (X[:12], X[12:]):
        assert sorted(np.round(half[:, 0] * 255).astype(int).tolist()) == corners


def test_patches_that_do_not_fit():
    with pytest.raises(ValidationError, match="patches of 427 pixels have 428 positions, fewer than the 429 asked for"):
        patches(size=427, samples=400, test_samples=29)
    with pytest.raises(ValidationError, match="less than or equal to 427"):
        patches(size=428)


def test_missing_photographs_are_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(StudyError, match=r"'patches' needs scikit-learn and pillow; install mcrace\[full\]"):
        patches().pool()


# ------------------------------------------------------------------------------------------------- what all tasks share


TASK_MAKERS = [digits, gaussian, lambda **o: gaussian(symmetric=True, **o), teacher, patches]


@pytest.mark.parametrize("make", TASK_MAKERS)
def test_a_network_has_its_samples_whoever_draws_them(make):
    task = make()
    pool = task.pool()
    X, y = task.sample(pool, 9, 3)
    for entropy, network, same in ((9, 3, True), (9, 4, False), (8, 3, False)):
        other_X, other_y = make().sample(make().pool(), entropy, network)
        assert (np.array_equal(X, other_X) and np.array_equal(y, other_y)) == same


@pytest.mark.parametrize("make", TASK_MAKERS)
def test_shared_samples_are_one_set_for_all_networks(make):
    task = make(fresh=False)
    pool = task.pool()
    X, y = task.sample(pool, 9, 3)
    for network in (0, 17, 2**50):
        other_X, other_y = task.sample(pool, 9, network)
        assert np.array_equal(X, other_X) and np.array_equal(y, other_y)
    assert np.array_equal(X, task.draw(pool, Stream(9, "data", SHARED))[0])
    assert not np.array_equal(X, task.sample(pool, 10, 3)[0])
    assert not np.array_equal(X, make().sample(pool, 9, 3)[0])


@pytest.mark.parametrize("make", TASK_MAKERS)
@pytest.mark.parametrize("fresh", [True, False])
def test_permuting_labels_leaves_the_inputs_and_the_number_of_each_label(make, fresh):
    plain, shuffled = make(fresh=fresh), make(fresh=fresh, permute_labels=True)
    pool = plain.pool()
    (X, y), (other_X, other_y) = plain.sample(pool, 2, 6), shuffled.sample(pool, 2, 6)
    assert np.array_equal(X, other_X)
    order = Stream(2, "labels", 6 if fresh else SHARED).permutation(len(y))
    assert np.array_equal(other_y, y[order]) and not np.array_equal(y, other_y)


def test_permuted_labels_say_nothing_of_the_inputs():
    agree = [np.mean(y == np.sign(X[:, 0])) for X, y in (
        gaussian(permute_labels=True).sample({}, 5, i) for i in range(400))]
    assert abs(np.mean(agree) - 0.5) < 4 * np.std(agree) / np.sqrt(400)


@pytest.mark.parametrize("make", TASK_MAKERS)
def test_centring_and_scaling(make):
    task = make()
    pool = task.pool()
    raw, _ = task.sample(pool, 1, 0)
    centred, _ = make(center=True).sample(pool, 1, 0)
    scaled, _ = make(scale="unit-rms").sample(pool, 1, 0)
    both, _ = make(center=True, scale="unit-rms").sample(pool, 1, 0)
    assert np.abs(centred - (raw - raw.mean(axis=0))).max() < 1e-13 * np.abs(raw).max()
    assert abs((scaled**2).sum(axis=1).mean() - 1) < 1e-13 and abs((both**2).sum(axis=1).mean() - 1) < 1e-13
    assert np.abs(both.mean(axis=0)).max() < 1e-15
    factor = raw[raw != 0] / scaled[raw != 0]
    assert np.ptp(factor) < 1e-14 * factor.max(), "one factor for all samples and features"


def test_samples_without_extent_stay_zero():
    assert np.array_equal(gaussian(samples=1, center=True, scale="unit-rms").sample({}, 1, 0)[0], np.zeros((1, 5)))


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(StudyError, match=r"unknown task 'digist': did you mean 'digits'\?"):
        TASKS["digist"]
    assert "digits" in TASKS and "digist" not in TASKS and {"digits", "gaussian"} <= set(TASKS)


def test_a_task_from_outside_is_one_class(monkeypatch):
    monkeypatch.setattr(TASKS, "_things", dict(TASKS._things))

    @tasks.task("ones")
    class Ones(Task):
        """All inputs and labels are 1."""

        def inputs(self):
            return 2

        def draw(self, pool, stream):
            return np.ones((self.samples, 2)), np.ones(self.samples)

    assert TASKS["ones"] is Ones
    X, y = Ones(kind="ones", samples=3, center=False).sample({}, 1, 0)
    assert np.allclose((X**2).sum(axis=1), 1) and y.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="'ones' is there already"):
        tasks.task("ones")(Gaussian)


def test_installed_plug_ins_are_found(monkeypatch):
    class Point:
        dist = None

        def load(self):
            TASKS_HERE.add("from outside")(object())

    TASKS_HERE = registry.Registry("task", "some.group")
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "some.group" else [])
    assert list(TASKS_HERE) == ["from outside"]
