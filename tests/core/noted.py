"""Where caches would keep what they make of their inputs, without making it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.families.base_model import BaseModel

Asked = Callable[..., str]
"""Where a cache would keep what it makes of these inputs."""
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
LABELS = torch.tensor([0, 1, 1, 2])


class NotedError(Exception):
    """Takes the place of building."""


def asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[..., Any]], Asked]:
    """Make of a function with a cache one that tells the place."""

    def note(final: Path, *_: Any) -> Path:
        raise NotedError(final.relative_to(tmp_path).as_posix())

    for module in (
        "data.latents",
        "data.controlled",
        "networks.text",
        "retention.bank",
        "evaluate.references",
        "families.dit.analyse",
    ):
        monkeypatch.setattr(f"difftune_core.{module}.build_once", note)

    def of(function: Callable[..., Any]) -> Asked:
        def place(*args: Any, **kwargs: Any) -> str:
            with pytest.raises(NotedError) as noted:
                function(*args, **{"cache": tmp_path, **kwargs})
            return str(noted.value)

        return place

    return of


def none(*_: Any) -> Any:
    raise AssertionError("nothing is computed")


def changed(pixels: np.ndarray) -> np.ndarray:
    """One value of one pixel, by one."""
    other = pixels.copy()
    other[2, 5, 7, 1] ^= 1
    return other


OTHER_PIXELS = {
    "two images in another order": PIXELS[[1, 0, 2, 3]],
    "one value of one pixel": changed(PIXELS),
    "one image less": PIXELS[:3],
    "another size": PIXELS[:, :16, :16],
    "the same bytes in another shape": PIXELS.reshape(4, 16, 64, 3),
}


def with_digest(base: BaseModel, digest: str) -> BaseModel:
    return replace(base, card=base.card.model_copy(update={"digest": digest}))
