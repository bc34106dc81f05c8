"""A data set of class folders: `<class>/<file>`, whatever folders lie above all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.archive import Archive, Limits, Member, RefusedError, open_archive
from difftune_core.data.images import load_rgb
from difftune_core.data.scan import scan
from difftune_core.data.skipping import sorted_out
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import contents_digest


@dataclass(frozen=True, slots=True)
class ImageItem:
    """An image of a data set; `label` counts the sorted class names from 0."""

    path: str
    label: int
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class ImageFolder:
    """The data set at `source`, its items sorted by path."""

    source: Path
    class_names: tuple[str, ...]
    items: tuple[ImageItem, ...]
    limits: Limits

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The items' labels."""
        return np.array([item.label for item in self.items], dtype=np.int64)

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """Class name and sha256 of the file of each item, in order."""
        return tuple((self.class_names[item.label], item.sha256) for item in self.items)

    @property
    def digest(self) -> str:
        """sha256 over classes and contents in order: equal for any packaging, and for any names in the same order."""
        return contents_digest(self.contents)


def open_dataset(path: Path, options: DatasetOptions | None = None, limits: Limits | None = None) -> ImageFolder:
    """The data set in an archive or folder; `load_images` reads its pixels.

    Headers alone are read, unless files that cannot be used are to be skipped: these are the same then as in the
    validation, which decodes all.

    Raises:
        TaskError: the archive's own, `splits_found`, `no_split`, `invalid_dataset` naming the first bad file, or
            `no_images`.
    """
    limits, options = limits or Limits(), options or DatasetOptions()
    with open_archive(path, limits) as archive:
        result = scan(archive, options, decode=options.on_bad_files == "skip")
    wrong, _ = sorted_out(result.refused, len(result.found), options, path.name)
    if wrong or result.faults:
        first = [*wrong, *result.faults][0]
        raise TaskError("invalid_dataset", f"{first.path}: {first.message} ({first.code})", first.path)
    if not result.found:
        raise TaskError("no_images", f"{path.name} holds no images", path.name)
    labels = {name: label for label, name in enumerate(result.class_names)}
    items = tuple(ImageItem(i.path, labels[i.class_name], i.width, i.height, i.sha256) for i in result.found)
    return ImageFolder(path, result.class_names, items, limits)


def iter_images(dataset: ImageFolder, size: int) -> Iterator[tuple[int, UInt8[np.ndarray, "size size 3"]]]:
    """(index into `items`, RGB pixels) in the archive's own order, one in memory at a time; decoded in full.

    Raises:
        TaskError: `dataset_changed` where a file is not the one that was listed, `invalid_dataset` where it is damaged.
    """
    index = {item.path: i for i, item in enumerate(dataset.items)}
    with open_archive(dataset.source, dataset.limits) as archive:
        for member in archive:
            if member.path in index:
                yield index[member.path], _load(archive, member, dataset.items[index[member.path]], size)


def load_images(dataset: ImageFolder, size: int) -> tuple[UInt8[np.ndarray, "n size size 3"], Int64[np.ndarray, " n"]]:
    """All images and labels in the order of `items`; n * size^2 * 3 bytes.

    Raises:
        TaskError: as `iter_images`.
    """
    images = np.empty((len(dataset), size, size, 3), dtype=np.uint8)
    count = 0
    for index, pixels in iter_images(dataset, size):
        images[index] = pixels
        count += 1
    if count != len(dataset):
        raise TaskError(
            "dataset_changed", f"{len(dataset) - count} files of the data set are gone", dataset.source.name
        )
    return images, dataset.labels


def _load(archive: Archive, member: Member, item: ImageItem, size: int) -> UInt8[np.ndarray, "size size 3"]:
    try:
        data = archive.read(member)
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise TaskError("dataset_changed", f"{member.path} changed after the data set was listed", member.path)
        return load_rgb(data, size)
    except RefusedError as reason:
        raise TaskError("invalid_dataset", f"{member.path}: {reason} ({reason.code})", member.path) from reason
