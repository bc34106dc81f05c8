"""How a run is carried out. What stands here changes nothing of what is computed: two jobs that differ in it alone have
the same result, and one may go on from the other's checkpoint.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from difftune_core.frozen import Frozen


class CheckpointConfig(Frozen):
    """Which checkpoints stay in the store."""

    keep_last: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The newest so many; null keeps all. Beyond them stay the best, the job's result, what the job may go on from, and
    what is looked at by an analysis or was downloaded in the last day."""
