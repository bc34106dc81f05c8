"""The origin of a run that begins with the checkpoint of another one. Pydantic only: API and worker need it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import MODEL_ID

ORIGIN_FILE = "origin.json"
"""File beside the checkpoint's weights, where a service gave them."""
CHECKPOINT_ID = r"ckpt_[0-9A-Z]{1,40}"
"""Pattern of a checkpoint's id; no base model's id matches it, for those have no capitals."""
BeginningId = Annotated[str, Field(pattern=rf"^({MODEL_ID}|{CHECKPOINT_ID})$")]
"""Id of a base model or a checkpoint."""


class Ancestor(Frozen):
    """A checkpoint that a run began with."""

    checkpoint: str
    """Id of the checkpoint; by hand the name of its folder."""
    job: str = ""
    """Id of the job that made the checkpoint."""
    step: int
    """Step of that job."""


class Origin(Frozen):
    """What is known of the checkpoint that a run begins with."""

    lineage: tuple[Ancestor, ...]
    """The checkpoint, then the one that its own run began with, and so on."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes of the label table's rows, where they are known."""
