"""Tasks whose pool holds every sample there is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mcrace.errors import StudyError
from mcrace.seeds import Stream
from mcrace.tasks.base import Drawn, Pool, Task


class FromPool(Task):
    """Samples are drawn without replacement from X [image, input] and y [image]; test samples are the next of that order."""

    unit: ClassVar[float] = 1.0  # what the stored numbers are divided by

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        return self._rows(pool, stream, 0, self.samples)

    def draw_test(self, pool: Pool, stream: Stream) -> Drawn:
        return self._rows(pool, stream, self.samples, self.samples + self.test_samples)

    def _rows(self, pool: Pool, stream: Stream, first: int, stop: int) -> Drawn:
        chosen = stream.permutation(len(pool["y"]))[first:stop]
        return pool["X"][chosen] / self.unit, pool["y"][chosen]

    def check_size(self, available: int, what: str) -> None:
        """Whether there are enough samples.

        Raises
        ------
        StudyError
            If there are fewer than the task asks for; `what` says whose they are, as in "the file has".
        """
        asked = self.samples + self.test_samples
        if asked > available:
            key, more = ("test_samples", f", {self.samples} of them to train on") if self.test_samples else ("samples", "")
            raise StudyError(f"task.{key}: {what.format(available)}, fewer than the {asked} asked for{more}")

    @staticmethod
    def labels(second: np.ndarray) -> np.ndarray:
        """+1 where a sample is of the second class, else -1 [sample]."""
        return np.where(second, 1.0, -1.0)
