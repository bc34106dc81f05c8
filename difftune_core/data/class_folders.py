"""The form of data sets of class folders: `<class>/<file>`, whatever folders lie above all of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from difftune_core.data.columns import DigestsByName
from difftune_core.data.findings import Finding, similar_names
from difftune_core.data.images import check_image
from difftune_core.data.items import LabelledImage
from difftune_core.data.labelled import LabelledImages
from difftune_core.data.layout import View, class_root
from difftune_core.data.members import Member, Refusal, RefusedError
from difftune_core.data.previews import Previews
from difftune_core.data.rows import stray_tables
from difftune_core.data.scan import Found, Scan, StrayError, is_stray, nested_archives
from difftune_core.data.stems import class_labels, few_captions, paired_folders
from difftune_core.hooks import TaskError

MIN_IMAGES_PER_CLASS = 2
_CLASS_PATH_PARTS = 2


def class_names_of(images: Sequence[LabelledImage]) -> tuple[str, ...]:
    """The classes, sorted by code point, so that labels do not depend on a locale."""
    found = images.classes if isinstance(images, LabelledImages) else {image.class_name for image in images}
    return tuple(sorted(found))


class ClassFolders:
    """Images whose folders, or `.cls` files, name their classes."""

    name = "class_folders"

    def fits(self, _view: View, /) -> bool:
        """Whatever is of no other form is taken for class folders."""
        return True

    def reader(self, view: View, *, decode: bool, previews: Previews | None = None) -> _Reader:
        """Make the reader that judges the files one by one."""
        return _Reader(view, decode=decode, previews=previews)

    def nothing_in(self, name: str) -> TaskError:
        """Say that there are no images."""
        return TaskError("no_images", f"{name} holds no images", name)

    def described(self, items: Sequence[LabelledImage]) -> dict[str, Any]:
        """The classes, and how many images each has."""
        counts = Counter(image.class_name for image in items)
        names = class_names_of(items)
        return {"class_names": list(names), "class_counts": {name: counts[name] for name in names}}

    def rows(self, items: Sequence[LabelledImage]) -> Iterator[dict[str, Any]]:
        """The images, each with its label."""
        labels = {name: label for label, name in enumerate(class_names_of(items))}
        return ({**asdict(image), "label": labels[image.class_name]} for image in items)

    def read(self, rows: Iterable[dict[str, Any]]) -> LabelledImages:
        """The images; labels follow from the classes."""
        found = LabelledImages()
        for row in rows:
            found.append(LabelledImage(**{name: value for name, value in row.items() if name != "label"}))
        return found.by_path()

    def faults(self, found: Found[LabelledImage]) -> Iterator[Finding]:
        """Classes that are too small or that only one of the two parts has, and a set without images."""
        message = "the class has {} usable image; at least {} are needed"
        for name, count in sorted(Counter(image.class_name for image in found.items).items()):
            if count < MIN_IMAGES_PER_CLASS:
                yield Finding(name, "class_too_small", message.format(count, MIN_IMAGES_PER_CLASS), "error")
        if found.held_out is not None:
            message = "training and held-out images must have the same classes; only one of them has this one"
            for name in sorted(set(class_names_of(found.items)) ^ set(class_names_of(found.held_out))):
                yield Finding(name, "class_mismatch", message, "error")
        if not found.items:
            yield Finding(found.name, "no_images", "there is no image that can be used", "error")

    def doubts(self, items: Sequence[LabelledImage], /) -> Iterator[Finding]:
        """A single class, and classes whose names hardly differ."""
        names = class_names_of(items)
        if len(names) == 1:
            message = "there is one class: labels say nothing, and figures by class are those of the whole"
            yield Finding(names[0], "single_class", message, "warning")
        yield from similar_names(names)

    def copied(self, item: LabelledImage, before: LabelledImage) -> Finding:
        """Find a copy, which is worse where its class is another."""
        same = f"the same content as {before.path}"
        if item.class_name == before.class_name:
            return Finding(item.path, "duplicate_image", same, "warning")
        return Finding(item.path, "conflicting_label", f"{same}, but in another class", "warning")


class _Reader:
    """Takes each file of a view for an image of the class that its folder, or its `.cls` file, names."""

    def __init__(self, view: View, *, decode: bool, previews: Previews | None) -> None:
        self._view = view
        self._decode, self._previews = decode, previews
        self._labels = class_labels(view)
        self._root = class_root(view.picture_names())
        self._found, self._keys = LabelledImages(), DigestsByName()

    def take(self, member: Member) -> None:
        """Judge a picture, and find its class."""
        if self._labels is not None and member.path in self._labels.files:
            return
        try:
            data = self._view.archive.read(member)
            keep = self._previews.keeper(member.path) if self._previews is not None else None
            info = check_image(data, decode=self._decode, keep=keep)
        except RefusedError as reason:
            if is_stray(member.path, reason.code):
                text = "the file is no image, by its content and its name"
                raise StrayError(text if reason.code != "empty_file" else str(reason)) from None
            raise
        size = (member.bytes, info.width, info.height, info.format)
        digest = hashlib.sha256(data).hexdigest()
        self._found.append(LabelledImage(member.path, self._class_of(member), *size, digest))
        if info.key is not None:
            self._keys.add(member.path, info.key)

    def finish(self, refused: Sequence[Refusal], ignored: Sequence[Refusal]) -> Scan[LabelledImage]:
        """Return all images, with what the layout leaves open."""
        warnings = [*self._unread(), *self._empty(refused), *nested_archives(ignored)]
        sources = self._labels.files if self._labels is not None else frozenset()
        return Scan(self._found.by_path(), refused, ignored, warnings, self._faults(), sources, self._keys)

    def _class_of(self, member: Member) -> str:
        """Raises `RefusedError`: `no_class_folder`, `nested_folder`, `missing_label`, `unsafe_name`."""
        if self._labels is not None:
            label = self._labels.by_image.get(member.path)
            if label is None:
                raise RefusedError("missing_label", "no .cls file of its stem says its class, as others have one")
            if isinstance(label, RefusedError):
                raise label
            return label
        parts = self._within(self._view.name(member)).split("/")
        if len(parts) < _CLASS_PATH_PARTS:
            raise RefusedError("no_class_folder", "the image lies in no class folder; put it in <class>/<file>")
        if len(parts) > _CLASS_PATH_PARTS:
            raise RefusedError(
                "nested_folder", "the image lies too deep; class folders hold no folders: <class>/<file>"
            )
        return parts[0]

    def _unread(self) -> Iterator[Refusal]:
        """Find files that look as if they held captions."""
        for path, why in stray_tables(self._view).items():
            yield Refusal(path, "unread_table", why)
        texts = few_captions(self._view)
        if texts:
            count = len(self._view.pictures)
            more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
            message = f"{texts[0]}{more}: only {len(texts)} of {count} images have captions; these are class folders"
            yield Refusal(texts[0], "few_captions", message)

    def _empty(self, refused: Sequence[Refusal]) -> list[Refusal]:
        """Folders without images."""
        if self._labels is not None:
            return []
        names = chain(self._view.picture_names(), (r.path for r in refused))
        used = {self._within(name).split("/")[0] for name in names}
        folders = {self._within(folder) for folder in self._view.folders if folder.startswith(self._root)}
        empty = sorted(folder for folder in folders if folder and "/" not in folder and folder not in used)
        return [Refusal(name, "empty_class_folder", "the folder has no image: it is no class") for name in empty]

    def _faults(self) -> list[Refusal]:
        """Find two folders of images and their control images, which are no classes."""
        pair = None if self._labels is not None else paired_folders(self._in_folders)
        if pair is None:
            return []
        message = f"{pair[0]}/ and {pair[1]}/ hold the same names: images and their control images, not two classes. "
        return [
            Refusal(pair[0], "control_folders", message + "Captions are missing: add prompt.json or metadata.jsonl")
        ]

    def _in_folders(self) -> Iterator[str]:
        """`folder/file` of each picture that lies in one folder below the root."""
        names = map(self._within, self._view.picture_names())
        return (name for name in names if name.count("/") == 1)

    def _within(self, name: str) -> str:
        return name.removeprefix(self._root)
