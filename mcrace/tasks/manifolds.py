"""Samples on manifolds that are laid into more inputs, with tangent spaces and nearest points that are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from mcrace.compiled import compiled
from mcrace.seeds import SHARED, Stream
from mcrace.tasks import shapes
from mcrace.tasks.base import Drawn, Pool, Task, task

ROLL_HALF = (shapes.LAST_TURN - shapes.FIRST_TURN) / 2
ROLL_MIDDLE = (shapes.LAST_TURN + shapes.FIRST_TURN) / 2


@dataclass(frozen=True)
class Embedding:
    """Where the manifold of a network lies among its prepared inputs: x = (basis z - shift)/factor.

    Attributes
    ----------
    basis : float64 array [input, coordinate]
        Orthonormal columns.
    shift : float64 array [input]
    factor : float
    """

    basis: np.ndarray
    shift: np.ndarray
    factor: float

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """z [point, coordinate] of prepared inputs [point, input], what lies off the manifold's coordinates left out."""
        return products(X * self.factor + self.shift, self.basis)

    def inputs(self, Z: np.ndarray) -> np.ndarray:
        """Prepared inputs [point, input] of z [point, coordinate]."""
        return (products(Z, np.ascontiguousarray(self.basis.T)) - self.shift) / self.factor


class Manifold(Task):
    """Points z of a manifold, laid into the inputs by a random rotation: x = Q z, and noise.

    Labels are ±1 by the intrinsic coordinates u, each of mean 0 and mean square 1, and a unit vector b: ``"linear"``
    sign(b·u), ``"odd"`` sign(s³ - 3s) and ``"even"`` sign(s² - 1) with s = b·u, ``"radial"`` sign(|z|² - E|z|²).  Q, and b
    where it is random, come from the stream (entropy, embedding): the same for all networks, or each its own.

    Inputs are not centred unless asked for, since that moves the manifold to where the origin lies otherwise to it; nothing
    may bend it.
    """

    dimension: int = Field(ge=1, le=100_000, description="number of inputs")
    labels: Literal["linear", "odd", "even", "radial"] = Field("linear", description="how the intrinsic coordinates decide")
    axis: Literal["first", "random"] = Field("first", description="b: the first intrinsic coordinate, or a random direction")
    noise: float = Field(0.0, ge=0, le=1e6, description="root mean square length of Gaussian noise, in all inputs alike")
    fresh_embedding: bool = Field(False, description="draw rotation and b anew for each network; false: one for all")
    center: bool = Field(False, description="subtract the mean of each feature: moves the manifold")

    @model_validator(mode="after")
    def _keeps_its_shape(self) -> Manifold:
        for name, wrong in (("center_samples", self.center_samples), ("whiten", self.whiten),
                            ("normalise", self.normalise is not None),
                            ('scale = "unit-norm"', self.scale == "unit-norm")):
            if wrong:
                raise ValueError(f"{name} would bend the manifold, whose tangent spaces are to be known")
        if self.dimension < self.coordinates():
            raise ValueError(f"dimension must be at least {self.coordinates()}, for the coordinates of this manifold")
        if self.fresh_embedding and not self.fresh:
            raise ValueError("fresh_embedding = true goes with fresh = true, as shared samples lie on one manifold")
        return self

    def inputs(self) -> int:
        return self.dimension

    def coordinates(self) -> int:
        """How many coordinates z has."""
        raise NotImplementedError

    def points(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        """Random points z [sample, coordinate], and their intrinsic coordinates u [sample, direction]."""
        raise NotImplementedError

    def mean_square(self) -> float:
        """E|z|² of a random point."""
        raise NotImplementedError

    def feet(self, Z: np.ndarray) -> np.ndarray:
        """The nearest points of the manifold [point, coordinate]."""
        raise NotImplementedError

    def tangents(self, Z: np.ndarray) -> np.ndarray:
        """Orthonormal bases of the tangent spaces at points of the manifold [point, direction, coordinate]."""
        raise NotImplementedError

    def curvatures(self, Z: np.ndarray) -> np.ndarray:
        """Root mean square of the principal curvatures at points of the manifold [point]."""
        raise NotImplementedError

    def centre(self, mean: np.ndarray) -> np.ndarray:
        """The point that is nearest to the mean of all data [1, coordinate]."""
        return self.feet(mean)

    def draw(self, pool: Pool, stream: Stream) -> Drawn:
        Z, U = self.points(stream)
        basis, b = self._laid(stream, U.shape[1])
        X = products(Z, np.ascontiguousarray(basis.T))
        if self.noise:
            X += self.noise / np.sqrt(self.dimension) * stream.normals(*X.shape)
        return X, np.where(self._score(Z, products(U, b[:, None])[:, 0]) > 0, 1.0, -1.0)

    def _score(self, Z: np.ndarray, s: np.ndarray) -> np.ndarray:
        """What decides by its sign."""
        if self.labels == "radial":
            return squares(Z) - self.mean_square()
        return {"linear": s, "odd": s * s * s - 3 * s, "even": s * s - 1}[self.labels]

    def _laid(self, stream: Stream, directions: int) -> tuple[np.ndarray, np.ndarray]:
        """Q [input, coordinate], and b [direction]."""
        own = stream.other("embedding") if self.fresh_embedding else stream.other("embedding", SHARED)
        basis = rotation(own.normals(self.coordinates(), self.dimension))
        b = np.zeros(directions)
        b[0] = 1.0
        if self.axis == "random":
            b = own.normals(directions)
            b = b / np.sqrt(squares(b[None]))
        return basis, b

    def embedding(self, pool: Pool, entropy: int, network: int) -> Embedding:
        """Where the manifold of a network lies among its prepared inputs."""
        entropy = entropy if self.data_entropy is None else self.data_entropy
        network = network if self.fresh else SHARED
        basis, _ = self._laid(Stream(entropy, "data", network), 1)
        *_, preparation = self._training(pool, entropy, network)
        ends = preparation(np.stack([np.zeros(self.dimension), basis[:, 0]]))
        factor = 1 / np.sqrt(squares(ends[1:] - ends[:1])[0])
        return Embedding(basis, -ends[0] * factor, float(factor))


@task("subspace")
class Subspace(Manifold):
    """z ~ N(0, I) in a linear subspace; u = z."""

    kind: Literal["subspace"] = "subspace"
    intrinsic: int = Field(ge=1, le=1000, description="dimension of the subspace")

    version: ClassVar[int] = 1

    def coordinates(self) -> int:
        return self.intrinsic

    def points(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        Z = stream.normals(self.samples, self.intrinsic)
        return Z, Z

    def mean_square(self) -> float:
        return float(self.intrinsic)

    def feet(self, Z: np.ndarray) -> np.ndarray:
        return Z.copy()

    def tangents(self, Z: np.ndarray) -> np.ndarray:
        return np.tile(np.eye(self.intrinsic), (len(Z), 1, 1))

    def curvatures(self, Z: np.ndarray) -> np.ndarray:
        return np.zeros(len(Z))


class _Ellipsoidal(Manifold):
    """A uniform point of the sphere of dimension k, stretched along its k+1 axes; u = √(k+1) times the point of the sphere."""

    def semiaxes(self) -> np.ndarray:
        """Semi-axes [coordinate]."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _has_radii(self) -> _Ellipsoidal:
        if self.labels == "radial" and np.ptp(self.semiaxes()) == 0:
            raise ValueError('labels = "radial" needs points at different distances, which a sphere has not')
        return self

    def coordinates(self) -> int:
        return len(self.semiaxes())

    def points(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        Z = stream.normals(self.samples, self.coordinates())
        Z /= np.sqrt(squares(Z))[:, None]
        return Z * self.semiaxes(), Z * np.sqrt(self.coordinates())

    def mean_square(self) -> float:
        return float(np.mean(self.semiaxes() ** 2))

    def feet(self, Z: np.ndarray) -> np.ndarray:
        return shapes.ellipsoid_feet(Z, self.semiaxes())

    def tangents(self, Z: np.ndarray) -> np.ndarray:
        return shapes.ellipsoid_tangents(Z, self.semiaxes())

    def curvatures(self, Z: np.ndarray) -> np.ndarray:
        return shapes.ellipsoid_curvatures(Z, self.semiaxes())


@task("sphere")
class Sphere(_Ellipsoidal):
    """z uniform on the unit sphere of dimension k, in k+1 coordinates; u = √(k+1) z."""

    kind: Literal["sphere"] = "sphere"
    intrinsic: int = Field(ge=1, le=1000, description="dimension of the sphere")

    version: ClassVar[int] = 1

    def semiaxes(self) -> np.ndarray:
        return np.ones(self.intrinsic + 1)


@task("ellipsoid")
class Ellipsoid(_Ellipsoidal):
    """Uniform points of a sphere stretched along its axes; u those of the sphere, times √(k+1)."""

    kind: Literal["ellipsoid"] = "ellipsoid"
    intrinsic: int = Field(ge=1, le=1000, description="dimension of the ellipsoid")
    shortest: float = Field(0.5, ge=1e-3, le=1, description="shortest semi-axis; the longest is 1, and steps between are equal")

    version: ClassVar[int] = 1

    def semiaxes(self) -> np.ndarray:
        return 1 - (1 - self.shortest) * np.arange(self.intrinsic + 1) / self.intrinsic


@task("torus")
class Torus(Manifold):
    """The torus of radii 1 and `tube` in three coordinates, both angles uniform; u = √2 times their cosines and sines."""

    kind: Literal["torus"] = "torus"
    intrinsic: Literal[2] = 2
    tube: float = Field(0.5, ge=1e-3, lt=1, description="radius of the tube; that of the ring is 1")

    version: ClassVar[int] = 1

    def coordinates(self) -> int:
        return 3

    def points(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        ring, tube = (stream.normals(self.samples, 2) for _ in range(2))
        ring, tube = (pair / np.sqrt(squares(pair))[:, None] for pair in (ring, tube))
        Z = np.concatenate([ring * (1 + self.tube * tube[:, :1]), self.tube * tube[:, 1:]], axis=1)
        return Z, np.sqrt(2.0) * np.concatenate([ring, tube], axis=1)

    def mean_square(self) -> float:
        return 1 + self.tube**2

    def feet(self, Z: np.ndarray) -> np.ndarray:
        return shapes.torus_feet(Z, self.tube)

    def tangents(self, Z: np.ndarray) -> np.ndarray:
        return shapes.torus_tangents(Z, self.tube)

    def curvatures(self, Z: np.ndarray) -> np.ndarray:
        return shapes.torus_curvatures(Z, self.tube)


@task("swiss-roll")
class SwissRoll(Manifold):
    """z = (t cos t, h, t sin t), t uniform between 1.5π and 4.5π, |h| <= height/2; u = t and h, standardised."""

    kind: Literal["swiss-roll"] = "swiss-roll"
    intrinsic: Literal[2] = 2
    height: float = Field(20.0, ge=1e-3, le=1e6, description="extent along the axis that it is rolled about")

    version: ClassVar[int] = 1

    def coordinates(self) -> int:
        return 3

    def points(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        U = 2 * stream.uniforms(self.samples, 2) - 1
        Z = shapes.roll_points(ROLL_MIDDLE + ROLL_HALF * U[:, 0], self.height / 2 * U[:, 1])
        return Z, np.sqrt(3.0) * U

    def mean_square(self) -> float:
        return ROLL_MIDDLE**2 + ROLL_HALF**2 / 3 + self.height**2 / 12

    def feet(self, Z: np.ndarray) -> np.ndarray:
        return shapes.roll_feet(Z, self.height)

    def tangents(self, Z: np.ndarray) -> np.ndarray:
        return shapes.roll_tangents(Z)

    def curvatures(self, Z: np.ndarray) -> np.ndarray:
        return shapes.roll_curvatures(Z)


@task("paraboloid")
class Paraboloid(Manifold):
    """z = (offset, u, c|u|²/2), u ~ N(0, I) (THEORY.md, tangent-convergence)."""

    kind: Literal["paraboloid"] = "paraboloid"
    intrinsic: int = Field(ge=1, le=1000, description="dimension k of u")
    curvature: float = Field(0.5, ge=-1e3, le=1e3, description="c, the curvature at the apex")
    offset: float = Field(1.0, ge=-1e3, le=1e3, description="distance of the apex from the origin")

    version: ClassVar[int] = 1

    def coordinates(self) -> int:
        return self.intrinsic + 2

    def points(self, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        U = stream.normals(self.samples, self.intrinsic)
        up = self.curvature / 2 * squares(U)[:, None]
        return np.concatenate([np.full((len(U), 1), self.offset), U, up], axis=1), U

    def mean_square(self) -> float:
        k = self.intrinsic
        return self.offset**2 + k + self.curvature**2 / 4 * k * (k + 2)

    def feet(self, Z: np.ndarray) -> np.ndarray:
        return shapes.paraboloid_feet(Z, self.curvature, self.offset)

    def tangents(self, Z: np.ndarray) -> np.ndarray:
        return shapes.paraboloid_tangents(Z, self.curvature)

    def curvatures(self, Z: np.ndarray) -> np.ndarray:
        return shapes.paraboloid_curvatures(Z, self.curvature)

    def centre(self, mean: np.ndarray) -> np.ndarray:
        """The apex, which is nearest to the mean of the law where c²k <= 2."""
        return np.concatenate([[self.offset], np.zeros(self.intrinsic + 1)])[None]


# ------------------------------------------------------------------------------------------------- loops


@compiled
def products(A, B):
    """A B of arrays [row, inner] and [inner, column], added up in the order of the inner index."""
    out = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            for j in range(B.shape[1]):
                out[i, j] += A[i, k] * B[k, j]
    return out


@compiled
def squares(A):
    """|row|² of an array [row, inner]."""
    out = np.zeros(len(A))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            out[i] += A[i, k] * A[i, k]
    return out


@compiled
def rotation(normals):
    """The first columns of a random orthogonal matrix, by Householder reflections of normal vectors (Stewart 1980).

    The j-th reflection takes the last entries of the j-th row, from the j-th on, to an axis.

    Parameters
    ----------
    normals : float64 array [column, input]

    Returns
    -------
    float64 array [input, column]
    """
    columns, size = normals.shape
    out = np.zeros((size, columns))
    for j in range(columns - 1, -1, -1):
        mirror, length = normals[j].copy(), 0.0
        for e in range(j, size):
            length += mirror[e] * mirror[e]
        sign = 1.0 if mirror[j] >= 0 else -1.0
        mirror[j] += sign * np.sqrt(length)
        square = 0.0
        for e in range(j, size):
            square += mirror[e] * mirror[e]
        out[j, j] = -sign
        for i in range(j, columns):
            along = 0.0
            for e in range(j, size):
                along += mirror[e] * out[e, i]
            for e in range(j, size):
                out[e, i] -= 2 * along / square * mirror[e]
    return out
