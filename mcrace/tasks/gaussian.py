"""Gaussian inputs with labels that a line separates."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.seeds import Stream
from mcrace.tasks.base import Pool, Task, task


@task("gaussian")
class Gaussian(Task):
    """x ~ N(0, I), y = sign(x_1); `symmetric`: samples in pairs x, -x, so that the labels are odd."""

    kind: Literal["gaussian"] = "gaussian"
    dimension: int = Field(ge=1, le=100_000, description="number of inputs")
    symmetric: bool = Field(False, description="samples in pairs x, -x with odd labels")

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _pairs(self) -> Gaussian:
        if self.symmetric and self.samples % 2:
            raise ValueError("samples must be even where they come in pairs x, -x (symmetric = true)")
        return self

    def inputs(self) -> int:
        return self.dimension

    def draw(self, pool: Pool, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        count = self.samples // 2 if self.symmetric else self.samples
        X = stream.normals(count, self.dimension)
        if self.symmetric:
            X = np.concatenate([X, -X])
        return X, np.where(X[:, 0] > 0, 1.0, -1.0)
