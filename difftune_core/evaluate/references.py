"""What figures are to be read beside, measured once for all jobs that would measure the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from difftune_core.files import build_once
from difftune_core.runtime.caches import place_of

_FILE = "references.json"


def cached_references(cache: Path, inputs: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures that `measure` gives, or gave a job whose `inputs` were the same.

    Args:
        cache: the shared cache folder.
        inputs: everything that the figures depend on, as JSON.
        measure: called only if the cache has to be made.
    """

    def build(aside: Path) -> None:
        (aside / _FILE).write_text(json.dumps(measure()), encoding="utf-8")

    folder = build_once(place_of(cache, "references", inputs), build)
    loaded: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    return loaded
