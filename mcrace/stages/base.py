"""What a stage is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mcrace.recording import Recorder
from mcrace.registry import Registry
from mcrace.sections import Config
from mcrace.store import Variable


@dataclass(frozen=True)
class Trained:
    """The networks of a shard after their training.

    Attributes
    ----------
    config : Config
    pool : dict of arrays
        What the task draws from.
    entropy : int
    seeds : int64 array [network]
    batch : int
        Networks to train together; only memory and speed hang on it.
    record : Recorder
        What was recorded of them.
    """

    config: Config
    pool: dict[str, np.ndarray]
    entropy: int
    seeds: np.ndarray
    batch: int
    record: Recorder

    def at(self, observable: str, state: str) -> np.ndarray:
        """An observable at a state [network, ...]."""
        return self.record.at[observable][:, self.record.states.index(state)]


class Stage(ABC):
    """Something done with networks after their training, in the shard that trained them.

    Attributes
    ----------
    observables : tuple of str
        What the training has to record for it, as in ``record.observables``.
    layered : bool
        Whether it knows networks of more than one hidden layer and one output.
    """

    observables: ClassVar[tuple[str, ...]] = ()
    layered: ClassVar[bool] = False

    @abstractmethod
    def work(self, config: Config) -> float:
        """What it costs, as a multiple of the training."""

    @abstractmethod
    def run(self, trained: Trained) -> dict[str, Variable]:
        """What it stores: variables whose first dimension is the seed, and coordinates of their other dimensions."""

    @property
    def text(self) -> str:
        """What it is, from its docstring."""
        return " ".join((self.__doc__ or "").split())


STAGES: Registry[Stage] = Registry("stage", "mcrace.stages")


def stage(name: str) -> Callable[[type[Stage]], type[Stage]]:
    """Register a subclass of `Stage` under the name that study files use (``record.stages``)."""

    def register(kind: type[Stage]) -> type[Stage]:
        STAGES.add(name)(kind())
        return kind

    return register
