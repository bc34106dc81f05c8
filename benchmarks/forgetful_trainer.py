"""The negative control of `benchmarks.resume`: a trainer whose data begin anew after a resume.

`python -m benchmarks.forgetful_trainer` is `python -m difftune_core`, but for that.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from difftune_core import __main__ as core
from difftune_core.families import batch
from difftune_core.runtime.rng import stream_indices

_first: dict[str, int] = {}


def _from_the_beginning(seed: int, purpose: str, *, start: int, **place: Any) -> Tensor:
    begun = _first.setdefault(purpose, start)
    return stream_indices(seed, purpose, start=start - begun, **place)


if __name__ == "__main__":
    assert hasattr(batch, "stream_indices"), "where its step takes them"
    vars(batch)["stream_indices"] = _from_the_beginning
    sys.exit(core.main())
