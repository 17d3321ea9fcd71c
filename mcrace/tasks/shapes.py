"""Shapes of manifolds in coordinates of their own: nearest points, tangent bases and curvatures.

Everything is closed or a few Newton steps in compiled loops, without BLAS, LAPACK or the system's sine, so that no
processor or library decides a bit.  Points are float64 arrays [point, coordinate].
"""

from __future__ import annotations

import numpy as np

from mcrace.compiled import compiled

FIRST_TURN, LAST_TURN = 1.5 * np.pi, 4.5 * np.pi  # the angles between which a swiss roll is rolled, as in scikit-learn
GRID = 96  # angles of a swiss roll that are looked at for the nearest
HALVINGS = 200  # at most; a bracket of float64 numbers is closed after about 60
HALF_PI_HIGH, HALF_PI_LOW = 1.57079632673412561417e0, 6.07710050650619224932e-11  # of fdlibm: the first has 33 bits


@compiled
def sine_and_cosine(t):
    """sin t and cos t, |t| < 1e3, by reduction to an eighth of a turn and their series."""
    turns = np.floor(t / (HALF_PI_HIGH + HALF_PI_LOW) + 0.5)
    x = (t - turns * HALF_PI_HIGH) - turns * HALF_PI_LOW
    s, c = 0.0, 0.0
    for k in range(19, 0, -2):
        s = 1.0 - x * x / ((k + 1) * (k + 2)) * s
    for k in range(18, -1, -2):
        c = 1.0 - x * x / ((k + 1) * (k + 2)) * c
    s *= x
    quarter = int(turns) % 4
    if quarter == 0:
        return s, c
    if quarter == 1:
        return c, -s
    if quarter == 2:
        return -s, -c
    return -c, s


@compiled
def _orthonormal(rows):
    """Gram and Schmidt in place, twice, since once leaves rounding behind."""
    for j in range(len(rows)):
        for _ in range(2):
            for i in range(j):
                along = 0.0
                for e in range(rows.shape[1]):
                    along += rows[i, e] * rows[j, e]
                for e in range(rows.shape[1]):
                    rows[j, e] -= along * rows[i, e]
        total = 0.0
        for e in range(rows.shape[1]):
            total += rows[j, e] * rows[j, e]
        for e in range(rows.shape[1]):
            rows[j, e] /= np.sqrt(total)


@compiled
def _across(normal, out):
    """An orthonormal basis of what is orthogonal to a unit vector: the other columns of a Householder reflection."""
    size = len(normal)
    sign = 1.0 if normal[0] >= 0 else -1.0
    for j in range(1, size):
        for e in range(size):
            mirror = normal[e] + (sign if e == 0 else 0.0)
            out[j - 1, e] = (1.0 if e == j else 0.0) - mirror * normal[j] / (1.0 + sign * normal[0])


# ------------------------------------------------------------------------------------------------- ellipsoids and spheres


@compiled
def ellipsoid_feet(Z, axes):
    """The nearest points of Σ (z_e/a_e)² = 1, semi-axes a: z_e a_e²/(a_e² + λ) with the largest root λ.

    By bisection in μ = λ + min a², as Eberly does (Distance from a point to an ellipsoid, 2013).  Where several points are as
    near, the one along the first of the shortest axes, on its positive side.
    """
    out = np.empty_like(Z)
    least = 0
    for e in range(len(axes)):
        if axes[e] < axes[least]:
            least = e
    square = axes[least] * axes[least]
    for n in range(len(Z)):
        shortest, all_of_it = 0.0, 0.0
        for e in range(len(axes)):
            term = (axes[e] * Z[n, e]) ** 2
            all_of_it += term
            if axes[e] == axes[least]:
                shortest += term
        low, high = np.sqrt(shortest), np.sqrt(all_of_it)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            total = 0.0
            for e in range(len(axes)):
                total += (axes[e] * Z[n, e] / (axes[e] * axes[e] - square + middle)) ** 2
            if total > 1:
                low = middle
            else:
                high = middle
        total = 0.0
        for e in range(len(axes)):
            below = axes[e] * axes[e] - square + high
            out[n, e] = axes[e] * axes[e] * Z[n, e] / below if below > 0 else 0.0
            total += (out[n, e] / axes[e]) ** 2
        if total < 1 - 1e-12:  # inside, on the plane of symmetry: μ = 0, and the rest of the way is along the shortest axis
            out[n, least] += axes[least] * np.sqrt(1 - total)
    return out


