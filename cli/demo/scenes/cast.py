"""What the camera sees along each ray: distance, thing, normal, colour, and whether the light reaches it.

Shapes: h w rays, a grid over the picture from its upper left. Depths are along the camera's axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from cli.demo.scenes.solids import FAR, SOLIDS
from cli.demo.scenes.worlds import WALL_Z, WORLDS, Camera, Placed, Scene

FLOOR, WALL = 0, 1
FIRST_SOLID = 2
_LIFT = np.float32(2e-3)  # shadow rays start this far above a surface
_BANDS = 2.6  # stripes and checks: changes of colour per unit of the solid's own frame


@dataclass(frozen=True)
class View:
    """One ray a pixel or sample."""

    depth: Float32[np.ndarray, "h w"]
    thing: UInt8[np.ndarray, "h w"]
    """0 floor, 1 wall, 2 + i the scene's solid number i."""
    normal: Float32[np.ndarray, "3 h w"]
    """Unit, in the world's axes: x to the right, y up, z away."""
    albedo: Float32[np.ndarray, "3 h w"]
    lit: Bool[np.ndarray, "h w"]


def cast(scene: Scene, side: int) -> View:
    """The view through the centres of `side` x `side` squares."""
    ways = _ways(scene.camera, side)
    origin = _column(scene.camera.position)
    depth, thing, albedo, normal = _room(scene, ways)
    for number, solid in enumerate(scene.solids):
        box = _seen_box(scene.camera, solid, side)
        if box is None:
            continue
        local_ways, local_origin = _into(solid, ways[(slice(None), *box)], origin)
        shape = SOLIDS[solid.kind]
        t = shape.enter(local_origin, local_ways)
        nearer = t < depth[box]
        if not nearer.any():
            continue
        points = (local_origin + t * local_ways)[:, nearer][:, None, :]
        depth[box][nearer] = t[nearer]
        thing[box][nearer] = FIRST_SOLID + number
        albedo[(slice(None), *box)][:, nearer] = _paint(solid, points)[:, 0]
        normal[(slice(None), *box)][:, nearer] = _turn(solid, shape.normals(points), back=True)[:, 0]
    lit = _lit(scene, origin + depth * ways, normal)
    return View(depth, thing, normal, albedo, lit)


def shade(scene: Scene, view: View) -> Float32[np.ndarray, "3 h w"]:
    """Colours in [0, 1]: ambient light, and Lambert's law where the light reaches."""
    rules = WORLDS[scene.world]
    facing = np.maximum(_along(scene.light, view.normal), 0) * view.lit
    level = np.float32(rules.ambient) + np.float32(1.05 - rules.ambient) * facing
    tinted: Float32[np.ndarray, "3 h w"] = np.clip(view.albedo * level * _column(rules.tint), 0, 1)
    return tinted


def camera_axes(camera: Camera) -> Float32[np.ndarray, "3 3"]:
    """Rows: the camera's right, up and backward (towards the viewer) in the world's axes."""
    cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
    return np.array([[1, 0, 0], [0, cos, sin], [0, sin, -cos]], np.float32)


def _ways(camera: Camera, side: int) -> Float32[np.ndarray, "3 {side} {side}"]:
    """Rays whose component along the camera's axis is 1: a distance along them is a depth."""
    _, up, back = camera_axes(camera)
    at = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1) * np.float32(
        camera.half_view
    )
    ways = np.empty((3, side, side), np.float32)
    ways[0] = at[None, :]
    ways[1] = (-back[1] - at * up[1])[:, None]
    ways[2] = (-back[2] - at * up[2])[:, None]
    return ways


def _room(
    scene: Scene, ways: Float32[np.ndarray, "3 h w"]
) -> tuple[
    Float32[np.ndarray, "h w"], UInt8[np.ndarray, "h w"], Float32[np.ndarray, "3 h w"], Float32[np.ndarray, "3 h w"]
]:
    """Depth, thing, albedo and normal of the floor and the wall behind it."""
    _, y, z = scene.camera.position
    wall = np.float32(WALL_Z - z) / ways[2]
    floor = np.where(ways[1] < 0, np.float32(-y) / np.minimum(ways[1], np.float32(-1e-6)), FAR)
    is_wall = wall < floor
    depth = np.where(is_wall, wall, floor)
    albedo = np.where(is_wall, _column(scene.wall), _column(scene.floor))
    normal = np.where(is_wall, _column((0.0, 0.0, -1.0)), _column((0.0, 1.0, 0.0)))
    return depth, np.where(is_wall, WALL, FLOOR).astype(np.uint8), albedo, normal


