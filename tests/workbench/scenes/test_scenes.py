from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from cli.demo.scenes import CONDITIONS, VOCABULARY, Scenes, Split
from cli.demo.scenes.captions import caption, tokens
from cli.demo.scenes.cast import FIRST_SOLID, cast
from cli.demo.scenes.controls import (
    SEGMENT_COLOURS,
    SEGMENTS,
    camera_normals,
    depth_levels,
    edge_pixels,
    outline_pixels,
    segments,
)
from cli.demo.scenes.render import visible
from cli.demo.scenes.solids import FAR, SOLIDS, Torus
from cli.demo.scenes.worlds import WORLDS, Camera, Placed, Scene, WorldName

COUNT = 12
DIGESTS = {
    "a": "6bd05adc052970b8b96de32dca15aa26fd24b9aa0036230a6f9c6853498f1889",
    "b": "9b2f81045248db194d5f867e4420e884c0ab7eaa6a4d85a57af75419025b2f45",
}
"""sha256 over images, captions and controls of the first twelve pictures."""


def sphere_scene(x: float = 0.0, z: float = 0.0, size: float = 0.7) -> Scene:
    ball = Placed("sphere", "red", "plain", ((0.8, 0.1, 0.1), (0.8, 0.1, 0.1)), x, z, size, 0.0)
    camera = Camera((0.1, 1.9, -5.0), 0.22, 0.35)
    return Scene("a", (ball,), "grey", (0.5, 0.5, 0.5), (0.7, 0.7, 0.8), (-0.5, 0.7, -0.5), camera)


@pytest.mark.parametrize("world", ["a", "b"])
def test_the_pictures_are_these(world: WorldName) -> None:
    digest = hashlib.sha256()
    for index in range(12):
        picture = Scenes(world).picture(index)
        digest.update(picture.image.tobytes() + picture.caption.encode())
        for condition in CONDITIONS:
            digest.update(picture.controls[condition].tobytes())
    assert digest.hexdigest() == DIGESTS[world]


@pytest.mark.parametrize("world", ["a", "b"])
def test_a_picture_depends_on_seed_split_and_index_alone(world: WorldName) -> None:
    pictures = [Scenes(world, 3).picture(index) for index in range(20)]
    image, text = Scenes(world, 3).image(11)
    assert np.array_equal(image, pictures[11].image)
    assert text == pictures[11].caption
    assert len({picture.image.tobytes() for picture in pictures}) == 20
    for other in (Scenes(world, 4), Scenes(world, 3, Split.HELD_OUT)):
        assert not {other.image(index)[0].tobytes() for index in range(20)} & {p.image.tobytes() for p in pictures}


def test_the_worlds_share_no_solid_colour_floor_or_texture_but_plain() -> None:
    a, b = WORLDS["a"], WORLDS["b"]
    assert not set(a.solids) & set(b.solids)
    assert not set(a.colours) & set(b.colours)
    assert not set(a.floors) & set(b.floors)
    assert set(a.textures) & set(b.textures) == {"plain"}
    assert set(a.solids) | set(b.solids) == set(SOLIDS)


def test_a_known_sphere_lies_at_its_analytic_depth() -> None:
    scene = sphere_scene()
    side = 65  # odd, so that one ray goes along the camera's axis
    view = cast(scene, side)
    x, y, z = scene.camera.position
    sin, cos = math.sin(scene.camera.pitch), math.cos(scene.camera.pitch)
    across, down, ahead = -x, 0.7 - y, -z
    for row in range(side):
        for column in range(side):
            u = ((column + 0.5) * 2 / side - 1) * scene.camera.half_view
            v = -((row + 0.5) * 2 / side - 1) * scene.camera.half_view
            ray = (u, v * cos - sin, v * sin + cos)
            a = sum(r * r for r in ray)
            b = ray[0] * across + ray[1] * down + ray[2] * ahead
            squared = b * b - a * (across**2 + down**2 + ahead**2 - 0.7**2)
            if abs(squared) < 1e-3:
                continue  # so near the outline float32 may decide otherwise
            assert (view.thing[row, column] == FIRST_SOLID) == (squared > 0)
            if squared > 0:
                assert view.depth[row, column] == pytest.approx((b - math.sqrt(squared)) / a, abs=2e-4)


@pytest.mark.parametrize("kind", sorted(SOLIDS))
def test_a_ray_that_enters_a_solid_does_so_on_its_surface(kind: str) -> None:
    solid = SOLIDS[kind]
    rng = np.random.default_rng(5)
    ways = rng.normal(size=(3, 40, 50)).astype(np.float32)
    origins = -6 * ways / np.sqrt((ways**2).sum(axis=0)) + rng.uniform(-0.9, 0.9, (3, 40, 50)).astype(np.float32)
    t = solid.enter(origins, ways)
    hit = t < FAR
    assert 0.1 < hit.mean() < 0.95
    points = (origins + np.where(hit, t, 0) * ways)[:, hit][:, None, :]
    normals = solid.normals(points)
    assert np.allclose((normals**2).sum(axis=0), 1, atol=1e-5)
    along = (normals * ways[:, hit][:, None, :]).sum(axis=0) / np.sqrt((ways[:, hit] ** 2).sum(axis=0))
    assert (along < 0.02).all()  # the side that the ray comes from
    centre = np.array([0, solid.height / 2, 0], np.float32)[:, None, None]
    assert np.sqrt(((points - centre) ** 2).sum(axis=0)).max() < solid.radius + 2e-3
    inside, outside = points - 0.01 * normals, points + 0.01 * normals
    way = np.array([0.3, 1.0, 0.2], np.float32)[:, None, None]
    far = np.float32(8)
    # From far away towards a point just outside, the solid may be in the way; towards one just inside, it always is.
    assert (solid.enter(inside - far * way, way) < far).mean() > 0.99
    back = solid.enter(outside + far * normals, -normals)
    assert (back < far + 0.011).mean() > 0.99