@compiled
def _ellipsoid_normal(z, axes, out):
    """The unit normal at a point; returns the length of the gradient of Σ (z_e/a_e)²/2."""
    total = 0.0
    for e in range(len(axes)):
        out[e] = z[e] / (axes[e] * axes[e])
        total += out[e] * out[e]
    for e in range(len(axes)):
        out[e] /= np.sqrt(total)
    return np.sqrt(total)


@compiled
def ellipsoid_tangents(Z, axes):
    """Orthonormal bases of the tangent spaces at points of an ellipsoid [point, direction, coordinate]."""
    out, normal = np.empty((len(Z), len(axes) - 1, len(axes))), np.empty(len(axes))
    for n in range(len(Z)):
        _ellipsoid_normal(Z[n], axes, normal)
        _across(normal, out[n])
    return out


@compiled
def ellipsoid_curvatures(Z, axes):
    """Root mean square of the principal curvatures at points of an ellipsoid, from the Hessian along the tangents."""
    out, normal = np.empty(len(Z)), np.empty(len(axes))
    for n in range(len(Z)):
        length = _ellipsoid_normal(Z[n], axes, normal)
        whole, once, twice = 0.0, 0.0, 0.0
        for e in range(len(axes)):
            h = 1 / (axes[e] * axes[e])
            whole += h * h
            once += h * normal[e] * normal[e]
            twice += h * h * normal[e] * normal[e]
        out[n] = np.sqrt(max(whole - 2 * twice + once * once, 0.0) / (len(axes) - 1)) / length
    return out


# ------------------------------------------------------------------------------------------------- the paraboloid


@compiled
def paraboloid_feet(Z, curvature, offset):
    """The nearest points of (offset, u, c|u|²/2).

    The length s of u solves c²s³/2 + (1 - cz)s = |u_0|, which has one positive root: Newton from above, where it is convex.
    Where all directions are as near, the first.
    """
    out = np.empty_like(Z)
    k = Z.shape[1] - 2
    for n in range(len(Z)):
        total = 0.0
        for j in range(1, k + 1):
            total += Z[n, j] * Z[n, j]
        rho, slope, cubic = np.sqrt(total), 1 - curvature * Z[n, k + 1], curvature * curvature / 2
        s = rho
        if rho > 0:
            while cubic * s * s * s + slope * s < rho:
                s *= 2
            for _ in range(HALVINGS):
                to = s - (cubic * s * s * s + slope * s - rho) / (3 * cubic * s * s + slope)
                if not to < s:
                    break
                s = to
        elif slope < 0:
            s = np.sqrt(-slope / cubic)
        out[n, 0] = offset
        for j in range(1, k + 1):
            out[n, j] = s * Z[n, j] / rho if rho > 0 else (s if j == 1 else 0.0)
        out[n, k + 1] = curvature / 2 * s * s
    return out


@compiled
def paraboloid_tangents(Z, curvature):
    """Orthonormal bases of the tangent spaces at points of the paraboloid [point, direction, coordinate]."""
    k = Z.shape[1] - 2
    out = np.zeros((len(Z), k, k + 2))
    for n in range(len(Z)):
        for j in range(k):
            out[n, j, j + 1], out[n, j, k + 1] = 1.0, curvature * Z[n, j + 1]
        _orthonormal(out[n])
    return out


@compiled
def paraboloid_curvatures(Z, curvature):
    """Root mean square of the principal curvatures: c/(1+c²|u|²)^(3/2) once, c/(1+c²|u|²)^(1/2) for the other directions."""
    k, out = Z.shape[1] - 2, np.empty(len(Z))
    for n in range(len(Z)):
        total = 0.0
        for j in range(1, k + 1):
            total += Z[n, j] * Z[n, j]
        steep = 1 + curvature * curvature * total
        out[n] = abs(curvature) * np.sqrt((1 / (steep * steep * steep) + (k - 1) / steep) / k)
    return out


# ------------------------------------------------------------------------------------------------- the torus


@compiled
def _round_torus(z):
    """Cosine and sine of the angle round the axis, and the distance from it; the first direction on the axis itself."""
    rho = np.sqrt(z[0] * z[0] + z[1] * z[1])
    return (z[0] / rho, z[1] / rho, rho) if rho > 0 else (1.0, 0.0, 0.0)