def _lit(
    scene: Scene, points: Float32[np.ndarray, "3 h w"], normals: Float32[np.ndarray, "3 h w"]
) -> Bool[np.ndarray, "h w"]:
    """Return whether nothing stands between a point and the light; points turned away from it are unlit."""
    light = _column(scene.light)
    lit = _along(scene.light, normals) > 0
    points = points + _LIFT * normals
    for solid in scene.solids:
        close = lit & _may_shade(scene, solid, points)
        if close.any():
            starts, ways = _into(solid, light, points[:, close][:, None, :], swap=True)
            lit[close] &= SOLIDS[solid.kind].enter(starts, ways)[0] >= FAR
    return lit


def _may_shade(scene: Scene, solid: Placed, points: Float32[np.ndarray, "3 h w"]) -> Bool[np.ndarray, "h w"]:
    """Return whether the sphere around a solid is met on the way to the light."""
    shape = SOLIDS[solid.kind]
    centre = (solid.x, solid.size * shape.height / 2, solid.z)
    x, y, z = (np.float32(c) - points[axis] for axis, c in enumerate(centre))
    lx, ly, lz = (np.float32(c) for c in scene.light)
    along = x * lx + y * ly + z * lz
    reach = np.float32((solid.size * shape.radius) ** 2 * 1.01)
    within: Bool[np.ndarray, "h w"] = (along > 0) & (x * x + y * y + z * z - along * along < reach)
    return within


def _into(
    solid: Placed, ways: Float32[np.ndarray, "3 ..."], points: Float32[np.ndarray, "3 ..."], *, swap: bool = False
) -> tuple[Float32[np.ndarray, "3 ..."], Float32[np.ndarray, "3 ..."]]:
    """Ways and points in the solid's own frame; the points first where `swap`."""
    scale = np.float32(1 / solid.size)
    local_ways = _turn(solid, ways) * scale
    local_points = _turn(solid, points - _column((solid.x, 0.0, solid.z))) * scale
    return (local_points, local_ways) if swap else (local_ways, local_points)


def _turn(solid: Placed, v: Float32[np.ndarray, "3 ..."], *, back: bool = False) -> Float32[np.ndarray, "3 ..."]:
    cos, sin = np.float32(math.cos(solid.turn)), np.float32(math.sin(solid.turn))
    if back:
        sin = -sin
    return np.stack([cos * v[0] - sin * v[2], v[1], sin * v[0] + cos * v[2]])


def _paint(solid: Placed, points: Float32[np.ndarray, "3 h w"]) -> Float32[np.ndarray, "3 h w"]:
    """The albedo at points of the solid's own frame."""
    first, second = (_column(colour) for colour in solid.colours)
    if solid.texture == "plain":
        return np.broadcast_to(first, points.shape)
    cells = np.floor(points * np.float32(_BANDS) + np.float32(0.3)).astype(np.int32)
    odd = cells[1] & 1 if solid.texture == "striped" else (cells[0] + cells[1] + cells[2]) & 1
    return np.where(odd == 1, second, first)


def _seen_box(camera: Camera, solid: Placed, side: int) -> tuple[slice, slice] | None:
    """Rows and columns of the grid that hold the sphere around a solid; None where it is out of sight."""
    shape = SOLIDS[solid.kind]
    centre = (solid.x, solid.size * shape.height / 2, solid.z)
    offset = [c - p for c, p in zip(centre, camera.position, strict=True)]
    right, up, back = (sum(float(a) * o for a, o in zip(axis, offset, strict=True)) for axis in camera_axes(camera))
    slices = []
    for across in (-up, right):
        low, high = _tangents(across, -back, solid.size * shape.radius)
        first = max(0, math.floor((low / camera.half_view + 1) * side / 2))
        last = min(side, math.ceil((high / camera.half_view + 1) * side / 2))
        if first >= last:
            return None
        slices.append(slice(first, last))
    return slices[0], slices[1]


def _tangents(across: float, ahead: float, radius: float) -> tuple[float, float]:
    """Slopes of the two lines from the camera that touch a circle."""
    angle, half = math.atan2(across, ahead), math.asin(min(1.0, radius / math.hypot(across, ahead)))
    return math.tan(angle - half), math.tan(angle + half)


def _along(way: tuple[float, float, float], v: Float32[np.ndarray, "3 h w"]) -> Float32[np.ndarray, "h w"]:
    x, y, z = (np.float32(c) for c in way)
    along: Float32[np.ndarray, "h w"] = v[0] * x + v[1] * y + v[2] * z
    return along


def _column(v: tuple[float, float, float]) -> Float32[np.ndarray, "3 1 1"]:
    return np.array(v, np.float32)[:, None, None]
