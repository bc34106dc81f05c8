"""Figures of two sets of images, without a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import difftune_core
from difftune_core.config.figures import default_metrics
from difftune_core.evaluate.folders import evaluate_folders
from difftune_core.evaluate.report.write import plain

_TINY = Path(difftune_core.__file__).parent / "weights" / "tiny-features"
PathLike = str | Path


def evaluate(
    real: PathLike, fake: PathLike, *, metrics: Sequence[str] | None = None, extractors: Sequence[PathLike] = ()
) -> dict[str, Any]:
    """Compute FID, KID and others of the images in `fake` against those in `real`, with how they were made.

    Args:
        real: an archive or a folder of images, with class folders or without.
        fake: likewise.
        metrics: names of metrics; default: FID and KID.
        extractors: folders of feature extractors; default: the bundled tiny one, whose figures are comparable with
            nothing that is published.

    Raises:
        TaskError: a metric is unknown, or a file cannot be read.
    """
    folders = [Path(folder) for folder in extractors] or [_TINY]
    found = plain(evaluate_folders(Path(real), Path(fake), folders, metrics or default_metrics()))
    assert isinstance(found, dict), "plain values of a dictionary"
    return found
