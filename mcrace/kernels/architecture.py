"""What a layered network is made of: which arrays are its weights, and where they stand among its parameters.

With hidden layers l = 1..H, x_0 the input, and f the outputs,

    h_l = W_l x_(l-1) + b_l        z_l = h_l, or γ_l (h_l - mean h_l)/σ_eff + β_l
    x_l = relu(z_l) [+ x_(l-1)]    f = V x_H + b_out

where σ_eff comes from the units of the layer at one sample (THEORY.md, normalised-growth): σ² = var(h) + eps, and

    layernorm               σ
    r_layernorm             σ (1 + λE)
    bayesian_r_layernorm    σ exp(α ψ(λE)),  ψ(t) = log(1 + t) - t/(1 + t)

E is the mean variance of three neighbouring units over σ² (see `mcrace.tasks.roughness`), or that of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mcrace.kernels.lanes import padded
from mcrace.kernels.one_layer import TILE

NONE, LAYERNORM, R_LAYERNORM, BAYESIAN = range(4)
NORMS = {"layernorm": LAYERNORM, "r_layernorm": R_LAYERNORM, "bayesian_r_layernorm": BAYESIAN}
GAIN, SHIFT, STRENGTH = "gain", "shift", "strength"
RATES = 1e-3, 1.0  # between which a trained λ is kept


@dataclass(frozen=True)
class Norm:
    """A normalisation between h and relu, in every hidden layer.

    Attributes
    ----------
    kind : {"layernorm", "r_layernorm", "bayesian_r_layernorm"}
    of : {"hidden", "input"}
        Whose E it is: that of the layer's own h, or of the network's input, handed in as a number per sample.
    alpha : float
    eps : float
        Added to the variance; may be 0.
    trained : tuple of "gain", "shift", "strength"
        Which of γ, β and λ are trained; λ is kept between 0.001 and 1.
    """

    kind: str = "layernorm"
    of: str = "hidden"
    alpha: float = 1.0
    eps: float = 1e-5
    trained: tuple[str, ...] = ()

    @property
    def on_units(self) -> bool:
        """Whether E changes with the units."""
        return self.kind != "layernorm" and self.of == "hidden"


class Parts(NamedTuple):
    """The arrays of a network, or of many, by what they are; empty where there are none."""

    matrices: tuple[Any, ...]  # W_1, ..., W_H, V
    biases: tuple[Any, ...]  # b_1, ..., b_H, b_out
    gains: tuple[Any, ...]  # γ_1, ..., γ_H
    shifts: tuple[Any, ...]  # β_1, ..., β_H
    rates: tuple[Any, ...]  # λ_1, ..., λ_H


@dataclass(frozen=True)
class Layers:
    """The architecture of a network.

    Its weights are a tuple of arrays in the order of `names`: W_1, ..., W_H, V, then with biases b_1, ..., b_H, b_out, then
    with a normalisation γ_l, β_l, λ_l of each hidden layer in turn, whether they are trained or not.

    Attributes
    ----------
    inputs : int
    hidden : tuple of int
        Units of each hidden layer, at least one.
    outputs : int
    bias : bool
    residual : bool
        Whether x_(l-1) is added to x_l, for l > 1, where the two have the same width.
    norm : Norm, optional

    Examples
    --------
    >>> Layers(3, (5, 4), bias=True).shapes
    ((5, 3), (4, 5), (1, 4), (5,), (4,), (1,))
    >>> Layers(3, (5,), norm=Norm()).names
    ('W1', 'V', 'gain1', 'shift1', 'strength1')
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int = 1
    bias: bool = False
    residual: bool = False
    norm: Norm | None = None

    @classmethod
    def of(cls, matrices: Sequence[np.ndarray]) -> Layers:
        """The plain layers of weights [network, unit, input], from the first hidden layer to the outputs."""
        widths = [matrices[0].shape[-1], *(W.shape[-2] for W in matrices)]
        return cls(widths[0], tuple(widths[1:-1]), widths[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each array."""
        layers = [str(l) for l in range(1, len(self.hidden) + 1)]
        names = [*("W" + l for l in layers), "V"]
        names += [*("b" + l for l in layers), "b_out"] if self.bias else []
        names += [kind + l for l in layers for kind in (GAIN, SHIFT, STRENGTH)] if self.norm else []
        return tuple(names)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each array of one network; λ is a number."""
        widths = (self.inputs, *self.hidden, self.outputs)
        shapes: list[tuple[int, ...]] = [(above, below) for below, above in pairwise(widths)]
        shapes += [(width,) for width in widths[1:]] if self.bias else []
        shapes += [shape for m in self.hidden for shape in ((m,), (m,), ())] if self.norm else []
        return tuple(shapes)

    @property
    def skips(self) -> tuple[bool, ...]:
        """Whether x_(l-1) is added to x_l, for each hidden layer."""
        return tuple(self.residual and l > 0 and m == self.hidden[l - 1] for l, m in enumerate(self.hidden))

    def parts(self, arrays: Sequence[Any]) -> Parts:
        """The arrays, given in the order of `names`, by what they are."""
        count = len(self.hidden) + 1
        end = 2 * count if self.bias else count
        of_norm = tuple(arrays[end:])
        return Parts(tuple(arrays[:count]), tuple(arrays[count:end]), of_norm[::3], of_norm[1::3], of_norm[2::3])


WIDTHS, UNITS, WEIGHTS, BIASES, GAINS, SHIFTS, SKIPS, ACTIVATIONS, NORMALS, SCALES, SLOPES = range(11)


class Plan(NamedTuple):
    """Where things stand: among the parameters of a network, and among the rows of its workspace [row, sample].

    Units and outputs are padded to a multiple of `TILE` (a single output is not), inputs are not.  The rows of `table` have
    an entry for each layer, the rest is 0; they are one array, since each array that kernels hand on makes them longer:

    - WIDTHS of inputs, hidden layers and outputs, padded; UNITS of the hidden layers, not padded
    - where W_1, ..., V start (WEIGHTS), then b (BIASES), γ (GAINS) and β (SHIFTS)
    - SKIPS: whether x_(l-1) is added to x_l
    - rows of x_l, and of the outputs (ACTIVATIONS); of (h - mean h)/σ_eff (NORMALS); and of four numbers a sample (SCALES,
      see `mcrace.kernels.normalisation`); of the slopes at h_l or at the outputs, in the place of one of these (SLOPES)
    """

    table: np.ndarray
    layers: int  # hidden ones
    rates: int
    size: int  # of all parameters
    moving: np.ndarray  # [kind, 2] where trained parameters start and end: first the weights, last, if at all, λ
    trained_rates: bool
    bias: bool
    fused: bool  # whether the last hidden layer and the output are one: see `mcrace.kernels.layers.head`
    kept: int  # rows for what goes round a layer
    rows: int

    def row(self, what: int) -> list[int]:
        """A row of the table."""
        return [int(entry) for entry in self.table[what]]


def _starts(sizes: Sequence[int], first: int) -> np.ndarray:
    """Where blocks of these sizes start, one after the other from `first` on, and where the last one ends."""
    return np.concatenate([[first], first + np.cumsum(np.array(sizes, np.int64))]).astype(np.int64)


def plan_of(layers: Layers) -> Plan:
    """The plan of networks of an architecture."""
    norm = layers.norm
    out = layers.outputs if layers.outputs == 1 else padded(layers.outputs, TILE)
    hidden = [padded(m, TILE) for m in layers.hidden]
    widths = [layers.inputs, *hidden, out]
    weights = _starts([a * b for a, b in pairwise(widths)], 0)
    biases = _starts([padded(m, TILE) if layers.bias else 0 for m in widths[1:]], int(weights[-1]))
    gains = _starts([m if norm else 0 for m in hidden], int(biases[-1]))
    shifts = _starts([m if norm else 0 for m in hidden], int(gains[-1]))
    rates = int(shifts[-1])
    size = rates + (padded(len(hidden), TILE) if norm else 0)
    trained = norm.trained if norm else ()
    kinds = [(True, 0, weights[-1]), (layers.bias, biases[0], biases[-1]), (GAIN in trained, gains[0], gains[-1]),
             (SHIFT in trained, shifts[0], shifts[-1]), (STRENGTH in trained, rates, size)]
    activations = _starts(widths[1:], 0)
    normals = _starts([m if norm else 0 for m in hidden], int(activations[-1]))
    scales = _starts([4 if norm else 0 for _ in hidden], int(normals[-1]))
    kept = int(scales[-1])
    fused = norm is not None and not norm.on_units and layers.outputs == 1 and not layers.skips[-1]
    slopes = activations.copy()
    if fused:
        slopes[len(hidden) - 1] = normals[len(hidden) - 1]
    rows: list[Sequence[int] | np.ndarray] = [
        widths, layers.hidden, weights, biases, gains, shifts, layers.skips, activations, normals, scales, slopes,
    ]  # fmt: skip
    table = np.zeros((len(rows), len(widths)), np.int64)
    for row, entries in zip(table, rows):
        row[: len(entries)] = entries[: len(row)]
    moving = np.array([(start, end) for moves, start, end in kinds if moves], np.int64)
    return Plan(table, len(hidden), rates, size, moving, STRENGTH in trained, layers.bias, fused, kept,
                kept + max(hidden) * any(layers.skips))


class NormOf(NamedTuple):
    """A `Norm` as kernels take it."""

    kind: int
    on_units: bool
    alpha: float
    eps: float

    @classmethod
    def made(cls, norm: Norm | None, dtype: np.dtype) -> NormOf:
        """In the numbers of a dtype."""
        one = dtype.type
        if norm is None:
            return cls(NONE, False, one(0), one(0))
        return cls(NORMS[norm.kind], norm.on_units, one(norm.alpha), one(norm.eps))
