"""All randomness: (entropy, stream, network) -> numbers.  Nothing else draws.

Words come from Philox 4x64-10 (Salmon et al., SC 2011), keyed by the entropy, with a counter of (block, stream, network):
network i of a stream has the same numbers whoever computes it, in whatever order.  Normals are made from the words by
Wichura's inverse (AS 241, 1988) with a logarithm of our own, so that no system library decides a bit.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from mcrace.compiled import compiled

STREAMS = {"data": 1, "init": 2, "labels": 3, "batches": 4, "velocity": 5, "directions": 6, "test": 7, "teacher": 8,
           "partitions": 9, "tickets": 10, "another": 11, "embedding": 20, "corruption": 30, "test corruption": 31,
           "pixels": 32, "roughness": 33, "layer-tickets": 40}
SHARED = 2**63  # the network number of what all networks of a study share
U64 = np.uint64


@compiled
def _multiply(a, b):
    """High and low words of the 128-bit product."""
    low = U64(0xFFFFFFFF)
    half = U64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    p00, p01, p10 = a0 * b0, a0 * b1, a1 * b0
    middle = (p00 >> half) + (p01 & low) + (p10 & low)
    return a1 * b1 + (p01 >> half) + (p10 >> half) + (middle >> half), a * b


@compiled
def philox(key, block, stream, network, out):
    """Fill `out` with the words of a stream from a block (of four words) on."""
    done = 0
    while done < len(out):
        k0, k1 = key[0], key[1]
        c0, c1, c2, c3 = U64(block), U64(stream), U64(network), U64(0)
        for _ in range(10):
            h0, l0 = _multiply(U64(0xD2E7470EE14C6C93), c0)
            h1, l1 = _multiply(U64(0xCA5A826395121157), c2)
            c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
            k0 += U64(0x9E3779B97F4A7C15)
            k1 += U64(0xBB67AE8584CAA73B)
        for word in (c0, c1, c2, c3):
            if done < len(out):
                out[done] = word
                done += 1
        block += 1


@compiled
def _uniform(word):
    """A number strictly between 0 and 1, a multiple of 2^-52 off by half a step: 53 bits, so nothing is rounded to 1."""
    return (float(word >> U64(12)) + 0.5) * 2.0**-52


@compiled
def logarithm(x):
    """Natural logarithm of a normal positive number, by its exponent and a series in (m-1)/(m+1)."""
    exponent = 0
    while x < 0.7071067811865476:
        x *= 2.0
        exponent -= 1
    s = (x - 1.0) / (x + 1.0)
    s2 = s * s
    total = 0.0
    for k in range(23, 0, -2):
        total = total * s2 + 1.0 / k
    return 2.0 * s * total + exponent * 0.6931471805599453


@compiled
def decay(x):
    """e^-x of a number from 0 on, by halves and a series."""
    halves = int(np.floor(x / 0.6931471805599453))
    rest = x - halves * 0.6931471805599453
    total = 1.0
    for k in range(20, 0, -1):
        total = 1.0 - rest / k * total
    for _ in range(min(halves, 1100)):
        total *= 0.5
    return total


@compiled
def _poisson(word, mean):
    """The inverse of the distribution, found from 0 on; the bound is one that no word of 53 bits gets to."""
    u, chance, count = _uniform(word), decay(mean), 0
    below = chance
    while u > below and count < mean + 20.0 * np.sqrt(mean) + 60.0:
        count += 1
        chance *= mean / count
        below += chance
    return float(count)


@compiled
def _poissons(words, means, out):
    for k in range(len(words)):
        out[k] = _poisson(words[k], means[k])


@compiled
def _ratio(top, bottom, r):
    p, q = 0.0, 0.0
    for k in range(7, -1, -1):
        p = p * r + top[k]
        q = q * r + bottom[k]
    return p / q


# Wichura (1988), algorithm AS 241, PPND16: the three ranges of the inverse normal distribution
CENTRE = np.array([[3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
                    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3],
                   [1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
                    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3]])
NEAR = np.array([[1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
                  1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4],
                 [1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
                  1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9]])
FAR = np.array([[6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
                 2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7],
                [1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
                 7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15]])


@compiled
def _normal(word):
    q = _uniform(word) - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(CENTRE[0], CENTRE[1], 0.180625 - q * q)
    r = np.sqrt(-logarithm(0.5 - abs(q)))
    x = _ratio(NEAR[0], NEAR[1], r - 1.6) if r <= 5.0 else _ratio(FAR[0], FAR[1], r - 5.0)
    return x if q > 0 else -x


@compiled
def _normals(words, out):
    for k in range(len(words)):
        out[k] = _normal(words[k])


@compiled
def _shuffle(words, out):
    """Fisher and Yates; the bias of the multiply-and-shift is below 2^-40 for a million items."""
    for k in range(len(out)):
        out[k] = k
    for k in range(len(out) - 1, 0, -1):
        other, _ = _multiply(words[k], U64(k + 1))
        out[k], out[int(other)] = out[int(other)], out[k]


@compiled
def _choose(words, items, out):
    """The first steps of a shuffle from the front: which comes first does not depend on how many are chosen."""
    for k in range(len(out)):
        other, _ = _multiply(words[k], U64(len(items) - k))
        j = k + int(other)
        items[k], items[j] = items[j], items[k]
        out[k] = items[k]


@lru_cache
def _key(entropy: int) -> np.ndarray:
    return np.array([entropy & (2**64 - 1), entropy >> 64], np.uint64)


class Stream:
    """The numbers of one stream of one network, drawn in order.

    Parameters
    ----------
    entropy : int
        Root of every stream of a study, 0 to 2^128 - 1.
    name : str
        One of `STREAMS`.
    network : int
        Seed of the network, or `SHARED` for what all networks share.

    Examples
    --------
    >>> Stream(7, "init", 3).normals(2).shape
    (2,)
    >>> bool((Stream(7, "init", 3).normals(5)[:2] == Stream(7, "init", 3).normals(2)).all())
    True
    """

    def __init__(self, entropy: int, name: str, network: int) -> None:
        self.entropy, self.key = entropy, _key(entropy)
        self.stream, self.network = STREAMS[name], U64(network)
        self.block = 0

    def other(self, name: str, network: int | None = None) -> Stream:
        """Another stream of the same entropy from its start, of the same network or of a given one.

        >>> bool(Stream(7, "data", 3).other("test").normals(1) == Stream(7, "test", 3).normals(1))
        True
        """
        return Stream(self.entropy, name, int(self.network) if network is None else network)

    def words(self, count: int) -> np.ndarray:
        """The next raw words, uint64; each call starts at a block of four."""
        out = np.empty(count, np.uint64)
        philox(self.key, self.block, self.stream, self.network, out)
        self.block += -(-count // 4)
        return out

    def normals(self, *shape: int) -> np.ndarray:
        """Standard normal numbers, float64."""
        out = np.empty(shape)
        _normals_of(self.key, self.block, self.stream, np.array([self.network]), out.reshape(1, -1))
        self.block += -(-out.size // 4)
        return out

    def uniforms(self, *shape: int) -> np.ndarray:
        """Numbers strictly between 0 and 1, float64."""
        words = self.words(int(np.prod(shape)))
        return (((words >> U64(12)).astype(float) + 0.5) * 2.0**-52).reshape(shape)

    def poissons(self, means: np.ndarray) -> np.ndarray:
        """Poisson numbers of given means, each from 0 to 700: float64 array of the shape of the means."""
        out = np.empty(means.shape)
        _poissons(self.words(out.size), np.ascontiguousarray(means, float).reshape(-1), out.reshape(-1))
        return out

    def signs(self, *shape: int) -> np.ndarray:
        """+1 or -1 with equal chance, float64."""
        words = self.words(int(np.prod(shape)))
        return np.where(words >> U64(63), 1.0, -1.0).reshape(shape)

    def permutation(self, count: int) -> np.ndarray:
        """A random order of 0 ... count-1, int64."""
        out = np.empty(count, np.int64)
        _shuffle(self.words(count), out)
        return out

    def choices(self, count: int, sets: int, size: int) -> np.ndarray:
        """Sets of different numbers below `count`, each in random order: int64 array [set, size].

        More of them, or fewer, begin with the same ones.
        """
        out = np.empty((sets, size), np.int64)
        words = self.words(sets * size).reshape(size, sets)
        for n in range(sets):
            _choose(np.ascontiguousarray(words[:, n]), np.arange(count), out[n])
        return out


@compiled
def _normals_of(key, block, stream, networks, out):
    words = np.empty(out.shape[1], np.uint64)
    for i in range(len(networks)):
        philox(key, block, stream, networks[i], words)
        _normals(words, out[i])


def normals_of(entropy: int, name: str, networks: np.ndarray, *shape: int) -> np.ndarray:
    """The first normals of a stream of many networks: float64 array [network, *shape].

    >>> bool((normals_of(7, "init", np.array([3]), 2)[0] == Stream(7, "init", 3).normals(2)).all())
    True
    """
    out = np.empty((len(networks), int(np.prod(shape))))
    _normals_of(_key(entropy), 0, STREAMS[name], networks.astype(np.uint64), out)
    return out.reshape(len(networks), *shape)


@compiled
def _directional(key, stream, networks, dimension, kappa, out):
    """Wood's rejection (Commun. Stat. 23, 157, 1994), each try of a neuron from blocks of its own."""
    half = dimension - 1
    words, numbers = np.empty(2 * half + 1, np.uint64), np.empty(2 * half + 1)
    blocks = (len(words) + 3) // 4
    b = half / (2.0 * kappa + np.sqrt(4.0 * kappa * kappa + float(half * half)))
    x = (1.0 - b) / (1.0 + b)
    most = kappa * x + half * logarithm(1.0 - x * x)
    for i in range(len(networks)):
        for a in range(out.shape[1]):
            for attempt in range(1 << 16):
                philox(key, ((a << 16) + attempt) * blocks, stream, networks[i], words)
                _normals(words, numbers)
                first, second = 0.0, 0.0
                for k in range(half):
                    first += numbers[k] * numbers[k]
                    second += numbers[half + k] * numbers[half + k]
                share = first / (first + second)
                cosine = (1.0 - (1.0 + b) * share) / (1.0 - (1.0 - b) * share)
                out[i, a] = cosine
                if kappa * cosine + half * logarithm(1.0 - x * cosine) - most >= logarithm(_uniform(words[2 * half])):
                    break


