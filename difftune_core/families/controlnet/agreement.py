"""How closely images follow their controls and captions: both are compared with what the images show.

Shapes: k images, s pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from difftune_core.data.conditions import Annotator
from difftune_core.data.pixels import ImageRows, parts_of
from difftune_core.evaluate.clip_score import ClipScorer
from difftune_core.evaluate.together import AT_ONCE
from difftune_core.families.controlnet.controls import compare_controls
from difftune_core.interruption import interruption_point


def annotated(images: UInt8[np.ndarray, "k s s 3"], annotator: Annotator) -> UInt8[np.ndarray, "k s s 3"]:
    """Controls drawn anew."""
    drawn = []
    for image in images:
        interruption_point()
        drawn.append(annotator(image))
    return np.stack(drawn)


def agreement_of(
    images: ImageRows,
    controls: UInt8[np.ndarray, "k s s 3"],
    captions: Sequence[str],
    *,
    condition: str,
    annotator: Annotator,
    clip: ClipScorer | None,
) -> dict[str, Any]:
    """The condition's figures, means over images, the main one's with its standard error; CLIP scores likewise.

    Args:
        images: results.
        controls: what each should follow.
        captions: what each should show; there may be more than images.
        condition: what controls show.
        annotator: draws the controls of results.
        clip: scores captions; None where that is not asked for.
    """
    drawn: list[UInt8[np.ndarray, "_ s s 3"]] = []
    scores: list[Float64[np.ndarray, " _"]] = []
    said = iter(captions)
    for part in parts_of(images, AT_ONCE):
        drawn.append(annotated(part, annotator))
        if clip is not None:
            scores.append(clip(part, list(islice(said, len(part)))))
    found = compare_controls(condition, controls, np.concatenate(drawn))
    figures = {**found.values, f"{found.metric}_se": _standard_error(found.per_image), "num_compared": len(images)}
    if not scores:
        return figures
    joined = np.concatenate(scores)
    return {**figures, "clip_score": float(joined.mean()), "clip_score_se": _standard_error(joined)}


def _standard_error(per_image: Float64[np.ndarray, " n"]) -> float | None:
    """Compute the standard error of the mean, None for one image."""
    return float(per_image.std(ddof=1) / np.sqrt(len(per_image))) if len(per_image) > 1 else None
