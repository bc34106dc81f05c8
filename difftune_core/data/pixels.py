"""Images of a data set at one size, decoded when they are asked for: no set of images stands in memory.

Shapes: n images, s pixels a side, k of them asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import features

from difftune_core.data.columns import Digests
from difftune_core.data.copies import Key, copy_keys
from difftune_core.data.crops import CENTRE, Crop
from difftune_core.data.item_files import ItemFiles
from difftune_core.data.items import Role
from difftune_core.files import build_once
from difftune_core.interruption import Progress, interruption_point
from difftune_core.runtime.caches import array_digest, contents_digest, parts_digest, place_of

_FORMAT = 1
_TOLD = 1000  # images: for as few as most sets have nobody waits
_CODECS = ("jpg", "zlib", "webp", "avif", "libtiff", "littlecms2")
BLOCK = 64
"""Images that are decoded, encoded or made together. Batches of other sizes or beginnings would round differently."""


@runtime_checkable
class ImageRows(Protocol):
    """Images in order, read as an array of them is: one, a slice, or those at some places."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, s, s, 3)."""
        ...

    @property
    def dtype(self) -> Any:
        """uint8."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, chosen: Any, /) -> Any:
        """Return what an array would give."""
        ...


class Pixels:
    """The images of a data set, or its control images; `np.asarray` decodes all of them."""

    def __init__(
        self,
        files: ItemFiles,
        role: Role,
        size: int,
        *,
        cache: Path | None = None,
        places: np.ndarray | None = None,
        crop: Crop = CENTRE,
    ) -> None:
        """Name the files; nothing is decoded yet.

        Args:
            files: where the images come from.
            role: which of each item's files.
            size: pixels a side that they are brought to.
            cache: the shared cache folder, where digests of decoded images are kept; None keeps none.
            places: which of the items, in order; all by default.
            crop: how they become square.
        """
        self.crop = crop
        self._files, self._role, self._size, self._cache = files, role, size, cache
        self._places = np.arange(len(files)) if places is None else places
        self._progress: Progress | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, s, s, 3)."""
        return len(self._places), self._size, self._size, 3

    @property
    def dtype(self) -> Any:
        """uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._places)

    def __getitem__(self, chosen: Any, /) -> UInt8[np.ndarray, "*k s s 3"]:
        """Return what an array would give, decoded now.

        Raises:
            TaskError: as `ItemFiles.load`.
        """
        places = self._places[chosen]
        if places.ndim == 0:
            return self._files.load(self._role, int(places), self._size, self.crop)
        images = np.empty((len(places), self._size, self._size, 3), np.uint8)
        for number, image in enumerate(self._files.load_all(self._role, places.tolist(), self._size, self.crop)):
            images[number] = image
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all images as one array."""
        del copy
        return self[:] if dtype is None else self[:].astype(dtype)

    def parts(self, count: int) -> Iterator[UInt8[np.ndarray, "_ s s 3"]]:
        """Yield all images, `count` at a time, the next being decoded while one is used."""
        images = self._files.load_all(self._role, map(int, self._places), self._size, self.crop)
        for start in range(0, len(self), count):
            interruption_point()
            yield np.stack([next(images) for _ in range(min(count, len(self) - start))])

    def subset(self, indices: Any) -> Pixels:
        """Return some of the images, in this order."""
        places = self._places[indices]
        return Pixels(self._files, self._role, self._size, cache=self._cache, places=places, crop=self.crop)

    def cropped(self, crop: Crop) -> Pixels:
        """Return the same images, made square in another way."""
        return Pixels(self._files, self._role, self._size, cache=self._cache, places=self._places, crop=crop)

    @property
    def keys(self) -> Sequence[Key]:
        """A key of each image, equal for copies, wherever these are cut."""
        return Digests(self._seen.keys) if self.crop == CENTRE else self.cropped(CENTRE).keys

    @property
    def digest(self) -> str:
        """The `array_digest` of all images."""
        return self._seen.digest

    def look(self, progress: Progress) -> None:
        """Decode all images once, if nobody has; `progress` hears of every thousand."""
        self._progress = progress
        _ = self._seen

    @cached_property
    def _seen(self) -> _Seen:
        """What decoding all images shows; kept in the cache for as long as files and decoders are the same."""
        if self._cache is None:
            return _look_at(self, self._progress)
        inputs = {
            "format": _FORMAT,
            "files": contents_digest((self._files.named(self._role, int(place))[1],) for place in self._places),
            "role": self._role,
            "size": self._size,
            **self.crop.told(),
            "decoders": [PIL.__version__, *(features.version(name) for name in _CODECS)],
        }
        place = place_of(self._cache, "pixels", inputs)
        return _Seen.read(build_once(place, lambda aside: _look_at(self, self._progress).write(aside)))


