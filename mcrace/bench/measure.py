"""Timing: one process, one thread, one core, all libraries in turn in every round, medians over the rounds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import mcrace.kernels as kernels
from mcrace.bench import deep_peers
from mcrace.bench.deep_peers import EPS, DeepPeer
from mcrace.bench.peak import PEAK, Peak
from mcrace.bench.peers import PEERS, Peer, installed
from mcrace.errors import McraceError, StudyError, nearest
from mcrace.kernels.gram import RENEW
from mcrace.kernels.lanes import lane_count


class Shape(NamedTuple):
    """A network and its samples."""

    d: int
    m: int
    N: int

    @property
    def flops(self) -> int:
        """Nominal work of a step."""
        d, m, N = self
        return 4 * N * m * d + 6 * N * m + 4 * m * d


class LayeredShape(NamedTuple):
    """A network of several layers, or of normalised ones, and its samples."""

    d: int
    m: tuple[int, ...]
    N: int
    norm: str | None = None

    @property
    def flops(self) -> int:
        """Nominal work of a step: the products alone."""
        below = (self.d, *self.m)
        return self.N * sum((6 if l else 4) * a * b for l, (a, b) in enumerate(zip(below, (*self.m, 1))))


SHAPES: dict[str, Shape | LayeredShape] = {
    "A": Shape(2, 16, 32),
    "B": Shape(10, 50, 100),
    "C": Shape(20, 100, 200),
    "D": Shape(100, 300, 200),
    "E": Shape(3072, 300, 200),
    "G": Shape(64, 100, 200),
    "P": Shape(13, 97, 199),
    "F": LayeredShape(20, (64, 64), 200),
    "f": LayeredShape(20, (16, 16), 200),
    "BN": LayeredShape(10, (50,), 100, "layernorm"),
    "CN": LayeredShape(20, (100,), 200, "layernorm"),
}
DTYPES = ("float32", "float64")
GRAM_SHAPES = "E"  # where a peer on the Gram matrix is timed, too
VARIANT_SHAPES = "B"  # where mcrace is timed against itself
VARIANTS: dict[str, dict[str, Any]] = {
    "mcrace logistic": {"loss": "logistic"},
    "mcrace heavy ball": {"momentum": 0.9, "decay": 1e-3},
    "mcrace fresh data": {"fresh": True},
}
ETA = 0.01
SECONDS, TRIAL_SECONDS = 0.15, 0.05
LARGEST_BATCH, LARGEST_ARRAY = 1024, 64 << 20  # networks, bytes
HOPELESS = 0.7  # of the best speed: no larger batch is tried
WITH_OWN_RATIO = {PEAK, *(peer.library for peer in PEERS if peer.on_gram_matrix)}
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
                     "NUMBA_NUM_THREADS"), "1"),
    "JAX_PLATFORMS": "cpu",
}  # fmt: skip
ONE_XLA_THREAD = "--xla_cpu_multi_thread_eigen=false"


def start(shape: Shape, networks: int, dtype: str, fresh: bool = False) -> tuple[np.ndarray, ...]:
    """W, v, X and y to train from; `fresh`: samples of its own for each network."""
    rng, own = np.random.default_rng(0), (networks,) if fresh else ()
    W, v = rng.normal(size=(networks, shape.m, shape.d)), rng.normal(size=(networks, shape.m)) / shape.m
    X, y = rng.normal(size=(*own, shape.N, shape.d)) / math.sqrt(shape.d), rng.choice((-1.0, 1.0), (*own, shape.N))
    return tuple(a.astype(dtype) for a in (W, v, X, y))


def layered_start(shape: LayeredShape, networks: int, dtype: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights (W_1, ..., V, then gains and shifts), X and y to train from."""
    rng, widths = np.random.default_rng(0), (shape.d, *shape.m, 1)
    weights = [rng.normal(size=(networks, b, a)) / math.sqrt(a) for a, b in pairwise(widths)]
    if shape.norm:
        weights += [np.full((networks, m), value) for m in shape.m for value in (1.0, 0.0)]
    X, y = rng.normal(size=(shape.N, shape.d)), rng.choice((-1.0, 1.0), shape.N)
    return [w.astype(dtype) for w in weights], X.astype(dtype), y.astype(dtype)


