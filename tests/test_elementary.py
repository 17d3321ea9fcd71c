"""exp and softplus of the kernels against references of forty digits, in units of the last place."""

import decimal
import math

import numpy as np
import pytest
from numba import njit

from mcrace.kernels.elementary import exp, softplus
from mcrace.kernels.lanes import lane_count
from mcrace.kernels.losses import losses_of, mean_losses_of
from mcrace.kernels.tiles import load, own, store

LANES = {dtype: lane_count(dtype) for dtype in ("float32", "float64")}
LIMIT = {"float32": 87.0, "float64": 708.0}  # beyond it, arguments are cut
CONTEXT = decimal.Context(prec=40, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


@njit(error_model="numpy")
def both(x, exps, softs):
    """The two functions of x [vector, lane]."""
    a, b, c = own(x, 0, 1, len(x)), own(exps, 0, 1, len(x)), own(softs, 0, 1, len(x))
    for n in range(len(x)):
        tile = load(a, 0, n, 1, 1)
        store(b, 0, n, exp(tile))
        store(c, 0, n, softplus(tile))


def compute(x, dtype):
    """exp and softplus of numbers, in the dtype."""
    lanes = LANES[dtype]
    padded = np.zeros(-(-len(x) // lanes) * lanes, dtype)
    padded[: len(x)] = x
    exps, softs = np.empty((2, len(padded) // lanes, lanes), dtype)
    both(padded.reshape(-1, lanes), exps, softs)
    return exps.reshape(-1)[: len(x)], softs.reshape(-1)[: len(x)]


def exact_exp(x):
    return CONTEXT.exp(decimal.Decimal(float(x)))


def exact_softplus(x):
    """log(1 + e**x); below -40, where forty digits of 1 + e**x hold too little, by the series in e**x."""
    e = CONTEXT.exp(decimal.Decimal(float(x)))
    if x < -40:
        return CONTEXT.subtract(e, CONTEXT.divide(CONTEXT.multiply(e, e), decimal.Decimal(2)))
    return CONTEXT.ln(CONTEXT.add(1, e))


def worst_ulp(found, exact):
    """The largest error, in units of the last place of the exact value."""
    worst = 0.0
    for value, truth in zip(found, exact):
        ulp = decimal.Decimal(float(np.spacing(found.dtype.type(truth))))
        worst = max(worst, float(abs(decimal.Decimal(float(value)) - truth) / ulp))
    return worst


def points(dtype, count):
    """Arguments over the whole range, dense near 0, round the steps of the reduction, and at both ends."""
    rng, limit = np.random.default_rng(1), LIMIT[dtype]
    halves = (np.arange(-120, 121) + 0.5) * math.log(2)
    x = np.concatenate([
        rng.uniform(-limit, limit, count), rng.normal(size=count), np.exp(rng.uniform(-40, 0, count)),
        -np.exp(rng.uniform(-40, 0, count)), halves, np.nextafter(halves, 0), np.arange(-40, 41) * math.log(2),
        [0.0, -0.0, limit, -limit, 1.0, -1.0]]).astype(dtype)
    return x[np.abs(x) <= limit]


@pytest.mark.parametrize("dtype, count", [("float32", 3000), ("float64", 3000)])
def test_exp_and_softplus_to_a_few_ulp(dtype, count):
    x = points(dtype, count)
    exps, softs = compute(x, dtype)
    assert worst_ulp(exps, [exact_exp(v) for v in x]) <= 2
    assert worst_ulp(softs, [exact_softplus(v) for v in x]) <= 4


def test_a_dense_sample_of_all_single_floats():
    """A million floats, evenly among all from -87 to 87, against float64."""
    whole = np.linspace(0, np.float32(87).view(np.int32), 500_000).astype(np.int32).view(np.float32)
    x = np.concatenate([whole, -whole])
    exps, softs = compute(x, "float32")
    for found, exact in ((exps, np.exp(x.astype(float))), (softs, np.logaddexp(0, x.astype(float)))):
        ulp = np.spacing(exact.astype(np.float32)).astype(float)
        assert (np.abs(found - exact) / ulp).max() <= (2 if found is exps else 4)


@pytest.mark.parametrize("dtype", LANES)
def test_beyond_the_range_everything_is_finite(dtype):
    largest = float(np.finfo(dtype).max)
    for far in (LIMIT[dtype] + 1, 2 * LIMIT[dtype], 1e6, largest):
        exps, softs = compute(np.array([far, -far]), dtype)
        assert exps[0] == compute(np.array([LIMIT[dtype]]), dtype)[0][0] and np.isfinite(exps[0])
        assert 0 < exps[1] < 1e-37 and 0 <= softs[1] < 1e-37
        assert softs[0] == np.array(far, dtype)
    exps, softs = compute(np.array([np.inf, -np.inf]), dtype)
    assert np.isfinite(exps).all() and softs[0] == np.inf and 0 <= softs[1] < 1e-37


@pytest.mark.parametrize("dtype", LANES)
def test_a_nan_stays_a_nan_in_its_own_lane(dtype):
    x = np.linspace(-2, 2, 2 * LANES[dtype])
    well = compute(x, dtype)
    for lane in (0, LANES[dtype] - 1, LANES[dtype] + 3):
        ill = x.copy()
        ill[lane] = np.nan
        for found, free in zip(compute(ill, dtype), well):
            assert np.array_equal(np.flatnonzero(np.isnan(found)), [lane])
            assert np.array_equal(np.delete(found, lane), np.delete(free, lane))


@pytest.mark.parametrize("dtype", LANES)
def test_they_never_fall(dtype):
    x = np.linspace(-LIMIT[dtype], LIMIT[dtype], 100_000)
    assert all((np.diff(found) >= 0).all() for found in compute(x, dtype))


@pytest.mark.parametrize("loss", ["mse", "logistic"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (5, 13), (4, 7, 3)], ids=str)
@pytest.mark.parametrize("labels", ["own", "spread", "shared"])
def test_losses_of_known_outputs(loss, shape, labels):
    """Of labels of each network, and of one network's, laid out for all or given once."""
    rng = np.random.default_rng(len(shape) * shape[1])
    f = 30 * rng.normal(size=shape)
    y = rng.choice([-1.0, 1.0], shape if labels == "own" else shape[1:])
    y = np.broadcast_to(y, shape) if labels == "spread" else y
    each = (f - y) ** 2 / 2 if loss == "mse" else np.logaddexp(0, -y * f)
    np.testing.assert_allclose(losses_of(f, y, loss), each, rtol=4e-15)
    means = each.reshape(*shape[:2], -1).sum(axis=2).mean(axis=1)
    np.testing.assert_allclose(mean_losses_of(f, y, loss), means, rtol=1e-14)
    if loss == "mse":
        assert np.array_equal(losses_of(f, y, loss), each)


def test_the_loss_of_what_is_not_finite():
    f = np.array([[np.nan], [np.inf], [-np.inf]])
    assert np.array_equal(mean_losses_of(f, np.ones((3, 1)), "mse"), [np.nan, np.inf, np.inf], equal_nan=True)
    found = mean_losses_of(f, np.ones((3, 1)), "logistic")
    assert np.isnan(found[0]) and 0 <= found[1] < 1e-300 and found[2] == np.inf
