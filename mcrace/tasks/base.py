"""What every task has in common: its options, the preparation of inputs, and the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mcrace.registry import Registry
from mcrace.seeds import SHARED, Stream
from mcrace.tables import Section

Pool = dict[str, np.ndarray]


class Task(Section):
    """The options that every task takes.

    A task draws samples for one network from a *pool*: arrays that are prepared once, saved, and read by all workers.
    """

    kind: str
    samples: int = Field(ge=1, le=1_000_000, description="samples of each network")
    fresh: bool = Field(True, description="draw samples anew for each network; false: once, for all")
    center: bool = Field(True, description="subtract the mean of each feature")
    scale: Literal["none", "unit-rms"] = Field("unit-rms", description="one factor, so that the mean of |x|² is 1")
    permute_labels: bool = Field(False, description="shuffle the labels among the samples")
    loss: Literal["mse", "logistic"] = "logistic"

    version: ClassVar[int] = 1

    def pool(self) -> Pool:
        """The arrays that samples are drawn from; empty for a task that makes its samples.

        Raises
        ------
        StudyError
            If the data lack what the options ask for.
        """
        return {}

    def inputs(self) -> int:
        """Dimension d of the inputs."""
        raise NotImplementedError

    def draw(self, pool: Pool, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        """Raw samples [sample, input] and labels [sample], +1 or -1, from the stream."""
        raise NotImplementedError

    def sample(self, pool: Pool, entropy: int, network: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples [sample, input] and labels [sample], float64, prepared, of one network.

        The stream is (entropy, data, network); what all networks share has a network number of its own.
        """
        network = network if self.fresh else SHARED
        X, y = self.draw(pool, Stream(entropy, "data", network))
        if self.permute_labels:
            y = y[Stream(entropy, "labels", network).permutation(len(y))]
        return self.prepare(X), y

    def prepare(self, X: np.ndarray) -> np.ndarray:
        """Centre and scale samples, summing in order (`cumsum`), so that no processor decides a bit."""
        if self.center:
            X = X - np.cumsum(X, axis=0)[-1] / len(X)
        if self.scale == "unit-rms":
            mean_square = np.cumsum((X * X).reshape(-1))[-1] / len(X)
            X = X / np.sqrt(mean_square) if mean_square > 0 else X
        return X


TASKS: Registry[type[Task]] = Registry("task", "mcrace.tasks")


def task(name: str) -> Callable[[type[Task]], type[Task]]:
    """Register a subclass of `Task` under the name that study files use for it (``task.kind``)."""
    return TASKS.add(name)
