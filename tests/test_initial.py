"""Weights at the start: equal norms, and directions that are von Mises-Fisher distributed."""

import numpy as np
import pytest
from scipy.stats import kstest

import mcrace
from mcrace.errors import StudyError
from mcrace.initial import initial_weights
from mcrace.seeds import directional_cosines

STUDY = """
[study]
name = "starts"
seeds = 4
entropy = 3
[task]
kind = "gaussian"
dimension = 6
samples = 4
[network]
hidden = [40]
[network.init]
{init}
[training]
step_size = 1.0
steps = 1
"""


def weights(init, seeds=4):
    config = mcrace.parse_study(STUDY.format(init=init)).cells[0].config
    return initial_weights(config, 3, np.arange(seeds))


@pytest.mark.parametrize("dimension, kappa", [(2, 0.5), (3, 5.0), (10, 30.0), (100, 200.0), (784, 50.0)])
def test_cosines_follow_the_von_mises_fisher_law(dimension, kappa):
    """The density of the cosine is ∝ exp(κt)(1 - t²)^((d-3)/2); with t = cos φ nothing is infinite at the ends."""
    cosines = directional_cosines(5, np.arange(20), 100, dimension, kappa).ravel()
    angle = np.linspace(np.pi, 0, 20_001)[1:-1]
    log_density = kappa * np.cos(angle) + (dimension - 2) * np.log(np.sin(angle))
    density = np.exp(log_density - log_density.max())
    cdf = np.cumsum(density) / density.sum()
    mean = (np.cos(angle) * density).sum() / density.sum()
    assert abs(cosines.mean() - mean) < 4.5 * cosines.std() / len(cosines) ** 0.5
    law = lambda t: np.interp(t, np.cos(angle), cdf)
    assert kstest(cosines, law).pvalue > 1e-3
    assert kstest(directional_cosines(5, np.arange(20), 100, dimension, 2 * kappa).ravel(), law).pvalue < 1e-3


def test_directions_lean_to_the_axis_and_keep_their_norms():
    plain, _ = weights("scale = 0.5")
    turned, v = weights("scale = 0.5\ndirection = { kappa = 40.0, axis = 2 }")
    norms = np.linalg.norm(turned, axis=2)
    np.testing.assert_allclose(norms, np.linalg.norm(plain, axis=2), rtol=1e-12)
    np.testing.assert_allclose(np.abs(v), norms, rtol=1e-12)
    cosines = turned / norms[:, :, None]
    np.testing.assert_allclose(cosines[:, :, 2], directional_cosines(3, np.arange(4), 40, 6, 40.0), rtol=1e-12)
    assert abs(cosines[:, :, [0, 1, 3, 4, 5]].mean()) < 0.03  # to no side
    assert cosines[:, :, 2].min() > 0.5


def test_a_random_axis_is_one_for_all_networks():
    W, _ = weights('direction = { kappa = 5000.0, axis = "random" }')
    mean = (W / np.linalg.norm(W, axis=2, keepdims=True)).mean(axis=1)
    assert (mean @ mean.T > 0.99).all()
    assert np.abs(mean[0]).max() < 0.99  # no coordinate axis


def test_norms_are_equal_where_asked():
    W, v = weights('scale = 1e-3\nnorms = "equal"')
    np.testing.assert_allclose(np.linalg.norm(W, axis=2), 1e-3, rtol=1e-12)
    np.testing.assert_allclose(np.abs(v), 1e-3, rtol=1e-12)
    assert np.std(np.linalg.norm(weights("scale = 1e-3")[0], axis=2)) > 1e-4


def test_a_wider_network_extends_a_narrower_one():
    wide = directional_cosines(5, np.arange(3), 30, 6, 10.0)
    assert (wide[:, :7] == directional_cosines(5, np.arange(3), 7, 6, 10.0)).all()
    assert (wide[1:2] == directional_cosines(5, np.array([1]), 30, 6, 10.0)).all()
    assert len(np.unique(wide)) == wide.size


@pytest.mark.parametrize("init, message", [
    ("direction = { kappa = 5.0, axis = 6 }", "network.init.direction.axis: 6 is none of the 6 inputs, counted from 0"),
    ("direction = { kappa = -1.0 }", "network.init.direction.kappa: input should be greater than 0"),
    ("direction = { kappa = 5.0, axis = true }", "network.init.direction.axis"),
    ('norms = "same"', "network.init.norms"),
])
def test_mistakes(init, message):
    with pytest.raises(StudyError, match=message.split(":")[0]) as error:
        weights(init)
    assert message in str(error.value)
