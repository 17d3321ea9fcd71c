"""Calibration, areas under ROC curves and roughness against plain NumPy; the verdicts on robustness on made-up networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mcrace.observe.calibration import calibration_errors, separations
from mcrace.predictions import PREDICTIONS
from mcrace.predictions.base import Evidence
from mcrace.predictions.corruption_robustness import REPORTED, UNDER
from mcrace.tasks.corruption import Image
from mcrace.tasks.roughness import roughness_of

LAW = PREDICTIONS["corruption-robustness"]

# ------------------------------------------------------------------------------------------------- statistics


def naive_calibration(f, y):
    """The definition, sample by sample (Guo et al. 2017)."""
    p = 1 / (1 + np.exp(-np.abs(f)))
    bins = np.minimum(np.floor(p * 15), 14)
    return sum(abs((f * y > 0)[bins == b].mean() - p[bins == b].mean()) * (bins == b).mean() for b in set(bins))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.01, 30))
def test_calibration_is_its_definition(seed, samples, size):
    rng = np.random.default_rng(seed)
    f, y = size * rng.normal(size=(3, samples)), rng.choice([-1.0, 1.0], (3, samples))
    assert np.allclose(calibration_errors(f, y), [naive_calibration(*row) for row in zip(f, y)], atol=1e-12)


def test_calibration_of_what_is_known():
    right = np.array([[1.0] * 3 + [-1.0]])
    assert calibration_errors(np.full((1, 4), np.log(3.0)), right) == pytest.approx(0, abs=1e-12), "and it says so"
    assert calibration_errors(np.full((1, 4), -40.0), right) == pytest.approx(0.75)
    assert np.isnan(calibration_errors(np.array([[np.nan, 1.0]]), np.ones((1, 2)))).all()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(0, 3))
def test_separation_is_the_area_under_the_curve(seed, samples, decimals):
    rng = np.random.default_rng(seed)
    scores, positive = rng.normal(size=(4, samples)).round(decimals), rng.random((4, samples)) < 0.4
    expected = [roc_auc_score(p, s) if 0 < p.sum() < samples else np.nan for s, p in zip(scores, positive)]
    assert np.allclose(separations(scores, positive), expected, atol=1e-12, equal_nan=True)


def test_separation_where_there_is_nothing_to_separate():
    scores = np.array([[1.0, 2.0], [np.nan, 2.0], [np.inf, 2.0]])
    assert np.isnan(separations(scores, np.array([[True, True], [True, False], [True, False]]))).all()


# ------------------------------------------------------------------------------------------------- roughness


def naive_roughness(x, height, width):
    """Windows of 3 by 3 (3, of a vector), reflected by NumPy."""
    rows = (1, 1) if height > 1 else (0, 0)
    padded = np.pad(x.reshape(height, width), (rows, (1, 1)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3 if height > 1 else 1, 3))
    return windows.var(axis=(2, 3)).mean() / x.var()


@pytest.mark.parametrize("height, width", [(1, 2), (1, 3), (1, 17), (2, 2), (8, 8), (3, 5)])
def test_roughness_is_its_definition(height, width):
    X = np.random.default_rng(0).normal(size=(6, height * width))
    expected = [naive_roughness(x, height, width) for x in X]
    assert np.allclose(roughness_of(X, Image(height, width)), expected, rtol=1e-12)
    if height == 1:
        assert np.allclose(roughness_of(X.reshape(2, 3, -1)), np.reshape(expected, (2, 3)), rtol=1e-12)


def test_roughness_of_colours_has_its_windows_in_each():
    X = np.random.default_rng(1).normal(size=(4, 60))
    planes = X.reshape(4, 3, 20)
    expected = [np.mean([naive_roughness(c, 4, 5) * c.var() for c in image]) / image.var() for image in planes]
    assert np.allclose(roughness_of(X, Image(4, 5, 3, planes=True)), expected, rtol=1e-12)
    mixed = np.ascontiguousarray(planes.swapaxes(1, 2)).reshape(4, 60)
    assert np.allclose(roughness_of(mixed, Image(4, 5, 3)), expected, rtol=1e-12)


def test_roughness_of_what_is_known():
    X = np.random.default_rng(2).normal(size=(3, 64))
    image = Image(8, 8)
    assert np.allclose(roughness_of(5 * X + 2, image), roughness_of(X, image), rtol=1e-10), "neither mean nor size tells"
    assert roughness_of(np.full((1, 7), 0.1)) == 0 and roughness_of(np.full((1, 64), 0.1), image) == 0
    assert roughness_of(np.array([[5.0]])) == 0 and roughness_of(np.full((1, 7), 0.1), eps=1e-5) == 0
    flat = np.repeat(np.arange(8.0), 8)[None]
    assert roughness_of(flat, image) < 0.15 < roughness_of(X, image).min()
    assert roughness_of(X, eps=1.0).max() < roughness_of(X).max()


# ------------------------------------------------------------------------------------------------- verdicts


class Cell:
    """What the prediction sees of a cell: accuracies round given means, in points, with what all cells share."""

    def __init__(self, name, mean, kind="layernorm", roughness="own", count=300, spread=0.3, first=0, role="main"):
        self.name, self.seeds, self.attributes = name, np.arange(first, first + count), {"role": role}
        norm = {"kind": kind, "roughness": roughness} if kind else None
        self.config = {"network": {"norm": norm}}
        shared = np.random.default_rng(0).normal(scale=2, size=1000)[self.seeds, None, None]
        own = np.random.default_rng([7, *name.encode()]).normal(scale=spread, size=(1000, 4, 5))[self.seeds]
        own -= own.mean(axis=0)
        self.found = {name: np.full(count, 0.5) for name in REPORTED}
        self.found |= {name: np.full((count, 4, 5), 0.25) for name in UNDER.values()}
        self.found["corrupted_accuracy"] = (np.broadcast_to(mean, (4, 5)) + shared + own) / 100

    def at(self, observable, state):
        assert state == "final"
        return self.found[observable]

    def __getitem__(self, name):
        assert name == "status"
        return np.zeros(len(self.seeds), np.int8)


def judged(cells, control, **options):
    """The verdicts by statistic."""
    evidence = Evidence(1, cells[0], control, None, cells=tuple(cells))
    return {v.statistic: v for v in LAW.judge(evidence, LAW.options(**options))}


def trio(gain, noisy=5.0):
    """A reference, a cell that exceeds it by so many points, and a control that was trained on corrupted images."""
    cells = [Cell("plain", 70, kind=""), Cell("ln", 80), Cell("brln", 80 + gain, "bayesian_r_layernorm")]
    return cells, Cell("noisy", 80 + noisy, role="control")


@pytest.mark.parametrize("gain, noisy, verdict", [
    (0.0, 5.0, "supported"), (0.5, 5.0, "refuted"), (-0.5, 5.0, "refuted"), (0.25, 5.0, "inconclusive"),
    (0.0, 0.0, "not discriminating"), (0.0, -5.0, "supported")])
def test_the_verdict_on_the_gain(gain, noisy, verdict):
    cells, control = trio(gain, noisy)
    first = next(iter(judged(cells, control).values()))
    assert first.statistic == "gain of accuracy, brln - ln [points]" and first.primary
    assert first.verdict == verdict and first.estimate == pytest.approx(gain, abs=1e-9)
    assert first.networks == 300 and str(first.margin) == "0 ± 0.25"
    assert first.control.failed == (noisy != 0) and first.control.estimate == pytest.approx(noisy, abs=1e-9)
    assert f"lies {'inside' if gain == 0.5 else 'outside'} the interval" in first.note


def test_differences_are_paired():
    """The spread that networks share, 2 points, is not in the interval: it is that of the differences."""
    first = next(iter(judged(*trio(0.1)).values()))
    assert first.high - first.low == pytest.approx(2 * 1.96 * 0.3 * np.sqrt(2 / 20 / 300), rel=0.25)
    cells, control = trio(0.1)
    cells[2] = Cell("brln", 80.1, "bayesian_r_layernorm", first=100, count=250)
    assert next(iter(judged(cells, control).values())).networks == 200, "networks that both cells have"


def test_what_the_roughness_adds_is_judged_against_its_own_cell():
    cells, control = trio(1.0)
    cells += [Cell("frozen", 81, "bayesian_r_layernorm", "frozen"), Cell("shuffled", 79, "bayesian_r_layernorm", "shuffled")]
    found = judged(cells, control)
    assert found["gain of accuracy, brln - frozen [points]"].verdict == "supported"
    assert found["gain of accuracy, brln - shuffled [points]"].estimate == pytest.approx(2, abs=1e-9)
    assert found["gain of accuracy, plain - ln [points]"].estimate == pytest.approx(-10, abs=1e-9)


def test_each_condition_by_holm():
    cells, control = trio(0.0)
    mean = np.full((4, 5), 80.0)
    mean[1, 2] += 3
    cells[2] = Cell("brln", mean, "bayesian_r_layernorm")
    found = {k: v for k, v in judged(cells, control).items() if k.startswith("gain under")}
    assert len(found) == 20
    other = found.pop("gain under shot 3 [points]")
    assert other.verdict == "refuted" and "differs from 0" in other.note and other.estimate == pytest.approx(3, abs=1e-9)
    assert all(v.verdict == "supported" and "differs" not in v.note for v in found.values())
    assert other.p == 1 and all(0 < v.p < 0.05 for v in found.values())


def test_reported_numbers_and_their_means():
    found = judged(*trio(0.0))
    row = found["NLL, corrupted, difference"]
    assert row.verdict == "reported" and row.estimate == 0 and row.note == "0.25 on brln, 0.25 on ln"
    assert {"ECE, clean, difference", "AUC of errors, corrupted, difference", "accuracy, clean, difference"} <= found.keys()


def test_cells_that_are_lacking():
    cells, control = trio(0.0)
    (lacking,) = judged(cells[:2], control).values()
    assert lacking.verdict == "not testable here" and "a cell of bayesian_r_layernorm" in lacking.note
    first = next(iter(judged(cells, None).values()))
    assert first.verdict == "not testable here" and "control" in first.note
    assert "gain of accuracy, plain - ln [points]" in judged(cells, control, train="plain")
