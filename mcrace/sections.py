"""The sections of a study file, and the configuration that they make up: what may stand there, and what it means."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from mcrace.kernels.activations import Activation
from mcrace.sweep import plain_name
from mcrace.tables import Section
from mcrace.tasks import Task

PARAMETERS = {"leak": "leaky-relu", "sharpness": "softplus"}  # what an activation needs
FLOWS = ("flow", "adaptive")
OPTIONS = {"halvings": "flow", "rtol": "adaptive", "atol": "adaptive", "evaluations": "adaptive"}  # of a method
STATE = re.compile(r"start|tau=(?!0(?:\.0*)?$)[0-9]{1,3}(?:\.[0-9]{1,6})?|onset|final|level=0\.[0-9]{1,6}")


class Seeds(Section):
    """Which seeds: network i of a cell is seed i."""

    first: int = Field(0, ge=0, lt=2**62, description="the first seed")
    count: int = Field(ge=1, le=10**9, description="networks in each cell")


class Heading(Section):
    """The [study] table."""

    name: str = Field(description="letters, digits, and . _ - = , +")
    seeds: Seeds
    entropy: int = Field(ge=0, lt=2**63, description="root of every random stream")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | dict):
            raise ValueError("a number of networks, or a table { first, count }")
        return {"count": value} if isinstance(value, int) else value

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)


class Direction(Section):
    """Directions that are not uniform: von Mises-Fisher with density ∝ exp(kappa cos) to an axis."""

    kappa: float = Field(gt=0, le=1e6, description="concentration")
    axis: int | Literal["random"] = Field(0, description="number of the input that is the axis; or one drawn for all networks")


class Init(Section):
    """Random start: w ~ scale N(0, I/d), v = ±|w|/ratio."""

    scale: float = Field(1.0, gt=0, le=1e6, description="standard deviation of |w|, about")
    norms: Literal["normal", "equal"] = Field("normal", description="equal: |w| = scale for every neuron")
    direction: Direction | None = Field(None, description="uniform by default")
    balanced: bool = Field(True, description="|v| = |w|; false: v ~ scale N(0, 1)")
    ratio: float = Field(1.0, gt=0, le=1e6, description="|w|/|v| where balanced, at the same product")
    paired: bool = Field(False, description="neurons in pairs with opposite v, so that f = 0 at the start")
    subtract_start: bool = Field(False, description="the output is f minus f at the start, so that it is 0 there (mse)")


class Norm(Section):
    """Between h = Wx and the ReLU of every hidden layer: γ (h - mean h)/σ_eff + β (THEORY.md, normalised-growth)."""

    kind: Literal["layernorm", "r_layernorm", "bayesian_r_layernorm"]
    eps: float = Field(1e-5, ge=0, le=1, description="added to the variance")
    roughness_of: Literal["hidden", "input"] = Field("hidden", description="what E is measured on: h, or the input x")
    strength: float = Field(1.0, ge=1e-3, le=1, description="λ, at the start where it is trained")
    alpha: float = Field(1.0, ge=0, le=100, description="α of bayesian_r_layernorm")
    trained: tuple[Literal["gain", "shift", "strength"], ...] = Field((), max_length=3, description="of γ, β, λ; others stay")
    roughness: Literal["own", "frozen", "shuffled"] = Field(
        "own", description="E of each sample; its mean over the training samples; that of another sample (controls)")

    @model_validator(mode="after")
    def _goes_together(self) -> Norm:
        if self.roughness != "own" and self.roughness_of == "hidden":
            raise ValueError(f'roughness = "{self.roughness}" goes with roughness_of = "input"')
        return self


class Network(Section):
    """The [network] table."""

    hidden: tuple[int, ...] = Field(min_length=1, max_length=16, description="neurons in each hidden layer, from the first on")
    bias: bool = Field(False, description="a bias for each neuron and output, 0 at the start")
    activation: Activation = Field("relu", description="of the hidden neurons")
    leak: float | None = Field(None, gt=-1, lt=1, description="slope of leaky-relu below 0")
    sharpness: float | None = Field(None, gt=0, le=1e6, description="β of softplus, log(1 + e^{βh})/β, which is relu at β → ∞")
    residual: bool = Field(False, description="add to a hidden layer the one below it, where both have as many neurons")
    norm: Norm | None = None
    init: Init = Init()

    @field_validator("hidden")
    @classmethod
    def _widths(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= m <= 100_000 for m in hidden):
            raise ValueError("a layer has between 1 and 100,000 neurons")
        return hidden

    @model_validator(mode="after")
    def _goes_together(self) -> Network:
        for name, kind in PARAMETERS.items():
            if (self.activation == kind) != (getattr(self, name) is not None):
                raise ValueError(f'activation = "{kind}" needs {name}' if self.activation == kind else
                                 f'{name} goes with activation = "{kind}"')
        if len(self.hidden) > 1:
            if self.init.paired:
                raise ValueError("init.paired goes with one hidden layer; init.subtract_start does the same at any depth")
            if self.init.direction is not None:
                raise ValueError("init.direction goes with one hidden layer")
        if self.init.paired and self.hidden[0] % 2:
            raise ValueError("the number of neurons must be even where they come in pairs (init.paired = true)")
        return self

    @property
    def parameter(self) -> float:
        """The number that goes with the activation; 0 where there is none."""
        return self.leak or self.sharpness or 0.0


class Until(Section):
    """When a network stops before its last step."""

    loss_drop: float = Field(gt=0, lt=1, description="share of the loss of the zero output that must be gone")


class Schedule(Section):
    """How the step size changes: see `mcrace.schedule.step_sizes`."""

    kind: Literal["constant", "step", "cosine"] = "constant"
    warm_up: int = Field(0, ge=0, le=10**9, description="steps in which the step size rises linearly")
    every: int = Field(1000, ge=1, le=10**9, description="steps between two drops")
    factor: float = Field(0.5, gt=0, le=1, description="what a drop leaves")
    floor: float = Field(0.0, ge=0, le=1, description="share of the step size that a cosine ends at")


class Training(Section):
    """The [training] table.

    heavy-ball: velocity = momentum velocity - step_size gradient; by `friction` γ, momentum = 1 - γ sqrt(step_size),
    which is w'' = -γ w' - gradient in the time sqrt(step_size) (THEORY.md, balancedness).  sign: every weight by step_size.
    flow and adaptive follow the gradient flow itself from one multiple of step_size to the next: by descent with halved steps
    and extrapolation, or by a 5(4) pair with as many steps as the tolerances ask for (see `mcrace.kernels.integrators`).
    """

    method: Literal["gd", "heavy-ball", "sign", "flow", "adaptive"] = "gd"
    gradient: Literal["samples", "population"] = Field(
        "samples", description="of the loss on the samples; or on all inputs, in closed form, where the samples are for tests")
    step_size: float = Field(gt=0, le=1e6, description="step of descent")
    schedule: Schedule = Schedule()
    momentum: float | None = Field(None, ge=0, le=1, description="share of the velocity kept at a step")
    friction: float | None = Field(None, ge=0, description="γ of the heavy ball, instead of momentum")
    initial_velocity: float = Field(0.0, ge=0, le=1e6, description="scale of random velocities w', v' at the start")
    weight_decay: float = Field(0.0, ge=0, le=1e6, description="λ of λ(|W|² + |v|²)/2 added to the loss")
    halvings: int = Field(1, ge=1, le=6, description="how often the flow halves a step; its order is one more")
    rtol: float = Field(1e-6, ge=1e-13, le=0.1, description="of adaptive: error of a step, relative to each weight")
    atol: float = Field(1e-9, gt=0, le=1, description="of adaptive: the same, absolute")
    evaluations: int = Field(10_000, ge=12, le=10**8, description="of adaptive: gradients in a step_size at most")
    batch: int | None = Field(None, ge=1, description="samples in a minibatch; all of them by default")
    steps: int = Field(ge=1, le=10**9, description="steps at most")
    until: Until | None = None
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _heavy_ball(self) -> Training:
        given = [name for name in ("momentum", "friction") if getattr(self, name) is not None]
        if self.method == "heavy-ball" and len(given) != 1:
            raise ValueError('method = "heavy-ball" needs one of momentum and friction')
        if self.method != "heavy-ball" and (given or self.initial_velocity):
            raise ValueError(f'{(given or ["initial_velocity"])[0]} goes with method = "heavy-ball"')
        if not 0 <= self.kept_velocity <= 1:
            raise ValueError(f"friction {self.friction:g} is too large for the step: friction sqrt(step_size) is at most 1")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Training:
        for name, method in OPTIONS.items():
            if self.method != method and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f'{name} goes with method = "{method}"')
        if self.batch and (self.method in ("sign", *FLOWS) or self.gradient == "population"):
            key = f'method = "{self.method}"' if self.gradient == "samples" else 'gradient = "population"'
            raise ValueError(f"{key} takes no minibatches (batch)")
        if self.dtype == "float32" and (self.method == "adaptive" or self.gradient == "population"):
            key = 'method = "adaptive"' if self.method == "adaptive" else 'gradient = "population"'
            raise ValueError(f'{key} goes with dtype = "float64"')
        return self

    @property
    def kept_velocity(self) -> float:
        """The momentum μ of a step; 0 for plain descent."""
        if self.friction is not None:
            return 1 - self.friction * self.step_size**0.5
        return self.momentum or 0.0


class Times(Section):
    """Recording times."""

    spacing: Literal["log", "linear"] = "log"
    count: int = Field(48, ge=2, le=100_000, description="recording times, step 0 and the last included")


class Record(Section):
    """The [record] table: what is stored, and when."""

    times: Times | tuple[int, ...] = Times()
    observables: tuple[str, ...] = Field(("loss",), max_length=1000)
    stages: tuple[str, ...] = Field((), max_length=100, description="what is done with the networks after their training")
    weights: Literal["none", "ends", "all"] = "none"

    @field_validator("times")
    @classmethod
    def _increasing(cls, times: Times | tuple[int, ...]) -> Times | tuple[int, ...]:
        if isinstance(times, tuple) and (not times or times[0] < 0 or any(b <= a for a, b in itertools.pairwise(times))):
            raise ValueError("a list of recording times holds steps from 0 on, in increasing order")
        return times

    @field_validator("observables")
    @classmethod
    def _states(cls, observables: tuple[str, ...]) -> tuple[str, ...]:
        for item in observables:
            _, at, state = item.partition("@")
            if at and not STATE.fullmatch(state):
                raise ValueError(f"{item!r}: a state is start, tau=x, onset, level=0.x or final")
        return observables


@dataclass(frozen=True)
class Config:
    """All that decides the numbers of a cell, but for its seeds."""

    task: Task
    network: Network
    training: Training
    record: Record

    @property
    def layered(self) -> bool:
        """Whether the network is more than one hidden layer of ReLUs and one output, W and v."""
        network = self.network
        more = network.bias or network.residual or network.init.subtract_start or network.norm is not None
        return more or len(network.hidden) > 1 or self.task.outputs() > 1

    def plain(self) -> dict[str, Any]:
        """As nested dictionaries of plain values."""
        return {part: getattr(self, part).model_dump(mode="json") for part in SECTIONS}

    def deciding(self) -> dict[str, Any]:
        """The same without what decides no number: where the data lie."""
        plain = self.plain()
        return {**plain, "task": {k: v for k, v in plain["task"].items() if k not in self.task.places}}


SECTIONS: dict[str, type[Section]] = {"network": Network, "training": Training, "record": Record}
SECTIONS = {"task": Task, **SECTIONS}


def recording_steps(times: Times | tuple[int, ...], steps: int) -> np.ndarray:
    """The steps at which a network is recorded, int64, increasing; 0 and the last included.

    >>> recording_steps(Times(count=6), 1000).tolist()
    [0, 1, 6, 32, 178, 1000]
    """
    if isinstance(times, tuple):
        return np.array([t for t in times if t <= steps], np.int64)
    if times.count > steps:
        return np.arange(steps + 1)
    if times.spacing == "linear":
        return np.round(np.linspace(0, steps, times.count)).astype(np.int64)
    first, left = 1, times.count - 2  # one by one, until the steps of a log grid are longer than 1
    while left and first * ((steps / first) ** (1 / left) - 1) < 1:
        first, left = first + 1, left - 1
    rest = np.round(np.geomspace(first, steps, left + 1)) if left else [steps]
    return np.concatenate([np.arange(first), rest]).astype(np.int64)
