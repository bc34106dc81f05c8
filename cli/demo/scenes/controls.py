"""The true control maps of a scene, from its geometry and not from its picture.

All are uint8 RGB [h, w, 3]; those of one channel repeat it. Conventions:

- depth: inverse depth, brought to 0 (farthest) ... 255 (nearest) in each picture, as MiDaS' maps for ControlNet are.
- normal: unit normals in the camera's axes, (n + 1) / 2 * 255: red to the right, green up, blue towards the viewer.
- segmentation: the colour of each thing's class in `SEGMENT_COLOURS`.
- edge: white lines of one pixel where the thing changes, where normals of one thing turn by more than 30 degrees
  (creases) and where colours jump by at least `_COLOUR_STEP` (textures, borders of shadows). Canny on the picture
  finds the same lines, but for those without contrast, and may be off by a pixel.
- sketch: outlines and creases alone, without textures and shadows, three pixels wide: as a binarised HED map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from cli.demo.scenes.cast import View, camera_axes, shade
from cli.demo.scenes.solids import SOLIDS
from cli.demo.scenes.worlds import Scene

CONDITIONS = ("edge", "sketch", "depth", "normal", "segmentation")
SEGMENTS: tuple[str, ...] = ("floor", "wall", *SOLIDS)
"""Classes of the segmentation map."""
SEGMENT_COLOURS: UInt8[np.ndarray, "classes 3"] = np.array(
    [
        [60, 60, 60],
        [190, 190, 190],
        [230, 25, 75],
        [0, 130, 200],
        [60, 180, 75],
        [255, 225, 25],
        [145, 30, 180],
        [245, 130, 48],
        [70, 240, 240],
    ],
    dtype=np.uint8,
)
SMOOTH = frozenset({"sphere", "torus", "dome"})
"""Solids without creases that can be seen."""
Pixels = tuple[slice, slice]
_CREASE_COSINE = np.float32(0.8660254)  # 30 degrees
_COLOUR_STEP = np.float32(0.16)  # of the range of a channel


def true_controls(scene: Scene, view: View) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Every map of `CONDITIONS`."""
    return {
        "edge": _grey(edge_pixels(scene, view) * np.uint8(255)),
        "sketch": _grey(_thicker(outline_pixels(scene, view)) * np.uint8(255)),
        "depth": _grey(depth_levels(view.depth)),
        "normal": _normal_map(scene, view),
        "segmentation": SEGMENT_COLOURS[segments(scene, view)],
    }


def segments(scene: Scene, view: View) -> UInt8[np.ndarray, "h w"]:
    """Each pixel's class in `SEGMENTS`."""
    classes = [0, 1, *(SEGMENTS.index(solid.kind) for solid in scene.solids)]
    found: UInt8[np.ndarray, "h w"] = np.array(classes, np.uint8)[view.thing]
    return found


def depth_levels(depth: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Inverse depth, brought to 0 ... 255."""
    inverse = 1 / depth
    low, high = inverse.min(), inverse.max()
    levels: UInt8[np.ndarray, "h w"] = np.rint((inverse - low) / max(high - low, np.float32(1e-9)) * 255).astype(
        np.uint8
    )
    return levels


def camera_normals(scene: Scene, view: View) -> Float32[np.ndarray, "3 h w"]:
    """Unit normals along the camera's right, up and back."""
    x, y, z = view.normal
    axes = camera_axes(scene.camera)
    return np.stack([x * axis[0] + y * axis[1] + z * axis[2] for axis in axes])


def edge_pixels(scene: Scene, view: View) -> Bool[np.ndarray, "h w"]:
    """Return where the edge map is white."""
    colours = shade(scene, view)

    def jumps(a: Pixels, b: Pixels) -> Bool[np.ndarray, "_ _"]:
        # What Lambert's law makes of a round surface is a slope, not a step: a jump is one of albedo or of shadow.
        one, other = (slice(None), *a), (slice(None), *b)
        step = np.abs(colours[one] - colours[other]).max(axis=0) >= _COLOUR_STEP
        kind: Bool[np.ndarray, "_ _"] = (view.albedo[one] != view.albedo[other]).any(axis=0)
        jump: Bool[np.ndarray, "_ _"] = step & (kind | (view.lit[a] != view.lit[b]))
        return jump

    found: Bool[np.ndarray, "h w"] = outline_pixels(scene, view) | _nearer_of(view, jumps)
    return found


def outline_pixels(scene: Scene, view: View) -> Bool[np.ndarray, "h w"]:
    """Borders between things, and creases of one thing."""
    creased = np.array([False, False, *(solid.kind not in SMOOTH for solid in scene.solids)])[view.thing]

    def differ(a: Pixels, b: Pixels) -> Bool[np.ndarray, "_ _"]:
        one, other = view.normal[(slice(None), *a)], view.normal[(slice(None), *b)]
        cosine = one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
        border: Bool[np.ndarray, "_ _"] = view.thing[a] != view.thing[b]
        border |= creased[a] & (cosine < _CREASE_COSINE)
        return border

    return _nearer_of(view, differ)


def _nearer_of(view: View, differ: Callable[[Pixels, Pixels], Bool[np.ndarray, "_ _"]]) -> Bool[np.ndarray, "h w"]:
    """Mark, of each two neighbours that differ, the one nearer to the camera."""
    found = np.zeros(view.depth.shape, bool)
    whole, front, rear = slice(None), slice(None, -1), slice(1, None)
    for a, b in (((whole, front), (whole, rear)), ((front, whole), (rear, whole))):
        edge, first = differ(a, b), view.depth[a] <= view.depth[b]
        found[a] |= edge & first
        found[b] |= edge & ~first
    return found


def _normal_map(scene: Scene, view: View) -> UInt8[np.ndarray, "h w 3"]:
    levels = np.rint((camera_normals(scene, view) + 1) * np.float32(127.5))
    return np.ascontiguousarray(np.clip(levels, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _thicker(lines: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Widen each set pixel to its eight neighbours."""
    h, w = lines.shape
    padded = np.pad(lines, 1)
    near = [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    thick: Bool[np.ndarray, "h w"] = np.logical_or.reduce(near)
    return thick


def _grey(levels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat(levels[:, :, None], 3, axis=2)
