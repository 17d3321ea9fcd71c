"""Corruptions of inputs: their numbers, against plain NumPy and SciPy; who gets them; and that they are the same for all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage, stats

import mcrace
from mcrace.completion import complete
from mcrace.errors import StudyError
from mcrace.seeds import SHARED, Stream, decay
from mcrace.tasks import Cifar10, Digits, Gaussian, Patches
from mcrace.tasks.corruption import CLEAN, CONDITIONS, KINDS, SEVERITIES, Condition, Image, corrupted

PLAIN = {"center": False, "scale": "none"}


def digits(**options):
    return Digits(**{"classes": (3, 8), "samples": 40, "test_samples": 30, **PLAIN, **options})


def stream(network=0):
    return Stream(5, "test corruption", network)


def images(count, image, seed=0):
    """Random pixels, from black to white."""
    return image.white * np.random.default_rng(seed).random((count, image.height * image.width * image.channels))


def planes(X, image):
    """[sample, channel, row, column]"""
    if image.planes:
        return X.reshape(-1, image.channels, image.height, image.width)
    return np.moveaxis(X.reshape(-1, image.height, image.width, image.channels), 3, 1)


IMAGES = [Image(8, 8, white=16.0), Image(5, 7, 3), Image(4, 6, 3, planes=True), Image(1, 1), Image(1, 9)]


# ------------------------------------------------------------------------------------------------- numbers


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.floats(0, 700))
def test_decay_is_the_exponential(x):
    assert decay(x) == pytest.approx(np.exp(-x), rel=1e-13)


@pytest.mark.parametrize("mean", [0.0, 0.02, 1.0, 5.5, 60.0, 400.0])
def test_poisson_numbers_have_their_law(mean):
    """Each is the inverse of the distribution at its own word, as SciPy has it; so their mean and variance are right, too."""
    found = stream().poissons(np.full(20_000, mean))
    words = stream().words(20_000)
    expected = stats.poisson.ppf(((words >> np.uint64(12)).astype(float) + 0.5) * 2.0**-52, mean)
    assert np.array_equal(found, np.maximum(expected, 0))
    assert abs(found.mean() - mean) <= 5 * np.sqrt(mean / 20_000)


def test_the_numbers_are_those_of_the_theory():
    assert SEVERITIES["noise"] == (0.08, 0.12, 0.18, 0.26, 0.38) and SEVERITIES["shot"] == (60, 25, 12, 5, 3)
    assert SEVERITIES["blur"] == (0.4, 0.6, 0.7, 0.8, 1) and SEVERITIES["contrast"] == (0.4, 0.3, 0.2, 0.1, 0.05)
    assert [[c.kind for c in row] for row in CONDITIONS] == [[kind] * 5 for kind in KINDS]
    assert len({c.place for row in CONDITIONS for c in row} | {0}) == 21, "each condition has its own random numbers"


# ------------------------------------------------------------------------------------------------- what is done


@pytest.mark.parametrize("image", IMAGES, ids=str)
@pytest.mark.parametrize("severity", [1, 5])
def test_blur_is_that_of_scipy(image, severity):
    X = images(3, image)
    sigma = SEVERITIES["blur"][severity - 1]
    found = corrupted(X, Condition.of("blur", severity), image, stream())
    expected = ndimage.gaussian_filter(planes(X, image), (0, 0, sigma, sigma), mode="reflect", truncate=4.0)
    assert np.abs(planes(found, image) - expected).max() < 1e-13 * image.white


@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_contrast_keeps_the_mean_of_every_channel(image):
    X = images(3, image)
    for severity, factor in enumerate(SEVERITIES["contrast"], 1):
        found = planes(corrupted(X, Condition.of("contrast", severity), image, stream()), image)
        means = planes(X, image).mean(axis=(2, 3), keepdims=True)
        assert np.allclose(found, means + factor * (planes(X, image) - means), atol=1e-13 * image.white)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_stay_between_black_and_white(kind):
    for image in IMAGES:
        found = corrupted(images(50, image), Condition.of(kind, 5), image, stream())
        assert found.min() >= 0 and found.max() <= image.white


def test_noise_and_shot_noise_have_their_spread():
    image = Image(20, 20, white=16.0)
    grey = np.full((50, 400), 8.0)
    for severity in range(1, 4):  # where nearly nothing is cut off
        sigma, photons = SEVERITIES["noise"][severity - 1], SEVERITIES["shot"][severity - 1]
        noise = corrupted(grey, Condition.of("noise", severity), image, stream()) / 16
        shot = corrupted(grey, Condition.of("shot", severity), image, stream()) / 16
        assert noise.std() == pytest.approx(sigma, rel=0.03) and noise.mean() == pytest.approx(0.5, abs=0.005)
        assert shot.std() == pytest.approx(np.sqrt(0.5 / photons), rel=0.06) and shot.mean() == pytest.approx(0.5, abs=0.005)
        assert np.allclose(shot * photons, np.round(shot * photons)), "whole photons, or a white pixel"
    black = corrupted(np.zeros((1, 400)), Condition.of("shot", 5), image, stream())
    assert not black.any()


def test_inputs_that_are_no_images_have_noise_alone_and_are_not_cut():
    X = np.full((200, 50), 3.0)
    found = corrupted(X, Condition.noise(0.5), None, stream())
    assert found.std() == pytest.approx(0.5, rel=0.02) and found.mean() == pytest.approx(3, abs=0.02)
    assert corrupted(X, CLEAN, None, stream()) is X


# ------------------------------------------------------------------------------------------------- of tasks


def test_the_same_test_images_under_every_condition():
    task, networks = digits(), np.array([0, 3])
    pool = task.pool()
    clean, y = task.test_samples_of(pool, 7, networks)
    for row in CONDITIONS:
        for condition in row:
            found, labels = task.test_samples_of(pool, 7, networks, condition)
            streams = (Stream(7, "test corruption", n) for n in networks)
            own = [corrupted(X, condition, task.image(), stream) for X, stream in zip(clean, streams)]
            assert np.array_equal(found, np.stack(own)) and np.array_equal(labels, y) and not np.array_equal(found, clean)
    assert np.array_equal(task.test_samples_of(pool, 7, networks, CLEAN)[0], clean)


def test_conditions_and_networks_have_their_own_noise():
    task = digits()
    pool = task.pool()
    one, other = (task.test_samples_of(pool, 7, np.array([0, 1]), Condition.of("noise", s))[0] for s in (1, 2))
    clean = task.test_samples_of(pool, 7, np.array([0, 1]))[0]
    inside = (clean > 4) & (clean < 12)
    noises = [((X - clean) / s)[inside] for X, s in ((one, 0.08), (other, 0.12))]
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.2
    alone = task.test_samples_of(pool, 7, np.array([1]), Condition.of("noise", 1))[0]
    assert np.array_equal(alone[0], one[1]), "whoever else is tested"


@pytest.mark.parametrize("of, train, test", [("train", True, False), ("test", False, True), ("both", True, True)])
def test_which_samples_are_corrupted(of, train, test):
    plain = digits()
    pool, networks = plain.pool(), np.arange(2)
    task = digits(corruption={"kind": "shot", "severity": 3, "of": of})
    same = np.array_equal(task.samples_of(pool, 7, networks)[0], plain.samples_of(pool, 7, networks)[0])
    same_test = np.array_equal(task.test_samples_of(pool, 7, networks)[0], plain.test_samples_of(pool, 7, networks)[0])
    assert (same, same_test) == (not train, not test)
    clean = task.test_samples_of(pool, 7, networks, CLEAN)[0]
    assert np.array_equal(clean, plain.test_samples_of(pool, 7, networks)[0]), "a condition is asked for by name"


def test_corruption_comes_before_preparation():
    noisy = {"corruption": {"severity": 5}}
    raw, task = digits(**noisy), digits(center=True, scale="unit-rms", **noisy)
    pool = task.pool()
    X, _ = raw.samples_of(pool, 7, np.array([2]))
    prepared, _ = task.samples_of(pool, 7, np.array([2]))
    centred = X - X.mean(axis=1, keepdims=True)
    assert np.allclose(prepared, centred / np.sqrt((centred**2).sum(axis=2).mean()))


def test_pixels_in_a_random_order_the_same_for_all():
    plain, task = digits(), digits(permute_inputs=True)
    pool, order = task.pool(), Stream(7, "pixels", SHARED).permutation(64)
    for of in ("samples_of", "test_samples_of"):
        X, y = getattr(plain, of)(pool, 7, np.array([0, 5]))
        found, labels = getattr(task, of)(pool, 7, np.array([0, 5]))
        assert np.array_equal(found, X[:, :, order]) and np.array_equal(labels, y)
    assert not np.array_equal(order, np.arange(64))
    blurred = task.test_samples_of(pool, 7, np.array([0]), Condition.of("blur", 5))[0]
    straight = plain.test_samples_of(pool, 7, np.array([0]), Condition.of("blur", 5))[0]
    assert np.array_equal(blurred, straight[:, :, order]), "an image is blurred, and its pixels permuted after that"


@pytest.mark.parametrize("task, size", [
    (digits(), 64), (Patches(size=6, samples=4), 108),
    (Cifar10(path="x", digest="x", classes=[3, 5], samples=4), 3072)])
def test_images_have_as_many_pixels_as_inputs(task, size):
    image = task.image()
    assert image.height * image.width * image.channels == size == task.inputs()


def test_colours_of_patches_and_cifar_lie_where_they_say():
    """A pixel's channels are neighbours in a patch; in CIFAR-10 each channel is a plane."""
    assert Patches(size=6, samples=4).image().strides == (3, 1)
    assert Cifar10(path="x", digest="x", classes=[3, 5], samples=4).image().strides == (1, 1024)


