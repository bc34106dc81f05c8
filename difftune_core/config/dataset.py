"""What a data set's owner says of it: what to do with files that cannot be used, and which split is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from difftune_core.files import sha256_json

OnBadFiles = Literal["refuse", "skip"]
Splits = Literal["refuse", "train", "validation", "test", "hold_out"]
MAX_SKIPPED_SHARE = 0.1


class DatasetOptions(BaseModel):
    """How an archive becomes a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    on_bad_files: OnBadFiles = "refuse"
    """What files that cannot be used do to the set: `refuse` it, or be left out (`skip`) and listed."""
    max_skipped_share: Annotated[float, Field(ge=0, le=1)] = MAX_SKIPPED_SHARE
    """The most that `skip` may leave out, as a share of all files and rows that should have been used."""
    splits: Splits = "refuse"
    """Which folder is the data set, of an archive that has some like `train/` and `val/`.

    `refuse`: none, such an archive is refused with advice. `hold_out`: `train/`, and its jobs that name no
    `validation_file` are judged by the images of `val/`, or of `test/` where there is no `val/`.
    """

    def held_out(self) -> DatasetOptions:
        """The part that `hold_out` keeps from training."""
        return HeldOutOptions(**self.model_dump())


def identity(sha256: str, options: DatasetOptions) -> str:
    """Return what identifies the images of a data set before they are read: its file, and what is taken of it."""
    taken = options.model_dump(include={"on_bad_files", "splits"}, exclude_defaults=True)
    return sha256_json([sha256, taken]) if taken else sha256


class HeldOutOptions(DatasetOptions):
    """Options under which the held-out part of a `hold_out` set is read."""


class Validated(BaseModel):
    """What the validation of a data set has left for those who train on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Path
    """Path of the report's `items.jsonl`."""
    digest: str
    """Digest of the items, as the report says it: what is read is compared with it."""