def directional_cosines(entropy: int, networks: np.ndarray, neurons: int, dimension: int, kappa: float) -> np.ndarray:
    """Cosines to the axis of von Mises-Fisher directions, from the stream (entropy, directions, network).

    Parameters
    ----------
    networks : int64 array [network]
    dimension : int
        Of the space, 2 at least.
    kappa : float
        Concentration; the density is proportional to exp(kappa cos).

    Returns
    -------
    float64 array [network, neuron]

    Examples
    --------
    >>> bool((directional_cosines(7, np.array([3]), 5, 10, 1000.0) > 0.9).all())
    True
    """
    out = np.empty((len(networks), neurons))
    _directional(_key(entropy), STREAMS["directions"], networks.astype(np.uint64), dimension, kappa, out)
    return out


@compiled
def _batches(key, stream, networks, first, samples, out):
    """The minibatches of `batches`, an epoch's order from the epoch's own blocks."""
    steps, size = out.shape[1:]
    an_epoch = (samples + size - 1) // size
    words, order = np.empty(samples, np.uint64), np.empty(samples, np.int64)
    for i in range(len(networks)):
        here = -1
        for t in range(steps):
            epoch, part = (first + t) // an_epoch, (first + t) % an_epoch
            if epoch != here:
                philox(key, epoch * ((samples + 3) // 4), stream, networks[i], words)
                _shuffle(words, order)
                here = epoch
            for s in range(size):
                at = part * size + s
                out[i, t, s] = order[at] if at < samples else -1


def batches(entropy: int, networks: np.ndarray, first: int, steps: int, samples: int, size: int) -> np.ndarray:
    """Which samples make the minibatches of steps first, first+1, ...: int32 array [network, step, sample].

    In each epoch every sample comes once, in an order of its own from the stream (entropy, batches, network); the last
    batch of an epoch is filled up with -1.
    """
    out = np.empty((len(networks), steps, size), np.int32)
    _batches(_key(entropy), STREAMS["batches"], networks.astype(np.uint64), first, samples, out)
    return out


def generator(entropy: int, *names: str) -> np.random.Generator:
    """A generator for the resampling of a test, by (entropy, prediction, cell).

    >>> float(generator(1, "racing", "main").random()) == float(generator(1, "racing", "main").random())
    True
    """
    digest = hashlib.sha256("\x00".join([str(entropy), *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
