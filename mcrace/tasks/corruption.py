"""Corruptions of inputs: four of images in five severities, and added noise for any inputs (THEORY.md, corruption-robustness).

They are done to what a task draws, before any preparation.  Pixels are taken between 0 (black) and 1 (white), and cut to this
range in the end.  Every condition has random numbers of its own, the same for whatever network sees the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from mcrace.compiled import compiled
from mcrace.seeds import Stream, decay
from mcrace.tables import Section

Kind = Literal["noise", "shot", "blur", "contrast"]
SEVERITIES: dict[Kind, tuple[float, ...]] = {
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "shot": (60, 25, 12, 5, 3),  # photons of a white pixel
    "blur": (0.4, 0.6, 0.7, 0.8, 1),  # pixels
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # what is left
}
KINDS: tuple[Kind, ...] = ("noise", "shot", "blur", "contrast")
WIDEST = 4.0  # standard deviations at which a blur is cut


@dataclass(frozen=True)
class Image:
    """How the inputs of a task make up an image.

    Attributes
    ----------
    height, width, channels : int
    planes : bool
        Whether one channel comes after the other; else the channels of a pixel come together.
    white : float
        The largest value of an input; the smallest is 0.
    """

    height: int
    width: int
    channels: int = 1
    planes: bool = False
    white: float = 1.0

    @property
    def strides(self) -> tuple[int, int]:
        """Inputs from one pixel of a row to the next, and from one channel to the next."""
        return (1, self.height * self.width) if self.planes else (self.channels, 1)


class Condition(NamedTuple):
    """A corruption by the number that says how much; `CLEAN` is none.

    `place` counts the conditions, so that each has its own random numbers.
    """

    kind: Kind | Literal["clean"]
    amount: float = 0.0
    place: int = 0

    @classmethod
    def of(cls, kind: Kind, severity: int) -> Condition:
        """A corruption of images at a severity from 1 to 5.

        >>> Condition.of("shot", 2).amount
        25
        """
        return cls(kind, SEVERITIES[kind][severity - 1], 8 * KINDS.index(kind) + severity)

    @classmethod
    def noise(cls, sigma: float) -> Condition:
        """Added noise of any standard deviation."""
        return cls("noise", sigma)


CLEAN = Condition("clean")
CONDITIONS = tuple(tuple(Condition.of(kind, s) for s in range(1, 6)) for kind in KINDS)


class Corruption(Section):
    """Corruption of samples: an image's at a severity, or noise of a standard deviation, which any inputs can have."""

    kind: Kind = "noise"
    severity: int | None = Field(None, ge=1, le=5, description="1 to 5, for images")
    sigma: float | None = Field(None, gt=0, le=1e6, description="standard deviation of noise, instead of a severity; of an "
                                                               "image's, whose pixels are between 0 and 1")
    of: Literal["train", "test", "both"] = Field("both", description="which samples")

    @model_validator(mode="after")
    def _how_much(self) -> Corruption:
        if (self.severity is None) == (self.sigma is None):
            raise ValueError("a corruption has either a severity or a sigma")
        if self.sigma is not None and self.kind != "noise":
            raise ValueError('sigma goes with kind = "noise"')
        return self

    @property
    def condition(self) -> Condition:
        """What is done."""
        return Condition.noise(self.sigma) if self.severity is None else Condition.of(self.kind, self.severity)  # type: ignore


def corrupted(X: np.ndarray, condition: Condition, image: Image | None, stream: Stream) -> np.ndarray:
    """Raw inputs under a condition.

    Noise: x + σ N(0, 1); shot noise: Poisson(λx)/λ; blur: a Gaussian in two passes, cut at 4 σ, the image reflected at its
    edges (its outermost pixels twice); contrast: differences from the mean of each image and channel times a factor.

    Parameters
    ----------
    X : float64 array [sample, input]
    condition : Condition
    image : Image or None
        None: inputs that are no image; they can have noise alone, and are not cut.
    stream : Stream
        Where noise comes from, in the place of the condition.

    Returns
    -------
    float64 array [sample, input]
    """
    if condition.kind == "clean":
        return X
    kind, amount, place = condition
    stream.block = place << 40
    if image is None:
        return X + amount * stream.normals(*X.shape)
    x = X / image.white
    if kind == "noise":
        x = x + amount * stream.normals(*X.shape)
    elif kind == "shot":
        x = stream.poissons(amount * x) / amount
    else:
        out = np.empty_like(x)
        change = _blur if kind == "blur" else _flatten
        change(np.ascontiguousarray(x), image.height, image.width, image.channels, image.strides, amount, out)
        x = out
    return np.clip(x, 0, 1) * image.white


@compiled
def _reflected(i, size):
    """The place of a pixel beyond the edges: d c b a | a b c d | d c b a."""
    i %= 2 * size
    return i if i < size else 2 * size - 1 - i


@compiled
def _weights(sigma):
    radius = int(WIDEST * sigma + 0.5)
    out, total = np.empty(2 * radius + 1), 0.0
    for k in range(len(out)):
        out[k] = decay((k - radius) ** 2 / (2 * sigma * sigma))
        total += out[k]
    return out / total


@compiled
def _blur(X, height, width, channels, strides, sigma, out):
    pixel, channel = strides
    weights = _weights(sigma)
    radius = len(weights) // 2
    rows = np.empty((height, width))
    for n in range(len(X)):
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    total = 0.0
                    for k in range(len(weights)):
                        total += weights[k] * X[n, (i * width + _reflected(j + k - radius, width)) * pixel + c * channel]
                    rows[i, j] = total
            for i in range(height):
                for j in range(width):
                    total = 0.0
                    for k in range(len(weights)):
                        total += weights[k] * rows[_reflected(i + k - radius, height), j]
                    out[n, (i * width + j) * pixel + c * channel] = total


@compiled
def _flatten(X, height, width, channels, strides, factor, out):
    pixel, channel = strides
    for n in range(len(X)):
        for c in range(channels):
            total = 0.0
            for p in range(height * width):
                total += X[n, p * pixel + c * channel]
            mean = total / (height * width)
            for p in range(height * width):
                out[n, p * pixel + c * channel] = mean + factor * (X[n, p * pixel + c * channel] - mean)
