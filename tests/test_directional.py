"""Laws of directions: against brute-force integration where the dimension is small, and against themselves where it is not."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from mcrace.statistics.directional import SphericalCauchy, VonMisesFisher, cosines_to, uniform_directions, uniform_quadrature
from mcrace.statistics.directional_tests import (
    bingham_p,
    fit_p,
    likelihood_gain,
    log_likelihoods,
    mean_direction,
    rayleigh_p,
    uniform_p,
)

SIZE, COVERAGE = (0.036, 0.065), (0.93, 0.97)  # THEORY.md, How a verdict is reached
STUDIES = 1000


def generator(*names):
    """A generator for each check, by its name."""
    return np.random.default_rng([ord(c) for name in names for c in str(name)])


def vmf(d, *kappas):
    return VonMisesFisher(d, np.array(kappas, float))


def cauchy(d, *rhos):
    return SphericalCauchy(d, np.array(rhos, float))


def whole(d, function, low=0.0, high=math.pi):
    """The integral of a function of δ over uniform directions between two angles."""
    area = integrate.quad(lambda x: math.sin(x) ** (d - 2), 0, math.pi, epsabs=1e-14, epsrel=1e-12)[0]
    of = lambda x: function(x) * math.sin(x) ** (d - 2)
    return integrate.quad(of, low, high, epsabs=1e-13, epsrel=1e-11, limit=200)[0] / area


def density(law):
    """The density of a single law as a function of δ."""
    return lambda x: math.exp(law.log_density(np.array([[math.cos(x)]]))[0, 0])


LAWS = [*(vmf(d, kappa) for d in (2, 3, 5) for kappa in (0.3, 4.0, 40.0)),
        *(cauchy(d, rho) for d in (2, 3, 5) for rho in (0.2, 0.8)), vmf(3, -2.0), cauchy(4, -0.5), vmf(5, 0.0), cauchy(5, 0.0)]
NAMES = [f"{law.label}-{law.dimension}-{law.concentration[0]}" for law in LAWS]


# ------------------------------------------------------------------------------------------------- densities and fits


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_brute_force_integration(law):
    d, of = law.dimension, density(law)
    assert whole(d, of) == pytest.approx(1, rel=1e-10)
    assert whole(d, lambda x: of(x) * math.cos(x)) == pytest.approx(law.resultant[0], rel=1e-8, abs=1e-11)
    angles = np.array([0.1, 0.5, 1.5, 3.0])
    below = [whole(d, of, low=x) for x in angles]
    np.testing.assert_allclose(law.below(np.cos(angles)[None])[0], below, atol=2e-8)


@pytest.mark.parametrize("d, kappa", [(3, 5.0), (100, 200.0), (784, 50.0), (784, 2000.0)])
def test_kappa_comes_back_from_the_mean_resultant(d, kappa):
    exact = vmf(d, kappa).resultant
    if d == 3:
        assert exact[0] == pytest.approx(1 / math.tanh(kappa) - 1 / kappa, rel=1e-15)
    elif d == 100:
        assert exact[0] == pytest.approx(special.ive(50, kappa) / special.ive(49, kappa), rel=1e-13)
    assert VonMisesFisher.fit_cosines(exact[:, None], d).concentration[0] == pytest.approx(kappa, rel=1e-10)
    for side in (1, -1):
        found = VonMisesFisher.fit_cosines(side * exact[:, None], d).concentration[0]
        assert found == pytest.approx(side * kappa, rel=1e-10)


@pytest.mark.parametrize("d, kappa", [(784, 50.0), (784, 2000.0), (3, 1e5), (100, 1e-3)])
def test_the_normaliser_far_out(d, kappa):
    """Its slope is the mean resultant, and it is known from the uniform law by an integral that nothing underflows in."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    edges = np.r_[0, kappa * np.geomspace(1e-6, 1, 40)]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        total += np.sum(weights * vmf(d, *(low + (high - low) * (nodes + 1) / 2)).resultant) * (high - low) / 2
    assert vmf(d, kappa).log_normaliser[0] == pytest.approx(total, rel=1e-12)


def test_nothing_is_preferred_at_zero():
    assert vmf(5, 0.0).log_normaliser[0] == pytest.approx(0, abs=1e-14) and vmf(5, 0.0).resultant[0] == 0
    assert VonMisesFisher.fit_cosines(np.array([[-0.5, 0.5]]), 5).concentration[0] == 0
    assert VonMisesFisher.fit_cosines(np.array([[1.0, 1.0]]), 5).concentration[0] == math.inf


@pytest.mark.parametrize("law", [vmf(2, 3.0, 0.5), vmf(50, 100.0, 7.0), cauchy(2, 0.4, 0.7), cauchy(50, 0.6, 0.1),
                                 cauchy(10, -0.5)], ids=str)
