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
    data_entropy: int | None = Field(None, ge=0, lt=2**63, description="root of the streams of data and labels, "
                                                                      "instead of study.entropy")

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

    def samples_of(self, pool: Pool, entropy: int, networks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prepared samples and labels, float64, of some networks.

        The stream is (entropy, data, network); what all networks share has a network number of its own.

        Returns
        -------
        X : array [network, sample, input], or [sample, input] where they are shared
        y : array [network, sample], or [sample]
        """
        entropy = entropy if self.data_entropy is None else self.data_entropy
        drawn = [self._labelled(pool, entropy, int(i)) for i in (networks if self.fresh else [SHARED])]
        X, y = (np.stack(part) for part in zip(*drawn))
        X = self.prepare(X)
        return (X, y) if self.fresh else (X[0], y[0])

    def sample(self, pool: Pool, entropy: int, network: int) -> tuple[np.ndarray, np.ndarray]:
        """Prepared samples [sample, input] and labels [sample] of one network."""
        X, y = self.samples_of(pool, entropy, np.array([network]))
        return (X[0], y[0]) if self.fresh else (X, y)

    def _labelled(self, pool: Pool, entropy: int, network: int) -> tuple[np.ndarray, np.ndarray]:
        X, y = self.draw(pool, Stream(entropy, "data", network))
        if self.permute_labels:
            y = y[Stream(entropy, "labels", network).permutation(len(y))]
        return X, y

    def prepare(self, X: np.ndarray) -> np.ndarray:
        """Centre and scale samples [network, sample, input], each network's own; `cumsum` adds in order, so that no
        processor decides a bit.
        """
        if self.center:
            X = X - np.cumsum(X, axis=1)[:, -1:] / X.shape[1]
        if self.scale == "unit-rms":
            mean_square = np.cumsum((X * X).reshape(len(X), -1), axis=1)[:, -1, None, None] / X.shape[1]
            X = X / np.sqrt(np.where(mean_square > 0, mean_square, 1))
        return X


TASKS: Registry[type[Task]] = Registry("task", "mcrace.tasks")


def task(name: str) -> Callable[[type[Task]], type[Task]]:
    """Register a subclass of `Task` under the name that study files use for it (``task.kind``)."""
    return TASKS.add(name)
