"""What files that cannot be used do to a data set."""

from __future__ import annotations

from collections.abc import Sequence

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.members import Refusal


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
