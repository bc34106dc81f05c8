"""A data set of images with captions and, in every row or in none, control images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive, Limits, Member, RefusedError, open_archive
from difftune_core.data.captioned_item import GROUNDS, CaptionedItem, Role
from difftune_core.data.images import load_rgb
from difftune_core.data.scan_captioned import scan_captioned
from difftune_core.data.skipping import sorted_out
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import contents_digest


@dataclass(frozen=True)
class CaptionedSet:
    """The data set at `source`, its items sorted by path."""

    source: Path
    items: tuple[CaptionedItem, ...]
    limits: Limits

    def __len__(self) -> int:
        return len(self.items)

    @property
    def has_controls(self) -> bool:
        """Whether its rows name control images; otherwise they are to be drawn."""
        return bool(self.items) and self.items[0].control is not None

    @property
    def digest(self) -> str:
        """sha256 over captions and contents in order: equal for any packaging, and any names in the same order."""
        return contents_digest(item.contents for item in self.items)


def open_captioned(path: Path, options: DatasetOptions | None = None, limits: Limits | None = None) -> CaptionedSet:
    """The data set in an archive or folder; headers are read, and pixels where `data.dataset.open_dataset` does.

    Raises:
        TaskError: `splits_found`, `no_split`, `invalid_dataset` naming the first file or row at fault, or why the
            archive cannot be read.
    """
    limits, options = limits or Limits(), options or DatasetOptions()
    with open_archive(path, limits) as archive:
        result = scan_captioned(archive, options, decode=options.on_bad_files == "skip")
    wrong, _ = sorted_out(result.refused, len(result.items), options, path.name)
    if wrong:
        first = wrong[0]
        raise TaskError("invalid_dataset", f"{first.path}: {first.message} ({first.code})", first.path)
    if not result.items:
        raise TaskError("invalid_dataset", "there is no image with a caption", path.name)
    return CaptionedSet(path, tuple(result.items), limits)


def iter_files(dataset: CaptionedSet, size: int) -> Iterator[tuple[Role, list[int], UInt8[np.ndarray, "size size 3"]]]:
    """What a file is, the places in `items` that it serves, and its pixels; in the archive's own order.

    One file is in memory at a time. Images and controls are brought to `size` in the same way (`load_rgb`), so that
    they still fit each other; transparent pixels are white in images and black in controls.

    Raises:
        TaskError: `dataset_changed` where a file is gone or not the one that was listed, `invalid_dataset` where it is
            damaged.
    """
    roles: dict[str, list[tuple[Role, int]]] = {}
    digests: dict[str, str | None] = {}
    for place, item in enumerate(dataset.items):
        roles.setdefault(item.path, []).append(("image", place))
        digests[item.path] = item.sha256
        if item.control is not None:
            roles.setdefault(item.control, []).append(("control", place))
            digests[item.control] = item.control_sha256
    with open_archive(dataset.source, dataset.limits) as archive:
        gone = sorted(roles.keys() - {member.path for member in archive})
        if gone:
            raise TaskError("dataset_changed", f"{gone[0]} is gone, with {len(gone) - 1} more", gone[0])
        for member in archive:
            if member.path in roles:
                for role in ("image", "control"):
                    places = [place for kind, place in roles[member.path] if kind == role]
                    if places:
                        yield role, places, _load(archive, member, digests[member.path], size, GROUNDS[role])


def _load(
    archive: Archive, member: Member, digest: str | None, size: int, ground: tuple[int, int, int]
) -> UInt8[np.ndarray, "size size 3"]:
    try:
        data = archive.read(member)
        if hashlib.sha256(data).hexdigest() != digest:
            raise TaskError("dataset_changed", f"{member.path} changed after the data set was listed", member.path)
        return load_rgb(data, size, ground)
    except RefusedError as reason:
        raise TaskError("invalid_dataset", f"{member.path}: {reason} ({reason.code})", member.path) from reason
