"""Gaussian inputs with labels that a line separates."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.seeds import Stream
from mcrace.tasks.base import Drawn, Pool, Task, task

MEDIAN = 0.6744897501960817  # of |x_1|


class GaussianInputs(Task):
    """x ~ N(0, I), or pairs x, -x."""

    dimension: int = Field(ge=1, le=100_000, description="number of inputs")
    symmetric: bool = Field(False, description="samples in pairs x, -x")

    @model_validator(mode="after")
    def _pairs(self) -> GaussianInputs:
        for name in ("samples", "test_samples"):
            if self.symmetric and getattr(self, name) % 2:
                raise ValueError(f"{name} must be even where they come in pairs x, -x (symmetric = true)")
        return self

    def inputs(self) -> int:
        return self.dimension

    def draw_inputs(self, stream: Stream) -> np.ndarray:
        """Raw inputs [sample, input]."""
        if not self.symmetric:
            return stream.normals(self.samples, self.dimension)
        X = stream.normals(self.samples // 2, self.dimension)
        return np.concatenate([X, -X])


@task("gaussian")
class Gaussian(GaussianInputs):
    """x ~ N(0, I), y = sign(x_1), or sign(|x_1| - its median); `symmetric`: samples in pairs x, -x, whose labels are opposite
    or alike.
    """

    kind: Literal["gaussian"] = "gaussian"
    labels: Literal["odd", "even"] = Field("odd", description="odd: sign(x_1); even: whether |x_1| is above its median")

    version: ClassVar[int] = 1

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        X = self.draw_inputs(stream)
        high = X[:, 0] > 0 if self.labels == "odd" else abs(X[:, 0]) > MEDIAN
        return X, np.where(high, 1.0, -1.0)