def test_samples_follow_the_law(law):
    rng = generator("samples", law)
    cosines = law.cosines(rng, 4000)
    assert (uniform_p(law.below(cosines)) > 1e-3).all()
    X = law.directions(rng, 2000)
    np.testing.assert_allclose(np.sum(X * X, axis=2), 1, rtol=1e-12)
    assert (uniform_p(law.below(X[:, :, 0])) > 1e-3).all()
    beside = X[:, :, 1:] / np.sqrt(1 - X[:, :, :1] ** 2)
    assert (rayleigh_p(beside) > 1e-3).all()


@pytest.mark.parametrize("kind, d", [(VonMisesFisher, 3), (SphericalCauchy, 3), (VonMisesFisher, 6), (SphericalCauchy, 2)])
def test_a_fit_is_the_most_likely_law(kind, d):
    X = cauchy(d, 0.5).directions(generator("likely", kind, d), 40)
    law, axes = kind.fit(X)

    def loss(at):
        length = np.sqrt(np.sum(at * at))
        strength = np.tanh(length) if kind is SphericalCauchy else length
        return -kind(d, np.array([strength])).log_density(cosines_to(X, at[None] / length)).mean()

    best = optimize.minimize(loss, np.r_[0.5, np.zeros(d - 1)], options={"gtol": 1e-9})
    assert log_likelihoods(X, kind)[0] >= -best.fun - 1e-12
    np.testing.assert_allclose(axes[0], best.x / np.linalg.norm(best.x), atol=1e-5)
    along = kind.fit_cosines(cosines_to(X, axes), d)  # with the axis that was found, known
    assert along.concentration[0] == pytest.approx(law.concentration[0], rel=1e-9)
    for factor in (0.999, 1.001):
        other = kind(d, along.concentration * factor)
        assert other.log_density(cosines_to(X, axes)).mean() < law.log_density(cosines_to(X, axes)).mean()


def test_a_fit_turns_with_the_samples_and_knows_no_order():
    X = cauchy(7, 0.6).directions(generator("turn"), 50)
    turn = np.linalg.qr(generator("turn").normal(size=(7, 7)))[0]
    for kind in (VonMisesFisher, SphericalCauchy):
        (law, axes), (turned, found) = kind.fit(X), kind.fit(X[:, ::-1] @ turn)
        np.testing.assert_allclose(turned.concentration, law.concentration, rtol=1e-10)
        np.testing.assert_allclose(found, axes @ turn, atol=1e-10)


def test_samples_close_together_and_apart_from_the_axis():
    """Fits that take many steps: nearly one point, and the other end of a known axis."""
    X = cauchy(5, 0.9999).directions(generator("close"), 100)
    law, axes = SphericalCauchy.fit(X)
    assert law.concentration[0] == pytest.approx(0.9999, abs=1e-4) and axes[0, 0] > 0.999999
    cosines = cauchy(5, -0.999).cosines(generator("apart"), 100)
    assert SphericalCauchy.fit_cosines(cosines, 5).concentration[0] == pytest.approx(-0.999, abs=1e-3)


def test_a_dilation_of_uniform_directions_is_spherical_cauchy():
    """tan(δ/2) e^{-τ} gives ρ = tanh(τ/2) (THEORY.md, winner-concentration)."""
    X = uniform_directions(generator("dilation"), 1, 5000, 8)
    tan = np.tan(np.arccos(X[0, :, 0]) / 2) * math.exp(-1.5)
    law = SphericalCauchy.shifted(1.5, 8)
    assert law.concentration[0] == pytest.approx(math.tanh(0.75)) and law.shift[0] == pytest.approx(1.5)
    assert uniform_p(law.within(tan[None]))[0] > 1e-3
    assert SphericalCauchy.fit_cosines(np.cos(2 * np.arctan(tan))[None], 8).shift[0] == pytest.approx(1.5, abs=0.02)


def test_what_one_law_gains_over_the_other():
    law = SphericalCauchy.shifted(1.5, 10)
    X = law.directions(generator("gain"), 200_000)
    gain = log_likelihoods(X, SphericalCauchy) - log_likelihoods(X, VonMisesFisher)
    assert gain[0] == pytest.approx(likelihood_gain(law)[0], abs=0.005)
    assert likelihood_gain(SphericalCauchy.shifted(0.0, 10))[0] == pytest.approx(0, abs=1e-12)


def test_quadrature():
    for d in (2, 3, 10, 784):
        nodes, weights = uniform_quadrature(d)
        np.testing.assert_allclose([np.sum(weights), np.sum(weights * nodes**2)], [1, 1 / d], rtol=1e-9)


# ------------------------------------------------------------------------------------------------- tests of directions


