"""Random numbers: the words of NumPy's Philox, the normals of SciPy, and the same numbers whoever asks."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from mcrace import seeds
from mcrace.initial import initial_weights
from mcrace.seeds import SHARED, STREAMS, Stream, batches, generator, normals_of
from mcrace.study import parse_study

ENTROPIES = st.integers(0, 2**128 - 1)
NETWORKS = st.integers(0, 2**64 - 1)
NAMES = st.sampled_from(sorted(STREAMS))


def numpy_words(entropy, name, network, count):
    """The same words by NumPy, whose generator adds 1 to the counter before each block."""
    counter = (STREAMS[name] << 64) + (network << 128) - 1
    return np.random.Philox(key=entropy, counter=counter).random_raw(count)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(ENTROPIES, NAMES, NETWORKS, st.integers(1, 40))
def test_words_are_those_of_numpy(entropy, name, network, count):
    assert (Stream(entropy, name, network).words(count) == numpy_words(entropy, name, network, count)).all()


def test_what_is_drawn_next_starts_at_a_block_of_four():
    stream = Stream(5, "data", 3)
    drawn = [stream.words(n) for n in (1, 4, 5, 0, 2)]
    expected = numpy_words(5, "data", 3, 20)
    for start, words in zip((0, 4, 8, 16, 16), drawn):
        assert (words == expected[start : start + len(words)]).all()


def test_normals_are_those_of_scipy():
    words = Stream(11, "init", 2).words(100_000)
    uniform = (words >> np.uint64(12)).astype(float) * 2.0**-52 + 2.0**-53
    normal = Stream(11, "init", 2).normals(100_000)
    expected = special.ndtri(uniform)
    assert np.abs(normal - expected).max() <= 1e-14 * np.abs(expected).max()
    assert (np.abs(normal - expected) <= 1e-14 * np.maximum(1, np.abs(expected))).all()


def normals_from(words):
    words = np.array(words, np.uint64)
    out = np.empty(len(words))
    seeds._normals(words, out)
    return out


def test_the_tails_of_the_normals_are_finite_and_exact():
    """The least and the greatest word, and the tail beyond exp(-25), where AS 241 takes its last range."""
    step = 2**12
    low = [0, step, 7 * step, 1000 * step, 2**30, 2**45]
    uniform = np.array([(w // step + 0.5) * 2.0**-52 for w in low])
    expected = special.ndtri(uniform)
    assert np.abs(normals_from(low) / expected - 1).max() < 1e-14
    assert (normals_from([2**64 - 1 - w for w in low]) == -normals_from(low)).all()


def test_uniforms_lie_strictly_between_0_and_1(monkeypatch):
    extremes = np.array([0, 2**64 - 1], np.uint64)
    stream = Stream(1, "data", 0)
    monkeypatch.setattr(stream, "words", lambda count: extremes[:count])
    low, high = stream.uniforms(2)
    assert 0 < low < 1e-15 and high == 1 - low < 1


def test_the_numbers_of_a_stream_never_change():
    """If this fails, so does every stored result: raise ENGINE in plan.py."""
    digest = hashlib.sha256()
    for name in ("data", "init", "labels", "batches"):
        for network in (0, 1, 12345, SHARED):
            stream = Stream(20260204, name, network)
            digest.update(stream.words(1000).astype("<u8").tobytes())
            digest.update(stream.normals(1000).astype("<f8").tobytes())
            digest.update(stream.permutation(100).astype("<i8").tobytes())
            digest.update(stream.uniforms(10).astype("<f8").tobytes() + stream.signs(10).astype("<f8").tobytes())
    assert digest.hexdigest() == "88c6e330c13a2dad4859d8a07a38b35159593643ff2973c573b56d19655c7d44"


@pytest.mark.parametrize("draw", ["words", "normals", "uniforms", "signs"])
def test_numbers_do_not_depend_on_how_many_are_drawn(draw):
    many = getattr(Stream(3, "init", 9), draw)(101)
    for count in (0, 1, 3, 4, 5, 100):
        assert (getattr(Stream(3, "init", 9), draw)(count) == many[:count]).all()


def test_normals_of_many_networks_are_those_of_each():
    networks = np.array([0, 5, 2**62, 3])
    found = normals_of(3, "init", networks, 4, 7)
    assert all(np.array_equal(a, Stream(3, "init", int(i)).normals(4, 7)) for a, i in zip(found, networks))


def test_shapes_only_arrange_the_numbers():
    for draw in ("normals", "uniforms", "signs"):
        flat, shaped = (getattr(Stream(3, "init", 9), draw)(*shape) for shape in ((12,), (3, 4)))
        assert (shaped == flat.reshape(3, 4)).all()


def test_entropies_streams_and_networks_all_differ():
    firsts = {int(Stream(entropy, name, network).words(1)[0])
              for entropy in (0, 1, 2**64, 2**127) for name in STREAMS for network in (0, 1, 2, 2**32, SHARED)}
    assert len(firsts) == 4 * len(STREAMS) * 5


def test_uniforms_normals_and_signs_have_their_laws():
    stream = Stream(77, "data", 0)
    assert stats.kstest(stream.uniforms(20_000), "uniform").pvalue > 1e-3
    assert stats.kstest(stream.normals(20_000), "norm").pvalue > 1e-3
    signs = stream.signs(20_000)
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 4 / np.sqrt(20_000)
    # neighbouring networks are as independent as neighbouring numbers
    first = np.array([Stream(77, "init", i).normals(1)[0] for i in range(2000)])
    assert stats.kstest(first, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(2000)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 300), st.integers(0, 1000))
def test_a_permutation_holds_every_number_once(count, network):
    assert sorted(Stream(1, "labels", network).permutation(count).tolist()) == list(range(count))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(1, 3), st.data())
def test_choices_are_different_numbers_and_more_of_them_begin_alike(count, sets, data):
    few, more = sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    found = Stream(1, "data", 5).choices(count, sets, more)
    assert found.shape == (sets, more) and np.array_equal(Stream(1, "data", 5).choices(count, sets, few), found[:, :few])
    assert all(len(set(row)) == more and set(row) <= set(range(count)) for row in found.tolist())


def test_choices_are_uniform_and_independent():
    found = np.array([Stream(4, "data", i).choices(5, 2, 2) for i in range(10_000)])
    orders = found[:, :, 0] * 5 + found[:, :, 1]
    for column in orders.T:
        assert stats.chisquare(np.unique(column, return_counts=True)[1]).pvalue > 1e-3 and len(set(column)) == 20
    table = np.histogram2d(orders[:, 0], orders[:, 1], bins=25)[0]
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_permutations_are_uniform():
    orders = [tuple(Stream(8, "labels", i).permutation(4).tolist()) for i in range(12_000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    places = np.array([Stream(9, "labels", i).permutation(30) for i in range(3000)])
    for place in (0, 14, 29):
        assert stats.chisquare(np.bincount(places[:, place], minlength=30)).pvalue > 1e-3


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 100), st.integers(1, 20))
def test_minibatches_take_every_sample_once_an_epoch(samples, size, first, steps):
    size = min(samples, size)
    networks = np.array([3, 2**40])
    found = batches(6, networks, first, steps, samples, size)
    an_epoch = -(-samples // size)
    for i, network in enumerate(networks):
        stream = Stream(6, "batches", int(network))
        orders = [stream.permutation(samples) for _ in range((first + steps) // an_epoch + 1)]
        for t in range(steps):
            epoch, part = divmod(first + t, an_epoch)
            expected = np.full(size, -1)
            chosen = orders[epoch][part * size : (part + 1) * size]
            expected[: len(chosen)] = chosen
            assert (found[i, t] == expected).all()


CONFIG = """
[study]
name = "start"
seeds = 5
entropy = 4
[task]
kind = "gaussian"
samples = 10
dimension = 7
[network]
hidden = [{hidden}]
init = {{ {init} }}
[training]
step_size = {step_size}
steps = 10
"""


def config(hidden=6, init="scale = 0.5", step_size=0.1):
    return parse_study(CONFIG.format(hidden=hidden, init=init, step_size=step_size)).cells[0].config


def start(config, seed):
    """W [neuron, input] and v [neuron] of one network."""
    return tuple(a[0] for a in initial_weights(config, 4, np.array([seed])))


@pytest.mark.parametrize("init", ["scale = 0.5", "balanced = false", "paired = true", "ratio = 4.0"])
def test_a_wider_network_extends_a_narrower_one(init):
    narrow, wide = (start(config(m, init), 2) for m in (6, 20))
    for few, many in zip(narrow, wide):
        assert (few == many[:6]).all()


def test_the_start_has_the_scale_balance_ratio_and_pairs_that_are_asked():
    W, v = start(config(4000, "scale = 0.5"), 0)
    assert np.abs(np.linalg.norm(W, axis=1) / np.abs(v) - 1).max() < 1e-14
    assert abs((W**2).sum(axis=1).mean() / 0.25 - 1) < 0.05 and abs(np.sign(v).mean()) < 0.07
    skew_W, skew_v = start(config(4000, "scale = 0.5, ratio = 4.0"), 0)
    assert np.abs(np.linalg.norm(skew_W, axis=1) / np.abs(skew_v) - 4).max() < 1e-13
    assert np.abs(np.linalg.norm(skew_W, axis=1) * skew_v / (np.linalg.norm(W, axis=1) * v) - 1).max() < 1e-13
    free_W, free_v = start(config(4000, "scale = 0.5, balanced = false"), 0)
    assert (free_W == W).all() and stats.kstest(free_v / 0.5, "norm").pvalue > 1e-3
    pair_W, pair_v = start(config(4000, "scale = 0.5, paired = true"), 0)
    assert (pair_W[::2] == W[:2000]).all() and (pair_W[::2] == pair_W[1::2]).all()
    assert (pair_v[::2] == v[:2000]).all() and (pair_v[::2] == -pair_v[1::2]).all()


def test_the_same_seed_starts_alike_in_every_cell():
    one, other = config(), config(step_size=0.7, init="scale = 0.25")
    W, v = start(one, 3)
    half_W, half_v = start(other, 3)
    assert np.array_equal(W, 2 * half_W) and np.array_equal(v, 2 * half_v)
    X, y = one.task.sample({}, 4, 3)
    again_X, again_y = other.task.sample({}, 4, 3)
    assert np.array_equal(X, again_X) and np.array_equal(y, again_y)


def test_resampling_generators_differ_by_every_name():
    names = [("racing", "main"), ("racing", "lazy"), ("racing", "main", "control"), ("racingmain",), ("racing", "")]
    draws = {generator(entropy, *n).random() for entropy in (1, 2) for n in names}
    assert len(draws) == 10
    assert generator(1, *names[0]).random() == generator(1, *names[0]).random()
