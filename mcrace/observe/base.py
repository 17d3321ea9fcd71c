"""What an observable is, and what a path is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcrace.observe.snapshot import Snapshot
from mcrace.registry import Registry

Carry = dict[str, np.ndarray]


class Path(ABC):
    """An observable of the whole way of a network, over its recording times.

    What it carries from one recording time to the next are arrays [network, ...]; nothing may hang on how many networks
    come together, since they leave and join groups on their way.
    """

    @abstractmethod
    def begin(self, state: Snapshot) -> Carry:
        """What is carried from the start on."""

    @abstractmethod
    def follow(self, carry: Carry, state: Snapshot) -> None:
        """Take in the next recording time, or the network's last moment, by changing the arrays in place."""

    @abstractmethod
    def end(self, carry: Carry) -> np.ndarray:
        """The values [network, ...]."""


@dataclass(frozen=True)
class Observable:
    """A registered observable: `compute` of a moment, or a `path`; `tests` if it looks at test samples.

    `relu`: it means something for ReLU neurons only; `samples`: where networks learn from their samples only.
    """

    name: str
    compute: Callable[[Snapshot], np.ndarray]
    dims: tuple[str, ...]
    dtype: type
    units: str
    path: Path | None = None
    tests: bool = False
    relu: bool = False
    samples: bool = False

    @property
    def text(self) -> str:
        """What it is, from its docstring."""
        return " ".join(((self.path or self.compute).__doc__ or "").split())


OBSERVABLES: Registry[Observable] = Registry("observable", "mcrace.observables")


def observable(
    name: str, dims: tuple[str, ...] = (), dtype: type = float, units: str = "1", tests: bool = False, relu: bool = False,
    samples: bool = False,
) -> Callable:
    """Register ``f(state) -> array [network, *dims]`` as an observable.

    Parameters
    ----------
    name : str
        Name in study files and in the results file.
    dims : tuple of {"neuron", "input", "sample", "kept", "some_neuron", "some_neuron_2"}
        What follows the network; `kept`: the number of neurons kept, 1 to all; `some_neuron`: the first 64.
    dtype : float or int
        Stored as float64 or int32.
    units : str
        Stored beside it; "1": a pure number.
    tests : bool
        Whether it needs test samples (``task.test_samples``).
    relu : bool
        Whether it means something for ReLU neurons only.
    samples : bool
        Whether it means something only where networks learn from their samples, not from the whole population.
    """

    def register(compute: Callable[[Snapshot], np.ndarray]) -> Callable[[Snapshot], np.ndarray]:
        OBSERVABLES.add(name)(Observable(name, compute, dims, dtype, units, tests=tests, relu=relu, samples=samples))
        return compute

    return register


def path(name: str, dims: tuple[str, ...] = (), dtype: type = float, units: str = "1") -> Callable:
    """Register a subclass of `Path` as an observable; parameters as for `observable`."""

    def register(kind: type[Path]) -> type[Path]:
        OBSERVABLES.add(name)(Observable(name, _no_moment, dims, dtype, units, kind()))
        return kind

    return register


def _no_moment(state: Snapshot) -> np.ndarray:
    raise TypeError("a path has no value at a moment")