@compiled
def torus_feet(Z, tube):
    """The nearest points of the torus of radii 1 and `tube` about the third axis; outwards from the middle of the tube."""
    out = np.empty_like(Z)
    for n in range(len(Z)):
        c, s, rho = _round_torus(Z[n])
        outwards, up = rho - 1, Z[n, 2]
        length = np.sqrt(outwards * outwards + up * up)
        outwards, up = (outwards / length, up / length) if length > 0 else (1.0, 0.0)
        out[n, 0], out[n, 1], out[n, 2] = c * (1 + tube * outwards), s * (1 + tube * outwards), tube * up
    return out


@compiled
def torus_tangents(Z, tube):
    """Orthonormal bases of the tangent spaces at points of the torus: along the ring, and along the tube."""
    out = np.zeros((len(Z), 2, 3))
    for n in range(len(Z)):
        c, s, rho = _round_torus(Z[n])
        outwards, up = (rho - 1) / tube, Z[n, 2] / tube
        out[n, 0, 0], out[n, 0, 1] = -s, c
        out[n, 1, 0], out[n, 1, 1], out[n, 1, 2] = -up * c, -up * s, outwards
        _orthonormal(out[n])
    return out


@compiled
def torus_curvatures(Z, tube):
    """Root mean square of the principal curvatures 1/tube and cos ψ/(1 + tube cos ψ)."""
    out = np.empty(len(Z))
    for n in range(len(Z)):
        rho = _round_torus(Z[n])[2]
        other = (rho - 1) / (tube * rho)
        out[n] = np.sqrt((1 / (tube * tube) + other * other) / 2)
    return out


# ------------------------------------------------------------------------------------------------- the swiss roll


@compiled
def _square_of_way(z, t):
    s, c = sine_and_cosine(t)
    return (t * c - z[0]) ** 2 + (t * s - z[2]) ** 2


@compiled
def roll_angle(z):
    """The angle t of the nearest point of the spiral t (cos t, sin t): the best of a grid, and Newton from there."""
    step = (LAST_TURN - FIRST_TURN) / GRID
    t, best = FIRST_TURN, np.inf
    for k in range(GRID + 1):
        square = _square_of_way(z, FIRST_TURN + k * step)
        if square < best:
            t, best = FIRST_TURN + k * step, square
    low, high = max(t - step, FIRST_TURN), min(t + step, LAST_TURN)
    for _ in range(HALVINGS):  # the slope of the square changes its sign between low and high, if it does at all
        s, c = sine_and_cosine(t)
        along = z[0] * (c - t * s) + z[2] * (s + t * c)  # z · p'(t), p = t (cos t, sin t), p · p' = t
        slope, bend = t - along, 1 + z[0] * (2 * s + t * c) + z[2] * (t * s - 2 * c)
        if slope > 0:
            high = t
        else:
            low = t
        to = t - slope / bend if bend > 0 else (low + high) / 2
        if not low < to < high:
            to = (low + high) / 2
        if to in (t, low, high):
            break
        t = to
    return t


@compiled
def roll_feet(Z, height):
    """The nearest points of the swiss roll (t cos t, h, t sin t), |h| <= height/2."""
    out = np.empty_like(Z)
    for n in range(len(Z)):
        t = roll_angle(Z[n])
        s, c = sine_and_cosine(t)
        out[n, 0], out[n, 2] = t * c, t * s
        out[n, 1] = min(max(Z[n, 1], -height / 2), height / 2)
    return out


@compiled
def roll_tangents(Z):
    """Orthonormal bases of the tangent spaces at points of the swiss roll: along the spiral, and along its axis."""
    out = np.zeros((len(Z), 2, 3))
    for n in range(len(Z)):
        t = np.sqrt(Z[n, 0] * Z[n, 0] + Z[n, 2] * Z[n, 2])
        out[n, 0, 0], out[n, 0, 2] = Z[n, 0] / t - Z[n, 2], Z[n, 2] / t + Z[n, 0]
        out[n, 1, 1] = 1.0
        _orthonormal(out[n])
    return out


@compiled
def roll_curvatures(Z):
    """Root mean square of the principal curvatures (t²+2)/(1+t²)^(3/2) and 0."""
    out = np.empty(len(Z))
    for n in range(len(Z)):
        square = Z[n, 0] * Z[n, 0] + Z[n, 2] * Z[n, 2]
        out[n] = (square + 2) / ((1 + square) * np.sqrt(1 + square)) / np.sqrt(2.0)
    return out


@compiled
def roll_points(t, height):
    """Points of the swiss roll at angles and heights [point, coordinate]."""
    out = np.empty((len(t), 3))
    for n in range(len(t)):
        s, c = sine_and_cosine(t[n])
        out[n, 0], out[n, 1], out[n, 2] = t[n] * c, height[n], t[n] * s
    return out
