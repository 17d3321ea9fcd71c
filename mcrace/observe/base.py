"""What an observable is, and what a path is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mcrace.observe.layered import as_layered
from mcrace.observe.snapshot import Moment, Snapshot
from mcrace.registry import Registry

Carry = dict[str, np.ndarray]
Kind = Literal["one-layer", "layered", "any"]


class Path(ABC):
    """An observable of the whole way of a network, over its recording times.

    What it carries from one recording time to the next are arrays [network, ...]; nothing may hang on how many networks
    come together, since they leave and join groups on their way.
    """

    @abstractmethod
    def begin(self, state: Any) -> Carry:
        """What is carried from the start on."""

    @abstractmethod
    def follow(self, carry: Carry, state: Any) -> None:
        """Take in the next recording time, or the network's last moment, by changing the arrays in place."""

    @abstractmethod
    def end(self, carry: Carry) -> np.ndarray:
        """The values [network, ...]."""


@dataclass(frozen=True)
class Observable:
    """A registered observable: `compute` of a moment, or a `path`; `tests` if it looks at test samples, `images` if it
    corrupts those; `networks` says of which networks it is.

    `relu`: it means something for ReLU neurons only; `samples`: where networks learn from their samples only.
    """

    name: str
    compute: Callable[..., np.ndarray]
    dims: tuple[str, ...]
    dtype: type
    units: str
    path: Path | None = None
    tests: bool = False
    images: bool = False
    networks: Kind = "one-layer"
    relu: bool = False
    samples: bool = False

    def seen(self, state: Moment) -> Moment:
        """The networks as the observable wants to see them."""
        return as_layered(state) if self.networks == "layered" else state

    @property
    def text(self) -> str:
        """What it is, from its docstring."""
        return " ".join(((self.path or self.compute).__doc__ or "").split())


OBSERVABLES: Registry[Observable] = Registry("observable", "mcrace.observables")


def observable(
    name: str, dims: tuple[str, ...] = (), dtype: type = float, units: str = "1", tests: bool = False, images: bool = False,
    networks: Kind = "one-layer", relu: bool = False, samples: bool = False,
) -> Callable:
    """Register ``f(state) -> array [network, *dims]`` as an observable.

    Parameters
    ----------
    name : str
        Name in study files and in the results file.
    dims : tuple of {"layer", "output", "neuron", "input", "sample", "kept", "some_neuron", "some_neuron_2"}
        What follows the network; `kept`: the number of neurons kept, 1 to all; `some_neuron`: the first 64.
    dtype : float or int
        Stored as float64 or int32.
    units : str
        Stored beside it; "1": a pure number.
    tests : bool
        Whether it needs test samples (``task.test_samples``).
    images : bool
        Whether it needs inputs that are images, which can be corrupted.
    networks : {"one-layer", "layered", "any"}
        What it is of: networks of one hidden layer and one output, as `Snapshot`; of any depth, as `LayeredSnapshot`, which
        one hidden layer can be seen as, too; or whatever a `Moment` is.
    relu : bool
        Whether it means something for ReLU neurons only.
    samples : bool
        Whether it means something only where networks learn from their samples, not from the whole population.
    """

    def register(compute: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        OBSERVABLES.add(name)(Observable(name, compute, dims, dtype, units, None, tests, images, networks, relu, samples))
        return compute

    return register


def path(
    name: str, dims: tuple[str, ...] = (), dtype: type = float, units: str = "1", networks: Kind = "one-layer"
) -> Callable:
    """Register a subclass of `Path` as an observable; parameters as for `observable`."""

    def register(kind: type[Path]) -> type[Path]:
        OBSERVABLES.add(name)(Observable(name, _no_moment, dims, dtype, units, kind(), networks=networks))
        return kind

    return register


def _no_moment(state: Snapshot) -> np.ndarray:
    raise TypeError("a path has no value at a moment")
