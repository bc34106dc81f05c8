"""Solids and where rays meet them.

Each solid stands on the plane y = 0 of its own frame, about its y axis, with a footprint of radius about 1. All but the
torus are convex: the inside of at most one quadric and of some half-spaces, so that a ray is within over one interval.
Only +, -, *, / and square roots are taken of arrays, in a fixed order and in float32: the result is the same on any
processor. Shapes: h w rays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32

Rays = Float32[np.ndarray, "3 h w"]
Distances = Float32[np.ndarray, "h w"]

FAR = np.float32(1e9)
_TINY = np.float32(1e-12)
_SPHERE_TRACING_STEPS = 40
_SURFACE = np.float32(5e-4)


@runtime_checkable  # the tests check arguments at run time
class Solid(Protocol):
    """A solid in its own frame, which the sphere of `radius` about (0, `height` / 2, 0) holds."""

    @property
    def height(self) -> float:
        """Extent along y."""
        ...

    @property
    def radius(self) -> float:
        """Radius of the sphere around the solid."""
        ...

    def enter(self, origins: Float32[np.ndarray, "3 #h #w"], ways: Float32[np.ndarray, "3 #h #w"]) -> Distances:
        """The t > 0 at which origin + t * way goes in, `FAR` where it never does. Origins lie outside."""
        ...

    def normals(self, points: Rays) -> Rays:
        """Outward unit normals at points of the surface."""
        ...


@dataclass(frozen=True)
class Quadric:
    """x^2 + `y` (y - `centre`)^2 + z^2 <= `level`; for a cone (`y` < 0) its lower half only."""

    y: float
    centre: float
    level: float


@dataclass(frozen=True)
class Convex:
    """The inside of a quadric and of half-spaces n . p <= c, given as (nx, ny, nz, c) with unit n."""

    height: float
    radius: float
    quadric: Quadric | None = None
    planes: tuple[tuple[float, float, float, float], ...] = ()

    def enter(self, origins: Float32[np.ndarray, "3 #h #w"], ways: Float32[np.ndarray, "3 #h #w"]) -> Distances:
        """See `Solid.enter`."""
        shape = np.broadcast_shapes(origins.shape[1:], ways.shape[1:])
        low, high = np.zeros(shape, np.float32), np.full(shape, FAR)
        if self.quadric is not None:
            first, last = _quadric_interval(self.quadric, origins, ways)
            np.maximum(low, first, out=low)
            np.minimum(high, last, out=high)
        for nx, ny, nz, c in self.planes:
            along = _weighted((nx, ny, nz), ways)
            along = np.where(np.abs(along) < _TINY, _TINY, along)
            t = (np.float32(c) - _weighted((nx, ny, nz), origins)) / along
            np.maximum(low, np.where(along < 0, t, 0), out=low)
            np.minimum(high, np.where(along > 0, t, FAR), out=high)
        return np.where((low < high) & (low > 0), low, FAR)

    def normals(self, points: Rays) -> Rays:
        """Normals of the boundary that a point lies on, that is the one it is least within."""
        x, y, z = points
        best = np.full(x.shape, -FAR)
        normals = np.zeros_like(points)
        if self.quadric is not None:
            q = self.quadric
            gradient = np.stack([x, np.float32(q.y) * (y - np.float32(q.centre)), z])
            norm = np.sqrt(np.maximum(_dot(gradient, gradient), _TINY))
            value = x * x + z * z + np.float32(q.y) * (y - np.float32(q.centre)) ** 2 - np.float32(q.level)
            best = value / (2 * norm)  # to first order the distance
            normals = gradient / norm
        for nx, ny, nz, c in self.planes:
            value = _weighted((nx, ny, nz), points) - np.float32(c)
            nearer = value > best
            best = np.where(nearer, value, best)
            for axis, n in enumerate((nx, ny, nz)):
                normals[axis] = np.where(nearer, np.float32(n), normals[axis])
        return normals


@dataclass(frozen=True)
class Torus:
    """An upright ring about the z axis: `major` from its centre to that of the tube, `minor` the tube's radius."""

    major: float = 0.72
    minor: float = 0.3

    @property
    def _minor(self) -> np.float32:
        return np.float32(self.minor)

    @property
    def height(self) -> float:
        """Twice the outer radius: the solid stands on its rim."""
        return 2 * self.radius

    @property
    def radius(self) -> float:
        """The outer radius."""
        return self.major + self.minor

    def enter(self, origins: Float32[np.ndarray, "3 #h #w"], ways: Float32[np.ndarray, "3 #h #w"]) -> Distances:
        """Find the entry by sphere tracing (Hart 1996) within the disc around it."""
        origins, ways = np.broadcast_arrays(origins, ways)
        first, last = _quadric_interval(Quadric(1.0, self.radius, self.radius**2), origins, ways)
        across = np.where(np.abs(ways[2]) < _TINY, _TINY, ways[2])
        front, rear = (-origins[2] - self._minor) / across, (-origins[2] + self._minor) / across
        first, last = np.maximum(first, np.minimum(front, rear)), np.minimum(last, np.maximum(front, rear))
        found = np.full(first.shape, FAR)
        where = np.nonzero(last > np.maximum(first, 0))
        t, last = np.maximum(first[where], 0), last[where]
        rows, columns = where
        origin, way = origins[:, rows, columns], ways[:, rows, columns]
        speed = np.sqrt(_dot(way, way))
        alive = np.arange(len(t))
        for _ in range(_SPHERE_TRACING_STEPS):
            step = self._distance(origin[:, alive] + t[alive] * way[:, alive])
            t[alive] += step / speed[alive]
            alive = alive[(step > _SURFACE) & (t[alive] < last[alive])]
            if not len(alive):
                break
        t[alive] = FAR  # still underway: it grazes
        found[where] = np.where(t < last, t, FAR)
        found[found <= 0] = FAR
        return found

    def normals(self, points: Rays) -> Rays:
        """Away from the tube's centre line."""
        x, y, z = points
        y = y - np.float32(self.radius)
        ring = np.sqrt(np.maximum(x * x + y * y, _TINY))
        scale = (ring - np.float32(self.major)) / ring
        normals = np.stack([x * scale, y * scale, z])
        unit: Rays = normals / np.sqrt(np.maximum(_dot(normals, normals), _TINY))
        return unit

    def _distance(self, points: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, " n"]:
        x, y, z = points
        y = y - np.float32(self.radius)
        ring = np.sqrt(x * x + y * y) - np.float32(self.major)
        distance: Float[np.ndarray, " n"] = np.sqrt(ring * ring + z * z) - self._minor
        return distance


