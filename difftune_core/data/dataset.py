"""A data set of class folders: `<class>/<file>`, with at most one folder above all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from difftune_core.data.archive import Archive, Limits, Member, Refusal, RefusedError, open_archive
from difftune_core.data.images import check_image, load_rgb
from difftune_core.files import sha256_json
from difftune_core.hooks import TaskError

_CLASS_PATH_PARTS = 2


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An accepted image; width and height in pixels as shown."""

    path: str
    class_name: str
    bytes: int
    width: int
    height: int
    format: str
    sha256: str


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
    def digest(self) -> str:
        """sha256 over the sorted pairs of class and content: equal for any packaging and order of the same images."""
        return content_digest((self.class_names[item.label], item.sha256) for item in self.items)


@dataclass(frozen=True)
class Scan:
    """What became of every entry: `len(found) + len(refused) + ignored = entries`."""

    found: list[FoundImage]
    refused: list[Refusal]
    ignored: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """Sorted by code point, so that labels do not depend on a locale."""
        return tuple(sorted({image.class_name for image in self.found}))


def content_digest(pairs: Iterator[tuple[str, str]]) -> str:
    """sha256 over sorted (class name, content sha256)."""
    return sha256_json(sorted(pairs))


def scan(archive: Archive, *, decode: bool, on_file: Callable[[int, int], None] | None = None) -> Scan:
    """Judge every file, one in memory at a time; `on_file(done, total)` is called after each.

    Args:
        archive: what to read.
        decode: also decode pixels, which finds truncation.
        on_file: progress.
    """
    root = _common_root([member.path for member in archive])
    found, refused = [], list(archive.refused)
    for done, member in enumerate(archive, start=1):
        try:
            found.append(_accept(archive, member, root, decode=decode))
        except RefusedError as reason:
            refused.append(Refusal(member.path, reason.code, str(reason)))
        if on_file:
            on_file(done, len(archive.members))
    found.sort(key=lambda image: image.path)
    refused.sort(key=lambda refusal: refusal.path)
    return Scan(found, refused, archive.ignored)


def open_dataset(path: Path, limits: Limits | None = None) -> ImageFolder:
    """The data set in an archive or folder; headers are read, pixels are not (`load_images` reads them).

    Raises:
        TaskError: the archive's own, `invalid_dataset` naming the first bad file, or `no_images`.
    """
    limits = limits or Limits()
    with open_archive(path, limits) as archive:
        result = scan(archive, decode=False)
    if result.refused:
        first = result.refused[0]
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


def _accept(archive: Archive, member: Member, root: str, *, decode: bool) -> FoundImage:
    data = archive.read(member)
    info = check_image(data, decode=decode)
    class_name = _class_of(member.path.removeprefix(root))
    digest = hashlib.sha256(data).hexdigest()
    return FoundImage(member.path, class_name, member.bytes, info.width, info.height, info.format, digest)


def _class_of(path: str) -> str:
    parts = path.split("/")
    if len(parts) < _CLASS_PATH_PARTS:
        raise RefusedError("no_class_folder", "the image lies in no class folder; put it in <class>/<file>")
    if len(parts) > _CLASS_PATH_PARTS:
        raise RefusedError("nested_folder", "the image lies too deep; class folders hold no folders: <class>/<file>")
    return parts[0]


def _common_root(paths: list[str]) -> str:
    """`root/` where one folder holds everything and has folders in it."""
    first = {path.split("/", 1)[0] for path in paths}
    return f"{first.pop()}/" if len(first) == 1 and any(path.count("/") >= _CLASS_PATH_PARTS for path in paths) else ""