def test_uniformity_by_hand():
    X = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.6, 0.8, 0.0]]])
    rayleigh = 4 * 3 * np.sum(X[0].mean(axis=0) ** 2)
    assert rayleigh_p(X)[0] == pytest.approx(stats.chi2.sf((1 - 1 / 8) * rayleigh + rayleigh**2 / 40, 3))
    T = X[0].T @ X[0] / 4
    assert bingham_p(X)[0] == pytest.approx(stats.chi2.sf(3 * 5 / 2 * 4 * (np.trace(T @ T) - 1 / 3), 5))


def test_one_test_sees_an_axis_that_the_other_does_not():
    X = vmf(6, 10.0).directions(generator("axial"), 200)
    X[:, ::2] *= -1
    assert bingham_p(X)[0] < 1e-6 < 0.01 < rayleigh_p(X)[0]


def test_the_mean_direction_of_the_sphere():
    """On the sphere the cone is Fisher, Lewis and Embleton's (1987, 5.3.2)."""
    X = vmf(3, 5.0).directions(generator("mean"), 100)
    axes, angles = mean_direction(X)
    expected = stats.directional_stats(X[0])
    np.testing.assert_allclose(axes[0], expected.mean_direction)
    d = 1 - np.mean((X[0] @ axes[0]) ** 2)
    assert angles[0] == pytest.approx(math.asin(math.sqrt(-math.log(0.05) * d / 100) / expected.mean_resultant_length))


def test_uniform_numbers_are_tested_as_scipy_does():
    numbers = generator("ks").random((3, 40))
    np.testing.assert_allclose(uniform_p(numbers), [stats.kstest(row, "uniform").pvalue for row in numbers], rtol=1e-8)


def test_a_goodness_of_fit_is_the_same_again_and_sees_more_than_the_angle():
    X = SphericalCauchy.shifted(1.5, 6).directions(generator("fit"), 300)
    first, again = (fit_p(X, SphericalCauchy, generator("rng"), 99) for _ in range(2))
    assert first == again and first > 0.05 and fit_p(X, VonMisesFisher, generator("rng"), 99) == 0.01
    X[:, :, 1] *= 3  # not symmetric round the axis any more
    X /= np.sqrt(np.sum(X * X, axis=2, keepdims=True))
    assert fit_p(X, SphericalCauchy, generator("rng"), 99) == 0.01


# ------------------------------------------------------------------------------------------------- over many studies


def inside(p, band=SIZE):
    return band[0] <= np.mean(p <= 0.05) <= band[1]


@pytest.mark.calibration
@pytest.mark.parametrize("d, rho", [(3, 0.5), (10, math.tanh(0.75)), (50, 0.9)])
def test_rho_has_no_bias(d, rho):
    """Over 1,000 samples of 300 the mean is within three of its errors, whether the axis is known or not."""
    law = cauchy(d, *[rho] * STUDIES)
    X = law.directions(generator("bias", d), 300)
    known = SphericalCauchy.fit_cosines(X[:, :, 0], d)
    free = SphericalCauchy.fit(X)[0].without_bias(300)
    for found in (known.concentration, free.concentration):
        assert abs(found.mean() - rho) < 3 * found.std() / math.sqrt(STUDIES)
    assert (VonMisesFisher.fit(X)[0].concentration > 0).all()


@pytest.mark.calibration
@pytest.mark.parametrize("d, count", [(2, 50), (5, 100), (10, 300)])
def test_uniformity_holds_its_level(d, count):
    X = uniform_directions(generator("level", d, count), STUDIES, count, d)
    assert inside(rayleigh_p(X)) and inside(bingham_p(X))
    assert np.mean(rayleigh_p(cauchy(d, *[0.15] * 200).directions(generator("power", d), 300)) <= 0.05) > 0.9


@pytest.mark.calibration
@pytest.mark.parametrize("law", [vmf(3, *[4.0] * STUDIES), cauchy(10, *[0.6] * STUDIES)], ids=["vmf", "cauchy"])
def test_the_cone_of_the_mean_direction_covers(law):
    axes, angles = mean_direction(law.directions(generator("cone", law.dimension), 100))
    assert COVERAGE[0] <= np.mean(np.arccos(axes[:, 0]) <= angles) <= COVERAGE[1]


@pytest.mark.calibration
@pytest.mark.parametrize("law, other", [(vmf(3, *[4.0] * STUDIES), SphericalCauchy),
                                        (cauchy(4, *[0.6] * STUDIES), VonMisesFisher)], ids=["vmf", "cauchy"])
def test_goodness_of_fit_holds_its_level_and_has_power(law, other):
    rng = generator("goodness", law.label)
    assert inside(fit_p(law.directions(rng, 60), type(law), rng, 99))
    assert np.mean(fit_p(law.directions(rng, 400)[:60], other, rng, 99) <= 0.05) > 0.9
