"""How well pictures follow their controls: the control that was given against the one drawn anew from the result.

Edge and sketch by SSIM, depth and normal by mean squared error, segmentation by pixel accuracy and mean IoU.
Shapes: n pictures, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from scipy.ndimage import correlate1d, gaussian_filter

from difftune_core.config.conditions import find_condition
from difftune_core.config.outside import load
from difftune_core.hooks import TaskError

BLUR = 1 / 64
"""Sigma of the blur before SSIM over the shorter side: lines that are off by a pixel in 64 still agree in part."""
_WINDOW, _WINDOW_SIGMA = 11, 1.5
_K1, _K2, _RANGE = 0.01, 0.03, 255.0

Controls = UInt8[np.ndarray, "n h w 3"]
Palette = UInt8[np.ndarray, "classes 3"]


@dataclass(frozen=True)
class Agreement:
    """The agreement of results with their controls. `per_image` is of `metric`.

    `values` holds every metric's value over all.
    """

    metric: str
    higher_is_better: bool
    per_image: Float64[np.ndarray, " n"]
    values: dict[str, float]


Comparison = Callable[[Controls, Controls, Palette | None], Agreement]


def compare_controls(
    condition: str,
    given: Controls,
    drawn: Controls,
    palette: Palette | None = None,
) -> Agreement:
    """Agreement of the controls `drawn` from results with those `given`.

    Args:
        condition: one of `config.conditions`.
        given: control images, as the annotators draw them.
        drawn: control images of the results.
        palette: the classes' colours for segmentation, each pixel going to the nearest; without it equal colours are
            one class.

    Raises:
        TaskError: `condition_unknown`; `too_few_images` for none.
    """
    if not len(given):
        raise TaskError("too_few_images", "there is no picture to compare with its control")
    return comparison_of(condition)(given, drawn, palette)


def comparison_of(condition: str) -> Comparison:
    """Return how results of a condition are compared with their controls.

    Raises:
        TaskError: `condition_unknown`; `condition_unloadable`, its code cannot be imported.
    """
    try:
        found: Comparison = load(find_condition(condition).compare)
    except TaskError:
        raise
    except Exception as error:  # whatever a stranger's module raises
        message = f"the condition {condition!r} cannot be loaded: {error}"
        raise TaskError("condition_unloadable", message, "condition") from error
    return found


def by_similarity(given: Controls, drawn: Controls, _palette: Palette | None = None) -> Agreement:
    """SSIM of both, blurred; of one channel, which maps of lines repeat."""
    pairs = zip(given[..., 0], drawn[..., 0], strict=True)
    scores = np.array([ssim(*(blurred(levels) for levels in pair)) for pair in pairs])
    return Agreement("ssim", higher_is_better=True, per_image=scores, values={"ssim": float(scores.mean())})


def by_difference(given: Controls, drawn: Controls, _palette: Palette | None = None) -> Agreement:
    """Mean squared difference of levels from 0 to 1."""
    squared = ((given.astype(np.float64) - drawn) / _RANGE) ** 2
    scores = squared.mean(axis=(1, 2, 3))
    return Agreement("mse", higher_is_better=False, per_image=scores, values={"mse": float(scores.mean())})


def by_classes(given: Controls, drawn: Controls, palette: Palette | None = None) -> Agreement:
    """Share of pixels of the same class, and the classes' mean overlap."""
    return _segmentation(_classes(given, palette), _classes(drawn, palette))


def blurred(levels: UInt8[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    """Blur by a Gaussian of `BLUR` times the shorter side, borders repeated."""
    return np.asarray(gaussian_filter(levels.astype(np.float64), min(levels.shape) * BLUR, mode="nearest"))


def ssim(a: Float64[np.ndarray, "h w"], b: Float64[np.ndarray, "h w"]) -> float:
    """Mean structural similarity (Wang et al. 2004, eq. 13) of levels in [0, 255].

    Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, only windows that lie within the picture.

    Raises:
        TaskError: `image_too_small` below 11 pixels a side.
    """
    if min(a.shape) < _WINDOW:
        raise TaskError("image_too_small", f"SSIM needs {_WINDOW} pixels a side")
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    cov = _windowed(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float((similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _windowed(levels: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "a b"]:
    half = _WINDOW // 2
    at = np.arange(-half, half + 1)
    window = np.exp(-(at**2) / (2 * _WINDOW_SIGMA**2))
    window /= window.sum()
    for axis in (0, 1):
        levels = np.asarray(correlate1d(levels, window, axis=axis, mode="nearest"))
    return levels[half:-half, half:-half]


def _segmentation(given: Int64[np.ndarray, "n h w"], drawn: Int64[np.ndarray, "n h w"]) -> Agreement:
    scores = (given == drawn).mean(axis=(1, 2))
    overlaps = []
    for number in np.unique(np.concatenate([given.ravel(), drawn.ravel()])):
        one, other = given == number, drawn == number
        overlaps.append((one & other).sum() / (one | other).sum())
    values = {"pixel_accuracy": float(scores.mean()), "miou": float(np.mean(overlaps))}
    return Agreement("pixel_accuracy", higher_is_better=True, per_image=scores, values=values)


def _classes(controls: Controls, palette: Palette | None) -> Int64[np.ndarray, "n h w"]:
    """Each pixel's class: the nearest colour's place in the palette, or the colour itself as a number."""
    packed: Int64[np.ndarray, "n h w"] = controls.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    if palette is None:
        return packed
    seen, places = np.unique(packed, return_inverse=True)
    colours = np.stack([seen >> 16, (seen >> 8) & 255, seen & 255], axis=1)
    gaps = ((colours[:, None] - palette.astype(np.int64)[None]) ** 2).sum(axis=2)
    found: Int64[np.ndarray, "n h w"] = gaps.argmin(axis=1)[places].reshape(packed.shape)
    return found
