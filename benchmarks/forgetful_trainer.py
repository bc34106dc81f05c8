"""The negative control of `benchmarks.resume`: a trainer whose data begin anew after a resume.

`python -m benchmarks.forgetful_trainer` is `python -m difftune_core`, but for that.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from difftune_core import __main__ as core
from difftune_core.families import batch

_in_order = batch.stream_indices
_first: dict[str, int] = {}


def _from_the_beginning(seed: int, purpose: str, *, start: int, **place: Any) -> Tensor:
    begun = _first.setdefault(purpose, start)
    return _in_order(seed, purpose, start=start - begun, **place)


if __name__ == "__main__":
    batch.stream_indices = _from_the_beginning
    sys.exit(core.main())