class LayeredMcrace:
    """The layered kernels of mcrace, with the methods of a peer."""

    def __init__(self, shape: LayeredShape, dtype: str) -> None:
        weights, X, y = layered_start(shape, 4 * lane_count(np.dtype(dtype)), dtype)
        norm = kernels.Norm(shape.norm, eps=EPS, trained=("gain", "shift")) if shape.norm else None
        layers, rate = kernels.Layers(shape.d, shape.m, norm=norm), np.ones(len(weights[0]))
        if norm:
            count = len(shape.m) + 1
            of_norm = [a for l in range(count - 1) for a in (*weights[count + 2 * l : count + 2 * l + 2], rate)]
            weights = [*weights[:count], *of_norm]
        self.networks = kernels.LayeredNetworks(weights, X, y[:, None], "mse", dtype, layers=layers)
        self.taken = 0

    def run(self, steps: int) -> None:
        """Take steps."""
        self.networks.advance(self.taken, np.full(steps, ETA))
        self.taken += steps


class Mcrace:
    """The kernels of mcrace, with the methods of a peer.

    Parameters
    ----------
    shape : Shape
    dtype : str
    loss : {"mse", "logistic"}
    fresh : bool
        Whether each network has samples of its own.
    method : options of the kernels
    """

    def __init__(self, shape: Shape, dtype: str, loss: str = "mse", fresh: bool = False, **method: Any) -> None:
        groups = 4 if shape.m * shape.d < 10_000 else 1
        W, v, X, y = start(shape, groups * lane_count(np.dtype(dtype)), dtype, fresh)
        self.networks = kernels.networks(W, v, X, y, loss, dtype, **method)
        self.taken = 0

    def run(self, steps: int) -> None:
        """Take steps."""
        self.networks.advance(self.taken, np.full(steps, ETA))
        self.taken += steps


@dataclass
class Contender:
    """What is timed, and its figures so far."""

    library: str
    version: str
    runner: Mcrace | LayeredMcrace | Peer | DeepPeer | Peak
    batch: float
    period: int = 1  # steps are timed in multiples of it
    kernel: str | None = None
    steps: int = 0
    speeds: list[float] = field(default_factory=list)  # network-steps per second

    def time(self) -> float:
        """Seconds that `steps` take."""
        # The processor's time, not the wall's: what else runs on this core is not the library's doing.
        begin = time.process_time()
        self.runner.run(self.steps)
        return time.process_time() - begin

    def prepare(self, seconds: float) -> float:
        """Warm up, and find how many steps take at least so long; returns network-steps per second."""
        self.steps = self.period
        self.time()
        while (spent := self.time()) < seconds:
            self.steps *= min(max(2, math.ceil(1.1 * seconds / max(spent, 1e-9))), 1000)
        return self.batch * self.steps / spent

    def speed(self) -> float:
        """Network-steps per second, timed once more."""
        return self.batch * self.steps / self.time()


def _batches(shape: Shape | LayeredShape, dtype: str) -> Iterator[int]:
    """Numbers of networks to try."""
    one = np.max(shape.m) * max(shape.N, shape.d) * np.dtype(dtype).itemsize
    batch = 1
    while batch <= LARGEST_BATCH and batch * one <= LARGEST_ARRAY:
        yield batch
        batch *= 2


def _peer(peer: Any, shape: Shape | LayeredShape, dtype: str) -> Contender:
    """A peer with the number of networks at once that suits it best."""
    best, best_speed = None, 0.0
    for batch in _batches(shape, dtype):
        runner: Peer | DeepPeer
        if isinstance(shape, LayeredShape):
            weights, X, y = layered_start(shape, batch, dtype)
            runner = peer(weights, len(shape.m), X, y, ETA)
        else:
            runner = peer(*start(shape, batch, dtype), ETA)
        tried = Contender(peer.library, version(peer.module), runner, batch)
        speed = max(tried.prepare(TRIAL_SECONDS), tried.speed())
        if speed > best_speed:
            best, best_speed = tried, speed
        elif speed < HOPELESS * best_speed:
            break
    assert best is not None
    return best