def _box(half: float, height: float) -> Convex:
    walls = ((1.0, 0.0, 0.0, half), (-1.0, 0.0, 0.0, half), (0.0, 0.0, 1.0, half), (0.0, 0.0, -1.0, half))
    return Convex(height, math.hypot(half, half, height / 2), None, (*walls, *_slab(height)))


def _pyramid(half: float, height: float) -> Convex:
    n, up = height / math.hypot(half, height), half / math.hypot(half, height)
    c = n * half
    sides = ((n, up, 0.0, c), (-n, up, 0.0, c), (0.0, up, n, c), (0.0, up, -n, c))
    return Convex(height, math.hypot(half, half, height / 2), None, (*sides, _GROUND))


def _slab(height: float) -> tuple[tuple[float, float, float, float], ...]:
    return ((0.0, 1.0, 0.0, height), _GROUND)


_GROUND = (0.0, -1.0, 0.0, 0.0)

SOLIDS: dict[str, Solid] = {
    "sphere": Convex(2.0, 1.0, Quadric(1.0, 1.0, 1.0)),
    "box": _box(0.8, 1.6),
    "cylinder": Convex(1.8, math.hypot(0.75, 0.9), Quadric(0.0, 0.0, 0.75**2), _slab(1.8)),
    "cone": Convex(2.1, math.hypot(1, 1.05), Quadric(-((1 / 2.1) ** 2), 2.1, 0.0), _slab(2.1)),
    "torus": Torus(),
    "pyramid": _pyramid(0.9, 1.7),
    "dome": Convex(1.15, math.hypot(1.15, 0.575), Quadric(1.0, 0.0, 1.15**2), (_GROUND,)),
}
"""Every solid of both worlds by its name."""


def _quadric_interval(
    quadric: Quadric, origins: Float32[np.ndarray, "3 ..."], ways: Float32[np.ndarray, "3 ..."]
) -> tuple[Float32[np.ndarray, "..."], Float32[np.ndarray, "..."]]:
    """Entry and exit of each ray; (FAR, -FAR) where it passes by."""
    weights = (1.0, quadric.y, 1.0)
    x, y, z = origins
    y = y - np.float32(quadric.centre)
    shifted, along = (x, y, z), tuple(ways)
    a = _product(weights, along, along)
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    b = _product(weights, shifted, along)
    c = _product(weights, shifted, shifted) - np.float32(quadric.level)
    squared = b * b - a * c
    root = np.sqrt(np.maximum(squared, 0))
    one, two = (-b - root) / a, (-b + root) / a
    first, last = np.minimum(one, two), np.maximum(one, two)
    if quadric.y < 0:  # steeper than the cone's side, a ray is within its lower half before or after it crosses both
        steep = a < 0
        down = ways[1] < 0
        first, last = (
            np.where(steep, np.where(down, last, -FAR), first),
            np.where(steep, np.where(down, FAR, first), last),
        )
    missed: Bool[np.ndarray, "..."] = squared < 0
    return np.where(missed, FAR, first), np.where(missed, -FAR, last)


def _weighted(weights: tuple[float, float, float], v: Float32[np.ndarray, "3 ..."]) -> Float32[np.ndarray, "..."]:
    """Sum of the components times their weights; zeros cost nothing."""
    terms = [v[axis] * np.float32(w) for axis, w in enumerate(weights) if w]
    total: Float32[np.ndarray, "..."] = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _product(
    weights: tuple[float, float, float], u: Sequence[np.ndarray], v: Sequence[np.ndarray]
) -> Float32[np.ndarray, "..."]:
    terms = [u[i] * v[i] * np.float32(w) for i, w in enumerate(weights) if w]
    total: Float32[np.ndarray, "..."] = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _dot(u: Float32[np.ndarray, "3 ..."], v: Float32[np.ndarray, "3 ..."]) -> Float32[np.ndarray, "..."]:
    product: Float32[np.ndarray, "..."] = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
    return product
