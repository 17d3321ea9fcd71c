"""Normalisation over the units of a layer, forward and backward, at a tile of samples (THEORY.md, normalised-growth).

    u_i = c_i/σ_eff,  c = h - mean h,  σ_eff = σ s(E),  σ² = mean c² + eps,  E = Q/σ²

The mean is never taken out of h: it is taken out of the weights, h - mean h = (W - mean row) x + (b - mean b), and
likewise out of their slopes.  With p = -∂L/∂u, P = Σ p u, s' = ds/dE and Q = cᵀMc/m of the windows of three,

    -∂L/∂c = (p - u (P/m)(s² - 2 s s' E) - (2/m) P s s' Mu)/σ_eff        -∂L/∂log σ_eff = -P

and s' = 0 where E is not of h.  Where σ = 0 (all units equal and eps = 0; a single unit) u = 0, E = 0, z = β, and the slope
is 0.  Four numbers a sample go from forward to backward, the rows of `scale`:
"""

from __future__ import annotations

from mcrace.compiled import inner
from mcrace.kernels.architecture import LAYERNORM, R_LAYERNORM
from mcrace.kernels.elementary import exp, log
from mcrace.kernels.one_layer import TILE
from mcrace.kernels.tiles import dot, fma, gate, inline, load, root, store, where, zeros

INVERSE, PULL, BEND, TILT = range(4)  # 1/σ_eff, (s² - 2 s s' E)/m, (2/m) s s', ∂(log σ_eff)/∂λ


# ------------------------------------------------------------------------------------------------- the mean


@inner
def centre(A, m):
    """Take the mean of the first m rows out of them, by differences from the first, so that equal rows give exactly 0."""
    for k in range(A.cols):
        first, total = load(A, 0, k, 1, 1), zeros(A, 1, 1)
        for i in range(m):
            total = total + (load(A, i, k, 1, 1) - first)
        mean = total * (1 / m)
        for i in range(m):
            store(A, i, k, (load(A, i, k, 1, 1) - first) - mean)


# ------------------------------------------------------------------------------------------------- windows of three


@inline
def mirrored(i, m):
    """An index next to 0..m-1, reflected at the ends; a single unit is its own neighbour."""
    inside = 1 if i < 0 else (m - 2 if i >= m else i)
    return min(max(inside, 0), m - 1)


@inline
def _roughness(h, n, m):
    """m Q: the variance of each three neighbouring units, summed."""
    total = zeros(h, 1, TILE)
    for i in range(m):
        unit = load(h, i, n, 1, TILE)
        below, above = unit - load(h, mirrored(i - 1, m), n, 1, TILE), load(h, mirrored(i + 1, m), n, 1, TILE) - unit
        both = below + above
        total = dot(both, both, dot(above, above, dot(below, below, total)))
    return total * (1 / 9)


@inline
def _off_the_window(u, i, centre, n, m):
    """u_i less the mean of the window round another unit."""
    unit = load(u, i, n, 1, TILE)
    left, right = load(u, mirrored(centre - 1, m), n, 1, TILE), load(u, mirrored(centre + 1, m), n, 1, TILE)
    return ((unit - left) + (unit - load(u, centre, n, 1, TILE)) + (unit - right)) * (1 / 3)


@inline
def _bent(u, i, n, m):
    """(Mu)_i: a third of u_i less the mean, over the windows that hold unit i (the two at the ends hold a unit twice)."""
    total = _off_the_window(u, i, i, n, m)
    if i > 0:
        total = total + (2 if i == 1 else 1) * _off_the_window(u, i, i - 1, n, m)
    if i < m - 1:
        total = total + (2 if i == m - 2 else 1) * _off_the_window(u, i, i + 1, n, m)
    return total * (1 / 3)


# ------------------------------------------------------------------------------------------------- forward


@inner
def measure(c, n, square, rough, rate, norm, m, scale):
    """1/σ_eff at samples n:n+TILE from the sums of squares; what the backward pass needs goes to `scale`.

    `rough` is E of each sample where it is not of h; `rate` is λ.
    """
    variance = square * (1 / m) + norm.eps
    # σ/σ² and not 1/σ: an infinite variance gives a NaN, and no unit that is silently 0
    inverse = where(gate(variance), root(variance) / variance, 0)
    if norm.kind == LAYERNORM:
        store(scale, PULL, n, zeros(c, 1, TILE) + 1 / m)
    else:
        E = load(rough, 0, n, 1, TILE)
        if norm.on_units:
            E = where(gate(variance), _roughness(c, n, m) * (1 / m) / variance, 0)
        t = rate * E
        if norm.kind == R_LAYERNORM:
            s, tilt = 1 + t, E / (1 + t)
            slope = rate / (1 + t)  # ∂(log s)/∂E
        else:
            part = t / (1 + t)
            s, tilt = exp(norm.alpha * (log(1 + t) - part)), norm.alpha * E * part / (1 + t)
            slope = norm.alpha * rate * part / (1 + t)
        inverse = inverse / s
        if not norm.on_units:
            slope = zeros(c, 1, TILE)
        store(scale, PULL, n, s * s * (1 - 2 * slope * E) * (1 / m))
        store(scale, BEND, n, s * s * slope * (2 / m))
        store(scale, TILT, n, tilt)
    store(scale, INVERSE, n, inverse)
    return inverse


@inline
def normalise(units, above, gain, shift, inverse, n):
    """Centred h becomes u in its place, and above = relu(γu + β)."""
    for i in range(above.rows):
        u = load(units, i, n, 1, TILE) * inverse
        z = fma(load(gain, i, 0, 1, 1), u, load(shift, i, 0, 1, 1))
        store(units, i, n, u)
        store(above, i, n, where(gate(z), z, 0))


# ------------------------------------------------------------------------------------------------- backward


@inline
def pull_back(slope, units, gain, scale, pulled, n, norm, m):
    """-∂L/∂z becomes -∂L/∂c in its place, at samples n:n+TILE; `pulled` is P."""
    inverse, pull = load(scale, INVERSE, n, 1, TILE), pulled * load(scale, PULL, n, 1, TILE)
    for i in range(m):
        p = load(gain, i, 0, 1, 1) * load(slope, i, n, 1, TILE)
        store(slope, i, n, inverse * (p - load(units, i, n, 1, TILE) * pull))
    if norm.on_units:
        bend = inverse * pulled * load(scale, BEND, n, 1, TILE)
        for i in range(m):
            store(slope, i, n, load(slope, i, n, 1, TILE) - bend * _bent(units, i, n, m))