def _own(library: str, shape: Shape, dtype: str, **options: Any) -> Contender:
    """The kernels of mcrace."""
    runner = Mcrace(shape, dtype, **options)
    networks = runner.networks
    period = RENEW if isinstance(networks, kernels.GramNetworks) else 1  # each timing has its share of the renewals
    return Contender(library, version("mcrace"), runner, networks.count, period, networks.kernel)


def _layered_contenders(shape: LayeredShape, dtype: str) -> Iterator[Contender]:
    """All that is timed at a layered shape; with one normalised layer also the same without."""
    runner = LayeredMcrace(shape, dtype)
    yield Contender("mcrace", version("mcrace"), runner, runner.networks.count, kernel=runner.networks.kernel)
    for peer in deep_peers.installed():
        yield _peer(peer, shape, dtype)
    if shape.norm and len(shape.m) == 1:
        yield _own("mcrace plain", Shape(shape.d, shape.m[0], shape.N), dtype)


def _contenders(name: str, dtype: str) -> Iterator[Contender]:
    """All that is timed at a shape."""
    shape = SHAPES[name]
    if isinstance(shape, LayeredShape):
        yield from _layered_contenders(shape, dtype)
        return
    yield _own("mcrace", shape, dtype)
    for peer in installed():
        if name in GRAM_SHAPES or not peer.on_gram_matrix:
            yield _peer(peer, shape, dtype)
    if name in VARIANT_SHAPES:
        for library, options in VARIANTS.items():
            yield _own(library, shape, dtype, **options)


def _row(name: str, dtype: str, contender: Contender) -> dict[str, Any]:
    shape, speed = SHAPES[name], median(contender.speeds)
    return {
        "shape": name, "dtype": dtype, "library": contender.library, "steps_per_second": speed,
        **shape._asdict(), "gflops": speed * shape.flops / 1e9, "kernel": contender.kernel,
        "version": contender.version, "batch": contender.batch, "rounds": len(contender.speeds),
    }  # fmt: skip


def _race(name: str, dtype: str, rounds: int) -> list[dict[str, Any]]:
    """The rows of one shape."""
    peak = Peak(dtype)
    contenders = [*_contenders(name, dtype), Contender(PEAK, version("mcrace"), peak, peak.flops / SHAPES[name].flops)]
    for contender in contenders:
        contender.prepare(SECONDS)
    for _ in range(rounds):
        for contender in contenders:
            contender.speeds.append(contender.speed())
    return [_row(name, dtype, contender) for contender in contenders]


def _short(figure: float) -> str:
    """Three digits: 17.7M, 520k, 133."""
    figure = float(f"{figure:.3g}")
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if figure >= size:
            return f"{figure / size:.3g}{unit}"
    return f"{figure:.3g}"


def _best_peer(speeds: dict[str, float]) -> str | None:
    """The fastest library that is neither mcrace nor on the Gram matrix, nor multiply-adds alone."""
    peers = [name for name in speeds if not name.startswith("mcrace") and name not in WITH_OWN_RATIO]
    return max(peers, key=speeds.__getitem__, default=None)


def _ratio(speeds: dict[str, float], peer: str | None) -> str:
    return f"{speeds['mcrace'] / speeds[peer]:.2f}×" if peer in speeds and "mcrace" in speeds else "-"


def _speeds(rows: Iterable[dict[str, Any]], dtype: str) -> dict[str, dict[str, float]]:
    """Network-steps per second of a dtype, by shape and library."""
    speeds: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["dtype"] == dtype:
            speeds.setdefault(row["shape"], {})[row["library"]] = row["steps_per_second"]
    return speeds


