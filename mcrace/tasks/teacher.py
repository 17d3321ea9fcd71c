"""Gaussian inputs with the labels of a random network, the teacher."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.compiled import compiled
from mcrace.kernels.dynamics import Population
from mcrace.seeds import SHARED, Stream
from mcrace.tasks.base import Drawn, Pool, task
from mcrace.tasks.gaussian import GaussianInputs


@task("teacher")
class Teacher(GaussianInputs):
    """x ~ N(0, I), y the sign or the value of a random ReLU network of one hidden layer at x.

    The teacher is f(x) = K^(-1/2) Σ_a v_a relu(w_a·x) of K neurons, w_a ~ N(0, I/d) and v_a = +1, -1, +1, ..., so that
    both labels come up; where f is 0, the label is -1.  It comes from the stream (entropy, teacher): one teacher for all
    networks, or one for each.  Labels are those of raw inputs.  (An odd teacher would be linear, since
    relu(z) - relu(-z) = z; so in pairs x, -x each has its own label.)
    """

    kind: Literal["teacher"] = "teacher"
    teacher_neurons: int = Field(ge=1, le=100_000, description="neurons of the teacher")
    fresh_teacher: bool = Field(False, description="draw a teacher anew for each network; false: one for all")
    labels: Literal["sign", "value"] = Field("sign", description="sign of the teacher's output, or the output itself")

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _goes_together(self) -> Teacher:
        if self.labels == "value" and self.loss != "mse":
            raise ValueError('labels = "value" goes with loss = "mse"')
        if self.fresh_teacher and not self.fresh:
            raise ValueError("fresh_teacher = true goes with fresh = true, as shared samples have one teacher")
        return self

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        X = self.draw_inputs(stream)
        y = _outputs(X, self.weights(stream))
        return X, y if self.labels == "value" else np.where(y > 0, 1.0, -1.0)

    def population_of(self, entropy: int, networks: np.ndarray) -> Population:
        deviation = self._deviation_of_population(labels="value")
        entropy = entropy if self.data_entropy is None else self.data_entropy
        if self.fresh_teacher:
            units = np.empty((len(networks), self.teacher_neurons, self.dimension))
            for i, network in enumerate(networks):
                units[i] = self.weights(Stream(entropy, "data", int(network)))
        else:
            units = self.weights(Stream(entropy, "data", SHARED))
        signs = np.where(np.arange(self.teacher_neurons) % 2, -1.0, 1.0)
        return Population(units, signs / np.sqrt(self.teacher_neurons) / deviation, deviation)

    def weights(self, stream: Stream) -> np.ndarray:
        """w_a of the teacher [neuron, input], for the network of a stream."""
        own = stream.other("teacher") if self.fresh_teacher else stream.other("teacher", SHARED)
        return own.normals(self.teacher_neurons, self.dimension) / np.sqrt(self.dimension)


@compiled
def _outputs(X, W):
    """f of the teacher [sample]."""
    out = np.zeros(len(X))
    for n in range(len(X)):
        sign = 1.0
        for a in range(len(W)):
            total = 0.0
            for k in range(X.shape[1]):
                total += W[a, k] * X[n, k]
            out[n] += sign * max(total, 0.0)
            sign = -sign
        out[n] /= np.sqrt(len(W))
    return out
