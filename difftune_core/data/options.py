"""What a data set's owner says of it: what to do with files that cannot be used, and which split is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from difftune_core.data.members import Refusal

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
    """Of an archive that has folders like `train/` and `val/`: which of them is the data set.

    `refuse`: none, such an archive is refused with advice. `hold_out`: `train/`, and its jobs that name no
    `validation_file` are judged by the images of `val/`, or of `test/` where there is no `val/`.
    """

    def held_out(self) -> DatasetOptions:
        """Of the part that `hold_out` keeps from training."""
        return HeldOutOptions(**self.model_dump())


class HeldOutOptions(DatasetOptions):
    """Options under which the held-out part of a `hold_out` set is read."""


def sorted_out(
    refused: Sequence[Refusal], num_taken: int, options: DatasetOptions, name: str
) -> tuple[list[Refusal], list[Refusal]]:
    """(what makes the set invalid, what is left out of it).

    Args:
        refused: files and rows that cannot be used.
        num_taken: images that can be.
        options: what to do with the former.
        name: of the archive, which is named where too much would be left out.
    """
    if options.on_bad_files == "refuse" or not refused:
        return list(refused), []
    count = len({refusal.path for refusal in refused})
    share = count / (count + num_taken)
    if share <= options.max_skipped_share:
        return [], list(refused)
    message = f"{count} files or rows of {count + num_taken} would be left out ({share:.0%})"
    most = f"; at most {options.max_skipped_share:.0%} may be (max_skipped_share)"
    return [Refusal(name, "too_many_bad_files", message + most), *refused], []