def _lines(speeds: dict[str, dict[str, float]], title: str) -> list[list[str]]:
    """The cells of the table of one dtype."""
    columns = list(speeds.values())
    seen = dict.fromkeys(library for column in columns for library in column)
    libraries = sorted(seen, key=lambda name: not name.startswith("mcrace"))
    lines = [[title, *speeds]]
    lines += [[name, *(_short(c[name]) if name in c else "-" for c in columns)] for name in libraries]
    others = [name for name in libraries if name in WITH_OWN_RATIO]
    lines += [[f"mcrace / {name}", *(_ratio(c, name) for c in columns)] for name in others]
    lines.append(["best peer", *(_best_peer(c) or "-" for c in columns)])
    lines.append(["mcrace / best peer", *(_ratio(c, _best_peer(c)) for c in columns)])
    return lines


def table(rows: list[dict[str, Any]]) -> str:
    """Network-steps per second: a line for each library, a column for each shape, a block for each dtype.

    Peers on the Gram matrix have a ratio of their own, and so has `fma peak`: as many network-steps as this core's
    multiply-adds would give for the nominal work, timed in the same rounds.  The best peer, last, is one of the others.
    """
    blocks = []
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        lines = _lines(_speeds(rows, dtype), f"{dtype}, steps/s")
        blocks.append(in_columns(lines))
    return "\n\n".join(blocks)


def in_columns(lines: list[list[str]]) -> str:
    """Cells below each other, names to the left and figures to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines)


def _summary(speeds: dict[str, float]) -> str:
    best = _best_peer(speeds)
    peer = f", best peer {best} {_short(speeds[best])}, {_ratio(speeds, best)}" if best else ""
    return f"mcrace {_short(speeds['mcrace'])}{peer}"


def _main() -> None:
    """Measure what the argument says, and print the rows as the last line."""
    if hasattr(os, "sched_setaffinity"):  # before JAX and PyTorch are imported: they count the cores they may use
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    asked = json.loads(sys.argv[1])
    rows = []
    for dtype in asked["dtypes"]:
        for name in asked["shapes"]:
            rows += _race(name, dtype, asked["rounds"])
            print(f"{dtype} {name}: {_summary(_speeds(rows, dtype)[name])}", file=sys.stderr, flush=True)
    print(json.dumps(rows))


def _check(sort: str, asked: Iterable[str], valid: Iterable[str]) -> None:
    for name in asked:
        if name not in valid:
            raise StudyError(f"unknown {sort} {name!r}: {nearest(name, valid)}")


def measure(shapes: list[str] | None = None, dtypes: Iterable[str] = DTYPES, rounds: int = 5) -> list[dict[str, Any]]:
    """Time mcrace and the peers that are installed, on one core, in a process of their own.

    Parameters
    ----------
    shapes : list of str, optional
        Names in `SHAPES`; all of them if not given.
    dtypes : of "float32", "float64"
    rounds : int
        In each of them every library is timed once.

    Returns
    -------
    list of dict
        For each shape, dtype and library: `shape`, `dtype`, `library`, `steps_per_second` (network-steps), `d`, `m`,
        `N`, `gflops` (nominal), `kernel` (of mcrace), `version`, `batch` (networks at once), `rounds`.
    """
    shapes, dtypes = list(dict.fromkeys(shapes or SHAPES)), list(dtypes)
    _check("shape", shapes, SHAPES)
    _check("dtype", dtypes, DTYPES)
    asked = {"shapes": shapes, "dtypes": dtypes, "rounds": rounds}
    flags = f"{os.environ.get('XLA_FLAGS', '')} {ONE_XLA_THREAD}".strip()
    # Not in this process, because the libraries read these when they are imported.
    return answer_of(__name__, json.dumps(asked), environment=ONE_THREAD | {"XLA_FLAGS": flags})


def answer_of(module: str, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> Any:
    """What `_main` of a module prints as its last line, JSON, in a process of its own.

    Raises
    ------
    McraceError
        If the process fails.
    """
    command = [sys.executable, "-c", f"from {module} import _main; _main()", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise McraceError(f"the process of the benchmark ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
