"""The files of a data set, read and decoded in any order."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TypeVar

import torch
from jaxtyping import UInt8
from numpy import ndarray

from difftune_core.data.archive import Archive, RefusedError, open_archive
from difftune_core.data.columns import NumbersByName
from difftune_core.data.crops import CENTRE, Crop
from difftune_core.data.dataset import Dataset
from difftune_core.data.images import load_rgb
from difftune_core.data.items import GROUNDS, Item, Role
from difftune_core.hooks import TaskError
from difftune_core.interruption import interruption_point

_AHEAD = 4  # files a thread that are read before their turn
A = TypeVar("A")
B = TypeVar("B")


class ItemFiles:
    """The files of one data set, open for as long as somebody may ask for one."""

    def __init__(self, dataset: Dataset[Item], scratch: Path | None = None) -> None:
        """Name the data set's files; nothing is opened yet.

        Args:
            dataset: whose files.
            scratch: where files of an archive that can only be read from its beginning are put aside, under no name;
                by default where the system puts such things.
        """
        self.dataset, self._scratch = dataset, scratch
        self._lock = Lock()  # an archive is one file with one position

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def named(self, role: Role, place: int) -> tuple[str, str]:
        """Path and sha256 of an item's file of this role."""
        return next((path, sha256) for found, path, sha256 in self.dataset.items[place].files if found == role)

    def load(self, role: Role, place: int, size: int, crop: Crop = CENTRE) -> UInt8[ndarray, "{size} {size} 3"]:
        """An item's picture, decoded in full.

        Images and controls are brought to `size` in the same way (`load_rgb`), so that they still fit each other;
        transparent pixels are white in images and black in controls.

        Raises:
            TaskError: `dataset_changed` where a file is gone or not the one that was listed, `invalid_dataset` where it
                is damaged.
        """
        path, sha256 = self.named(role, place)
        try:
            data = self._read(path)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise TaskError("dataset_changed", f"{path} changed after the data set was listed", path)
            return load_rgb(data, size, GROUNDS[role], crop=crop, sha256=self.named("image", place)[1])
        except RefusedError as reason:
            raise TaskError("invalid_dataset", f"{path}: {reason} ({reason.code})", path) from reason

    def load_all(
        self, role: Role, places: Iterable[int], size: int, crop: Crop = CENTRE
    ) -> Iterator[UInt8[ndarray, "{size} {size} 3"]]:
        """The pictures at these places, in this order, decoded by as many threads as the run may use."""
        return in_order(lambda place: self.load(role, place, size, crop), places)

    def _read(self, path: str) -> bytes:
        with self._lock:
            archive, numbers = self._opened
            number = numbers.get(path)
            assert number is not None, "it was looked for when the archive was opened"
            return archive.read(number)

    @cached_property
    def _opened(self) -> tuple[_InPlace | _Aside, NumbersByName]:
        archive = open_archive(self.dataset.source, self.dataset.limits)
        numbers = NumbersByName(member.path for member in archive)
        paths = (path for item in self.dataset.items for _, path, _ in item.files)
        if gone := [path for path in paths if numbers.get(path) is None]:
            raise TaskError("dataset_changed", f"{min(gone)} is gone, with {len(set(gone)) - 1} more", min(gone))
        opened = _InPlace(archive) if archive.seeks else _Aside(archive, self._scratch)
        weakref.finalize(self, opened.close)
        return opened, numbers


class _InPlace:
    """The files of an archive in which one can go back."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self.close = archive, archive.close

    def read(self, number: int) -> bytes:
        return self._archive.read(self._archive.members[number])


class _Aside:
    """The files of an archive in which one cannot go back, copied once in its own order."""

    def __init__(self, archive: Archive, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  gone with this object, or with the process
        self._ends, self._refused = array("Q"), dict[int, RefusedError]()
        with archive:
            for number, member in enumerate(archive):
                interruption_point()
                try:
                    self._file.write(archive.read(member))
                except RefusedError as reason:
                    self._refused[number] = reason
                self._ends.append(self._file.tell())
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def read(self, number: int) -> bytes:
        if number in self._refused:
            raise self._refused[number]
        start = self._ends[number - 1] if number else 0
        return os.pread(self._file.fileno(), self._ends[number] - start, start)


def in_order(work: Callable[[A], B], inputs: Iterable[A]) -> Iterator[B]:
    """Yield what `work` makes of each input, in order, by as many threads as torch may use; a few are made ahead."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, inputs)
        return
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[B]]()
    try:
        for value in inputs:
            waiting.append(pool.submit(work, value))
            if len(waiting) > threads * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
