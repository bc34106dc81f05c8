"""The two worlds of scenes, and how a scene of one is drawn at random.

World A is what a base model learns; world B differs in its solids, colours, textures, light and captions. A scene is a
function of (seed, split, index, world).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from cli.demo.scenes.solids import SOLIDS

WorldName = Literal["a", "b"]
Colour = tuple[float, float, float]
Point = tuple[float, float, float]

WALL_Z = 2.6
"""Where the wall behind everything stands; the floor is y = 0. Units: a solid is 0.8 to 1.6 wide."""


class Split(IntEnum):
    """Held-out scenes are drawn from the same distribution and never from the same random numbers."""

    TRAIN = 0
    HELD_OUT = 1


@dataclass(frozen=True)
class World:
    """What may occur in a world's scenes. Colours are RGB in [0, 1]."""

    number: int
    solids: tuple[str, ...]
    colours: dict[str, Colour]
    textures: dict[str, float]
    """Each texture's share."""
    floors: dict[str, Colour]
    walls: tuple[Colour, ...]
    light: Point
    """Direction towards the light, before a random turn."""
    ambient: float
    tint: Colour
    """The light's colour."""


@dataclass(frozen=True)
class Placed:
    """A solid in a scene. `colours` are those of its texture; `turn` is about the vertical, in radians."""

    kind: str
    colour_name: str
    texture: str
    colours: tuple[Colour, Colour]
    x: float
    z: float
    size: float
    turn: float


@dataclass(frozen=True)
class Camera:
    """A camera at `position`, looking down by `pitch` radians; `half_view` is the tangent of half the angle of view."""

    position: Point
    pitch: float
    half_view: float


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows."""

    world: WorldName
    solids: tuple[Placed, ...]
    floor_name: str
    floor: Colour
    wall: Colour
    light: Point
    """Unit vector towards the light."""
    camera: Camera


WORLDS: dict[WorldName, World] = {
    "a": World(
        number=0,
        solids=("sphere", "box", "cylinder"),
        colours={
            "red": (0.84, 0.13, 0.12),
            "green": (0.14, 0.62, 0.20),
            "blue": (0.13, 0.26, 0.82),
            "yellow": (0.93, 0.82, 0.14),
        },
        textures={"plain": 1.0},
        floors={"grey": (0.52, 0.52, 0.54), "white": (0.88, 0.88, 0.86), "brown": (0.47, 0.33, 0.22)},
        walls=((0.70, 0.78, 0.88), (0.86, 0.80, 0.68), (0.66, 0.68, 0.70)),
        light=(-0.55, 0.85, -0.60),
        ambient=0.38,
        tint=(1.0, 0.97, 0.90),
    ),
    "b": World(
        number=1,
        solids=("cone", "torus", "pyramid", "dome"),
        colours={
            "orange": (0.95, 0.50, 0.10),
            "purple": (0.48, 0.20, 0.66),
            "teal": (0.08, 0.58, 0.56),
            "pink": (0.94, 0.52, 0.70),
        },
        textures={"plain": 0.3, "striped": 0.35, "checkered": 0.35},
        floors={"black": (0.20, 0.20, 0.23), "sandy": (0.80, 0.70, 0.48), "mossy": (0.36, 0.46, 0.24)},
        walls=((0.42, 0.34, 0.46), (0.30, 0.42, 0.46), (0.80, 0.62, 0.56)),
        light=(0.75, 0.70, -0.45),
        ambient=0.30,
        tint=(0.90, 0.96, 1.0),
    ),
}
_COUNT_SHARES = (0.3, 0.45, 0.25)
"""Shares of scenes with one, two and three solids."""
_TRIES = 60


def draw_scene(seed: int, split: Split, index: int, world: WorldName) -> Scene:
    """Scene number `index`, from 0."""
    rules = WORLDS[world]
    rng = np.random.default_rng([seed, rules.number, split, index])
    floor_name = sorted(rules.floors)[int(rng.integers(len(rules.floors)))]
    wall = rules.walls[int(rng.integers(len(rules.walls)))]
    return Scene(
        world=world,
        solids=_place(rng, rules),
        floor_name=floor_name,
        floor=_shade(rng, rules.floors[floor_name]),
        wall=_shade(rng, wall),
        light=_turned(rules.light, float(rng.uniform(-0.45, 0.45))),
        camera=Camera(
            position=(float(rng.uniform(-0.3, 0.3)), float(rng.uniform(1.6, 2.3)), float(rng.uniform(-5.2, -4.6))),
            pitch=float(rng.uniform(0.18, 0.27)),
            half_view=0.35,
        ),
    )


def _place(rng: np.random.Generator, rules: World) -> tuple[Placed, ...]:
    """One to three solids that do not touch, no two of the same colour and kind; from left to right."""
    count = 1 + int(rng.choice(len(_COUNT_SHARES), p=_COUNT_SHARES))
    placed: list[Placed] = []
    for _ in range(_TRIES):
        if len(placed) == count:
            break
        solid = _solid(rng, rules)
        if all(_apart(solid, other) for other in placed):
            placed.append(solid)
    return tuple(sorted(placed, key=lambda solid: solid.x))


def _solid(rng: np.random.Generator, rules: World) -> Placed:
    kind = rules.solids[int(rng.integers(len(rules.solids)))]
    name = sorted(rules.colours)[int(rng.integers(len(rules.colours)))]
    texture = str(rng.choice(list(rules.textures), p=list(rules.textures.values())))
    colour = _shade(rng, rules.colours[name])
    light = (0.93, 0.92, 0.88)
    return Placed(
        kind=kind,
        colour_name=name,
        texture=texture,
        colours=(colour, colour if texture == "plain" else light),
        x=float(rng.uniform(-1.1, 1.1)),
        z=float(rng.uniform(-1.0, 1.3)),
        size=float(rng.uniform(0.45, 0.75)),
        turn=float(rng.uniform(-0.7, 0.7)),
    )


def _apart(one: Placed, other: Placed) -> bool:
    if (one.kind, one.colour_name) == (other.kind, other.colour_name):
        return False
    reach = one.size * SOLIDS[one.kind].radius + other.size * SOLIDS[other.kind].radius
    return math.hypot(one.x - other.x, one.z - other.z) > reach


def _shade(rng: np.random.Generator, colour: Colour) -> Colour:
    """The colour, a little lighter or darker."""
    factor = float(rng.uniform(0.9, 1.08))
    red, green, blue = (min(1.0, channel * factor) for channel in colour)
    return red, green, blue


def _turned(way: Point, angle: float) -> Point:
    """The unit vector of `way`, turned about the vertical."""
    x, y, z = way
    cos, sin = math.cos(angle), math.sin(angle)
    x, z = cos * x + sin * z, cos * z - sin * x
    norm = math.sqrt(x * x + y * y + z * z)
    return x / norm, y / norm, z / norm
