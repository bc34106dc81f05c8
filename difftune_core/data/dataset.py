"""A data set that was accepted: its images in order, with what belongs to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np
from jaxtyping import Int64

from difftune_core.config.dataset import DatasetOptions, Validated
from difftune_core.data.archive import Limits, open_archive
from difftune_core.data.captioned import have_controls
from difftune_core.data.class_folders import class_names_of
from difftune_core.data.columns import Computed
from difftune_core.data.forms import CAPTIONED, CLASS_FOLDERS
from difftune_core.data.items import CaptionedImage, Item_co, ItemT, LabelledImage
from difftune_core.data.layout import view_of
from difftune_core.data.scan import Form, scan
from difftune_core.data.skipping import sorted_out
from difftune_core.data.validated import read_items
from difftune_core.hooks import TaskError
from difftune_core.runtime.caches import contents_digest


@dataclass(frozen=True)
class Dataset(Generic[Item_co]):
    """The data set at `source`, its items sorted by path."""

    source: Path
    items: Sequence[Item_co]
    limits: Limits

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def contents(self) -> Sequence[tuple[str | None, ...]]:
        """What each item is to a run, in order."""
        return Computed(len(self.items), lambda place: self.items[place].contents)

    @property
    def digest(self) -> str:
        """sha256 over labels and contents in order: equal for any packaging, and any names in the same order."""
        return contents_digest(self.contents)


class ImageFolder(Dataset[LabelledImage]):
    """A data set of class folders."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes; a label is a place among them."""
        return class_names_of(self.items)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The items' labels."""
        label = {name: number for number, name in enumerate(self.class_names)}
        return np.fromiter((label[item.class_name] for item in self.items), np.int64, len(self.items))


class CaptionedSet(Dataset[CaptionedImage]):
    """A data set of images with captions."""

    @property
    def has_controls(self) -> bool:
        """Whether the data set's rows name control images; otherwise they are to be drawn."""
        return have_controls(self.items)


def open_dataset(
    path: Path,
    options: DatasetOptions | None = None,
    limits: Limits | None = None,
    validated: Validated | None = None,
) -> ImageFolder:
    """The data set of class folders in an archive or folder.

    What its validation has left is taken as it is. Without that all files are read, though of pictures the headers
    alone are judged, unless files that cannot be used are to be skipped: these are the same then as in the validation,
    which decodes all.

    Raises:
        TaskError: the archive's own, `splits_found`, `no_split`, `invalid_dataset` naming the first bad file, or
            `no_images`.
    """
    limits = limits or Limits()
    return ImageFolder(path, _items(path, CLASS_FOLDERS, options, limits, validated), limits)


def open_captioned(
    path: Path,
    options: DatasetOptions | None = None,
    limits: Limits | None = None,
    validated: Validated | None = None,
) -> CaptionedSet:
    """The data set of captioned images in an archive or folder; as much is read as by `open_dataset`.

    Raises:
        TaskError: `splits_found`, `no_split`, `invalid_dataset` naming the first file or row at fault, or why the
            archive cannot be read.
    """
    limits = limits or Limits()
    return CaptionedSet(path, _items(path, CAPTIONED, options, limits, validated), limits)


def _items(
    path: Path, form: Form[ItemT], options: DatasetOptions | None, limits: Limits, validated: Validated | None
) -> Sequence[ItemT]:
    if validated is not None and (listed := read_items(validated, form)):
        return listed
    options = options or DatasetOptions()
    with open_archive(path, limits) as archive:
        found = scan(view_of(archive, options), form, decode=options.on_bad_files == "skip")
    wrong, _ = sorted_out(found.refused, len(found.items), options, path.name)
    if wrong or found.faults:
        first = [*wrong, *found.faults][0]
        raise TaskError("invalid_dataset", f"{first.path}: {first.message} ({first.code})", first.path)
    if not found.items:
        raise form.nothing_in(path.name)
    return found.items
