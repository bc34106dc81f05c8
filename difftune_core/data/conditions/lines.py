"""Edge and sketch: white lines on black, computed with OpenCV in whole numbers, so that they are the same anywhere."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

LOW_THRESHOLD, HIGH_THRESHOLD = 100, 200
"""Canny's, in the units of a 3 x 3 Sobel filter over grey levels 0 ... 255: ControlNet's own."""
_SKETCH_BLUR = 1 / 40  # of the shorter side: what is finer is no part of a sketch
_SKETCH_LEAST = 24  # grey levels; below, nothing is an outline
_SKETCH_SPECK = 1 / 8  # of the shorter side, in pixels: shorter lines are dropped


def edge(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Canny (1986) on the three channels, at each pixel that with the steepest slope; thresholds 100 and 200."""
    return _rgb(cv2.Canny(np.ascontiguousarray(image), LOW_THRESHOLD, HIGH_THRESHOLD))


def sketch(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Thick outlines of what is large and distinct: in place of a binarised HED map, without its network.

    The slope of the blurred picture (the steepest channel's Sobel magnitude), cut at Otsu's threshold (1979) and
    never below 24 levels, and rid of specks.
    """
    side = min(image.shape[:2])
    smooth = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), max(1.0, side * _SKETCH_BLUR))
    dx, dy = (cv2.Sobel(smooth, cv2.CV_16S, *order).astype(np.int32) for order in ((1, 0), (0, 1)))
    squared = (dx * dx + dy * dy).max(axis=2)
    slope = np.clip(np.rint(np.sqrt(squared.astype(np.float64)) / 4), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(slope, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    drawn = (slope > max(threshold, _SKETCH_LEAST)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(drawn, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= 3 * side * _SKETCH_SPECK
    kept[0] = False  # the ground
    return _rgb(kept[labels].astype(np.uint8) * np.uint8(255))


def _rgb(levels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat(np.asarray(levels, np.uint8)[:, :, None], 3, axis=2)