def test_the_ring_has_a_hole() -> None:
    ring = Torus()
    origin = np.array([0, ring.radius, -5], np.float32)[:, None, None]
    assert ring.enter(origin, np.array([0, 0, 1], np.float32)[:, None, None])[0, 0] >= FAR
    rim = np.array([0, ring.radius + ring.major, -5], np.float32)[:, None, None]
    way = np.array([0, 0, 1], np.float32)[:, None, None]
    assert ring.enter(rim, way)[0, 0] == pytest.approx(5 - ring.minor, abs=1e-3)


@pytest.mark.parametrize("world", ["a", "b"])
def test_maps_agree_with_each_other(world: WorldName) -> None:
    for index in range(COUNT):
        scene = Scenes(world).scene(index)
        view = cast(scene, 64)
        controls = Scenes(world).picture(index).controls
        edges = controls["edge"][..., 0] > 0
        sketch = controls["sketch"][..., 0] > 0
        assert np.array_equal(edges, edge_pixels(scene, view))
        assert np.array_equal(SEGMENT_COLOURS[segments(scene, view)], controls["segmentation"])
        assert np.array_equal(depth_levels(view.depth), controls["depth"][..., 0])
        outlines = outline_pixels(scene, view)
        assert not (outlines & ~edges).any()
        assert not (outlines & ~sketch).any()
        classes = segments(scene, view)
        for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            # Where the class or, on solids, the depth jumps, one of the two pixels is an edge.
            jump = (classes[a] != classes[b]) | (
                (np.abs(view.depth[a] - view.depth[b]) > 0.6) & (view.thing[a] >= FIRST_SOLID)
            )
            assert not (jump & ~edges[a] & ~edges[b]).any()
        normals = camera_normals(scene, view)
        assert np.allclose((normals**2).sum(axis=0), 1, atol=1e-5)
        assert (normals[2] > -0.45).all()  # towards the viewer, but for what lies far from the axis
        levels = controls["normal"].astype(np.float32) / 127.5 - 1
        assert np.abs(levels.transpose(2, 0, 1) - normals).max() < 0.005
        assert controls["depth"].min() == 0
        assert controls["depth"].max() == 255


@pytest.mark.parametrize("world", ["a", "b"])
def test_captions_name_what_is_visible(world: WorldName) -> None:
    scenes = Scenes(world)
    counts = []
    for index in range(COUNT):
        scene = scenes.scene(index)
        view = cast(scene, 128)
        _, text = scenes.image(index)
        seen = visible(scene, view)
        assert text == caption(scene, seen)
        assert set(tokens(text)) <= set(VOCABULARY)
        words = tokens(text)
        assert sum(words.count(kind) for kind in SOLIDS) == len(seen)
        for number in seen:
            colour, kind = scene.solids[number].colour_name, scene.solids[number].kind
            assert f"{colour} {kind}" in text
        assert scene.floor_name in words
        counts.append(len(seen))
    assert {1, 2, 3} == set(counts)


def test_a_hidden_solid_is_not_named() -> None:
    front = sphere_scene(z=-1.0, size=0.75)
    hidden = Placed("box", "blue", "plain", ((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)), -0.02, 0.5, 0.2, 0.0)
    scene = Scene(**{**vars(front), "solids": (hidden, *front.solids)})
    assert caption(scene, visible(scene, cast(scene, 128))) == "a red sphere on a grey floor"


def test_classes_have_colours_far_apart() -> None:
    colours = SEGMENT_COLOURS.astype(int)
    assert len(colours) == len(SEGMENTS)
    gaps = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(len(colours), dtype=int)
    assert gaps.min() > 120


def test_light_falls_from_the_light_s_side_and_solids_cast_shadows() -> None:
    scene = sphere_scene()
    view = cast(scene, 64)
    ball = view.thing == FIRST_SOLID
    columns = np.nonzero(ball & view.lit)[1].mean(), np.nonzero(ball & ~view.lit)[1].mean()
    assert columns[0] < columns[1]  # the light comes from the left
    floor = view.thing == 0
    assert 0.005 < (floor & ~view.lit).sum() / floor.sum() < 0.3
    assert np.nonzero(floor & ~view.lit)[1].mean() > np.nonzero(ball)[1].mean()


def test_any_size_shows_the_same_scene() -> None:
    small, large = Scenes("a", size=32).picture(5), Scenes("a", size=128).picture(5)
    assert small.image.shape == (32, 32, 3)
    assert small.caption == large.caption
    reduced = large.image.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small.image).mean() < 3