def test_other_tasks_have_noise():
    task = Gaussian(dimension=5, samples=2000, test_samples=10, corruption={"sigma": 0.75, "of": "train"}, **PLAIN)
    plain = Gaussian(dimension=5, samples=2000, test_samples=10, **PLAIN)
    noise = task.samples_of({}, 1, np.array([0]))[0] - plain.samples_of({}, 1, np.array([0]))[0]
    assert noise.std() == pytest.approx(0.75, rel=0.03)


@pytest.mark.parametrize("corruption, message", [
    ({"severity": 3}, "severities of a corruption are those of images"),
    ({"severity": 3, "sigma": 0.1}, "either a severity or a sigma"),
    ({}, "either a severity or a sigma"),
    ({"kind": "blur", "sigma": 0.1}, 'sigma goes with kind = "noise"'),
    ({"severity": 6}, "less than or equal to 5"),
    ({"kind": "fog", "severity": 1}, "'noise', 'shot', 'blur' or 'contrast'")])
def test_corruptions_that_there_are_not(corruption, message):
    with pytest.raises(ValidationError, match=message):
        Gaussian(dimension=5, samples=20, corruption=corruption)


STUDY = """
[study]
name = "small"
seeds = 2
entropy = 1
[task]
{task}
samples = 12
test_samples = {tests}
[network]
hidden = [6]
[training]
step_size = 0.1
steps = 4
[record]
observables = ["corrupted_accuracy@final", "roughness_auc@final"]
"""
DIGITS = 'kind = "digits"\nclasses = [3, 8]'


@pytest.mark.parametrize("task, tests, message", [
    ('kind = "gaussian"\ndimension = 4', 8, "task.kind: 'gaussian' has no images to corrupt in cell main, but 'corrupted_acc"),
    (DIGITS, 0, "task.test_samples: is 0 in cell main, but 'corrupted_accuracy@final' needs test samples")])
def test_observables_that_lack_images(task, tests, message):
    with pytest.raises(StudyError, match=message):
        complete(mcrace.parse_study(STUDY.format(task=task, tests=tests)))


def test_conditions_are_dimensions_with_names(tmp_path):
    results = mcrace.run(mcrace.parse_study(STUDY.format(task=DIGITS, tests=9)), tmp_path / "r", workers=0)
    data = results.cell("main").to_xarray()
    accuracy = data["corrupted_accuracy_at"].sel(state="final")
    assert accuracy.dims == ("seed", "corruption", "severity") and accuracy.shape == (2, 4, 5)
    assert data["corruption"].values.tolist() == list(KINDS) and data["severity"].values.tolist() == [1, 2, 3, 4, 5]
    assert data["seen"].values.tolist() == ["input", "permuted", "hidden"]
    assert np.isfinite(accuracy.sel(corruption="blur", severity=2)).all()
