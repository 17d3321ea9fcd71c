"""Tasks with a rotation symmetry, and with knobs that break it (THEORY.md, angular-momentum)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.compiled import compiled
from mcrace.errors import StudyError
from mcrace.kernels.dynamics import Population, half_sphere_mean, mean_power
from mcrace.seeds import Stream
from mcrace.tasks.base import Drawn, Pool, Task, task

NORM, SQUARE, LINEAR, QUADRATIC = range(4)
FUNCTIONS = {"norm": NORM, "square": SQUARE, "linear": LINEAR, "quadratic": QUADRATIC}


class Rotation(Task):
    """Gaussian inputs, labels that a rotation leaves alone or turns along, and what breaks the symmetry.

    Labels are those of raw inputs.  The mean of each feature stays, unless `center` is set: taking it off would move all
    samples to one side, and so break the symmetry.
    """

    function: Literal["norm", "square", "linear", "quadratic"] = Field(
        "norm", description="|x|/√d or |x|²/d; controls without the symmetry: x_1 or (x_1² - x_2²)/2")
    dimension: int = Field(ge=2, le=100_000, description="number of inputs")
    epsilon: float = Field(0.0, ge=-100, le=100, description="breaks the symmetry: adds epsilon x_1 to the labels")
    anisotropy: float = Field(1.0, ge=1, le=1e6, description="breaks it, too: ratio of the largest standard deviation of an "
                                                             "input to the smallest, which fall as a geometric series")
    center: bool = Field(False, description="subtract the mean of each feature, which breaks the symmetry")
    loss: Literal["mse", "logistic"] = "mse"

    @property
    def symmetric(self) -> bool:
        """Whether the law of inputs and labels has the symmetry."""
        still = not (self.epsilon or self.center or self.whiten or self.center_samples or self.normalise)
        return self.function in ("norm", "square") and self.anisotropy == 1 and still and not self.permute_labels

    def inputs(self) -> int:
        return self.dimension

    def draw_inputs(self, stream: Stream) -> np.ndarray:
        """Raw inputs [sample, input]."""
        return self._round(stream) * self.anisotropy ** (0.5 - np.arange(self.dimension) / (self.dimension - 1))

    def _round(self, stream: Stream) -> np.ndarray:
        """Samples [sample, input] of an isotropic law."""
        return stream.normals(self.samples, self.dimension)


@task("invariant")
class Invariant(Rotation):
    """x ~ N(0, I), y = |x|/√d or another function of |x|; with knobs that break the rotation symmetry.

    With `order` n, in the plane, samples come in orbits of the rotations by 2π/n: a sum over them is an integral over the
    circle by the trapezoidal rule.
    """

    kind: Literal["invariant"] = "invariant"
    labels: Literal["value", "sign"] = Field("value", description="the value, or its sign round its median (logistic loss)")
    order: int = Field(1, ge=1, le=1_000_000, description="n of the symmetry C_n of the samples, which come in orbits of n")

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _goes_together(self) -> Invariant:
        if (self.labels == "value") != (self.loss == "mse"):
            raise ValueError('labels = "value" goes with loss = "mse", labels = "sign" with loss = "logistic"')
        if self.order > 1 and self.dimension != 2:
            raise ValueError("order goes with dimension = 2, the plane")
        for name in ("samples", "test_samples"):
            if getattr(self, name) % self.order:
                raise ValueError(f"{name} must be a multiple of order = {self.order}, as samples come in orbits")
        return self

    def few(self) -> Invariant:
        return self.model_copy(update={"samples": 4 * self.order})

    def _labels(self, X: np.ndarray) -> np.ndarray:
        y = np.empty(len(X))
        _values(X, FUNCTIONS[self.function], self.epsilon, y)
        return y if self.labels == "value" else np.where(y > _median(self.function, X.shape[1]), 1.0, -1.0)

    def _round(self, stream: Stream) -> np.ndarray:
        if self.order == 1:
            return super()._round(stream)
        return _orbits(stream.normals(self.samples // self.order, 2), self.order)

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        X = self.draw_inputs(stream)
        return X, self._labels(X)

    def population_of(self, entropy: int, networks: np.ndarray) -> Population:
        deviation = self._deviation_of_population(labels="value", anisotropy=1.0, order=1, center=False)
        if self.function == "quadratic":
            raise StudyError('training.gradient = "population": that of task.function = "quadratic" has no closed form')
        d, linear = self.dimension, self.epsilon + (self.function == "linear")
        radial, square = {"norm": (math.sqrt(d), 1.0), "square": (mean_power(d, 3) / d, 1 + 2 / d), "linear": (0.0, 0.0)}[
            self.function]  # E[g(|z|)|z|] and E[g²] of raw inputs z
        units = np.zeros((2 if linear else 0, d))
        units[:, 0] = np.array([linear, -linear])[: len(units)] / deviation
        return Population(units, np.array([1.0, -1.0])[: len(units)], deviation, deviation * radial * half_sphere_mean(d),
                          square + linear**2)


@task("equivariant")
class Equivariant(Rotation):
    """x ~ N(0, I), y = x h(|x|) with as many outputs as inputs, which a rotation of x turns along.

    y is x times the `function` of |x|.  Those without the symmetry, and epsilon x_1, are added along the first output alone.
    """

    kind: Literal["equivariant"] = "equivariant"
    loss: Literal["mse"] = "mse"

    version: ClassVar[int] = 1

    def outputs(self) -> int:
        return self.dimension

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        X = self.draw_inputs(stream)
        radial, broken = np.zeros(len(X)), np.empty(len(X))
        if self.function in ("norm", "square"):
            _values(X, FUNCTIONS[self.function], 0.0, radial)
            broken[:] = self.epsilon * X[:, 0]
        else:
            _values(X, FUNCTIONS[self.function], self.epsilon, broken)
        y = X * radial[:, None]
        y[:, 0] += broken
        return X, y


@compiled
def _values(X, function, epsilon, out):
    d = X.shape[1]
    for n in range(len(X)):
        square = 0.0
        for k in range(d):
            square += X[n, k] * X[n, k]
        if function == NORM:
            value = np.sqrt(square / d)
        elif function == SQUARE:
            value = square / d
        elif function == LINEAR:
            value = X[n, 0]
        else:
            value = (X[n, 0] * X[n, 0] - X[n, 1] * X[n, 1]) / 2
        out[n] = value + epsilon * X[n, 0]


@compiled
def _orbits(first, order):
    out = np.empty((len(first) * order, 2))
    for n in range(len(first)):
        x, y = first[n, 0], first[n, 1]
        for k in range(order):
            c, s = np.cos(2 * np.pi * k / order), np.sin(2 * np.pi * k / order)
            out[n * order + k, 0] = c * x - s * y
            out[n * order + k, 1] = s * x + c * y
    return out


def _median(function: str, inputs: int) -> float:
    """The median of a function, by Wilson and Hilferty's of |x|² (PNAS 17, 684, 1931): off by 1 % at most."""
    square = (1 - 2 / (9 * inputs)) ** 3
    return {"norm": math.sqrt(square), "square": square}.get(function, 0.0)