@dataclass(frozen=True)
class _Seen:
    """What has to be known of every pixel of a set, without the pixels."""

    keys: bytes
    """Keys of all images, one behind the other."""
    digest: str

    def write(self, folder: Path) -> None:
        (folder / "keys").write_bytes(self.keys)
        (folder / "digest.json").write_text(json.dumps(self.digest), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> _Seen:
        return cls((folder / "keys").read_bytes(), json.loads((folder / "digest.json").read_text(encoding="utf-8")))


def _look_at(images: Pixels, progress: Progress | None) -> _Seen:
    keys = bytearray()

    def noted() -> Iterator[UInt8[np.ndarray, "_ s s 3"]]:
        done = 0
        for part in images.parts(BLOCK):
            keys.extend(b"".join(copy_keys(part)))
            yield part
            before, done = done, done + len(part)
            if progress is not None and done // _TOLD > before // _TOLD:
                progress(done)

    digest = parts_digest(images.dtype, images.shape, noted())
    return _Seen(bytes(keys), digest)


@dataclass(frozen=True)
class Made:
    """Images that are made when they are asked for, as those that an autoencoder gives back."""

    shape: tuple[int, ...]
    make: Callable[[int, int], UInt8[np.ndarray, "_ s s 3"]]
    """Makes images: takes the number of the first and that after the last; the first is a multiple of `BLOCK`."""
    dtype: Any = field(default=np.dtype(np.uint8), init=False)

    def __len__(self) -> int:
        """Number of images."""
        return self.shape[0]

    def __getitem__(self, chosen: Any, /) -> UInt8[np.ndarray, "_ s s 3"]:
        """A slice, made now, in batches that begin where they would begin were all made at once."""
        start, stop, step = chosen.indices(len(self))
        if stop <= start:
            return np.empty((0, *self.shape[1:]), np.uint8)
        first = start // BLOCK * BLOCK
        last = min(-(-stop // BLOCK) * BLOCK, len(self))
        return self.make(first, last)[start - first : stop - first : step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all images as one array."""
        del copy
        return self[:] if dtype is None else self[:].astype(dtype)


def parts_of(images: ImageRows, count: int, first: int = 0) -> Iterator[UInt8[np.ndarray, "_ s s 3"]]:
    """Images from the first on, `count` at a time, wherever they are."""
    if isinstance(images, Pixels):
        yield from images.subset(slice(first, None)).parts(count)
        return
    for start in range(first, len(images), count):
        yield images[start : start + count]


def chosen(images: ImageRows, indices: Sequence[int]) -> ImageRows:
    """Return some of the images, in this order: those that are not decoded yet stay so."""
    if isinstance(images, Pixels):
        return images.subset(np.asarray(indices, dtype=np.int64))
    part: ImageRows = images[list(indices)]
    return part


def pixels_digest(images: ImageRows) -> str:
    """The `array_digest` of images, wherever they are."""
    return images.digest if isinstance(images, Pixels) else array_digest(np.asarray(images))
