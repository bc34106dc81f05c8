"""The latent cache: every image encoded once, shared by content between jobs.

Mean and standard deviation are kept, not one sample, so that each step draws from the posterior anew; the mirrored
image is encoded too where flips are on, because the autoencoder is not equivariant to them. A small set is resident
while training; a large one stays in its files, and each batch reads its own rows.
Shapes: f flips (1 or 2), n images, c latent channels, h w latent size, b images of a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int, UInt8
from torch import Tensor

from difftune_core.data.pixels import BLOCK, ImageRows, parts_of, pixels_digest
from difftune_core.files import build_once, sealed_digest
from difftune_core.interruption import Progress
from difftune_core.runtime.caches import array_digest, place_of
from difftune_core.runtime.mapped import Mapped
from difftune_core.runtime.sharded import Block, Sharded, rows_of_a_shard, write_shards
from difftune_core.runtime.tensors import sent

RowsT = TypeVar("RowsT")
StreamedT = TypeVar("StreamedT", bound="Streamed[Any]")
_FORMAT = 1
_WHOLE = "latents.safetensors"
"""The one file of a cache that version 0.3.0 made: its shapes are (f n c h w)."""
_DIGEST = "digest.json"
_SMALLER = 2
"""The latents of an image, mirrored ones too, are about so many times smaller than its pixels, or smaller still."""


@runtime_checkable
class Encoder(Protocol):
    """The part of an autoencoder that makes latents."""

    def encode(
        self, images: UInt8[np.ndarray, "n s s 3"]
    ) -> tuple[Float16[Tensor, "n c h w"], Float16[Tensor, "n c h w"]]:
        """Mean and standard deviation of each image's latent, scaled; on the CPU."""


@runtime_checkable
class Latents(Protocol):
    """The latents of one image set, wherever they are."""

    @property
    def device(self) -> torch.device:
        """The device on which batches are made."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w) of a latent."""
        ...

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The labels of all images, on the device."""
        ...

    @property
    def digest(self) -> str:
        """Identifies latents and labels: part of what makes a resume exact."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def to(self, device: torch.device | str) -> Latents:
        """Return the same set, with batches on another device."""
        ...

    def means(self, start: int, stop: int) -> Float16[Tensor, "_ c h w"]:
        """Means of some of the images, not mirrored, on the device."""
        ...

    def prefetch(self, indices: Int[Tensor, " b"]) -> None:
        """Begin to read the images that are drawn next, whose places are on the CPU; nobody waits for it."""
        ...

    def draw(
        self, indices: Int[Tensor, " b"], flip: Bool[Tensor, " b"], noise: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """A posterior sample of each image; `flip` is ignored where mirrored latents were not cached.

        Args:
            indices: which images, on the CPU: the device is not waited for.
            flip: whether the mirrored image is taken, on the CPU.
            noise: on the device.
        """
        ...


@dataclass(frozen=True)
class LatentSet:
    """Latents that are resident."""

    mean: Float16[Tensor, "f n c h w"]
    std: Float16[Tensor, "f n c h w"]
    labels: Int[Tensor, " n"]
    digest: str
    """Identifies latents and labels: part of what makes a resume exact."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device on which they are."""
        return self.mean.device

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w) of a latent."""
        return tuple(self.mean.shape[2:])

    def to(self, device: torch.device | str) -> LatentSet:
        """Return the same set on another device."""
        return LatentSet(self.mean.to(device), self.std.to(device), self.labels.to(device), self.digest)

    def means(self, start: int, stop: int) -> Float16[Tensor, "_ c h w"]:
        """Means of some of the images, not mirrored."""
        return self.mean[0, start:stop]

    def prefetch(self, indices: Int[Tensor, " b"]) -> None:
        """Do nothing: the latents are there."""

    def draw(
        self, indices: Int[Tensor, " b"], flip: Bool[Tensor, " b"], noise: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """A posterior sample of each image."""
        mean, std = self.posteriors(indices, flip)
        return mean.float() + std.float() * noise

    def posteriors(self, indices: Int[Tensor, " b"], flip: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each image's latent."""
        place = sent(indices + len(self) * flip if len(self.mean) > 1 else indices, self.device)
        return self.mean.flatten(0, 1).index_select(0, place), self.std.flatten(0, 1).index_select(0, place)


@dataclass(frozen=True)
class Streamed(Generic[RowsT]):
    """Latents of which a batch reads its own rows and brings them to the device."""

    rows: RowsT
    labels: Int[Tensor, " n"]
    digest: str
    """Identifies latents and labels: part of what makes a resume exact."""
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def to(self: StreamedT, device: torch.device | str) -> StreamedT:  # noqa: PYI019  beartype knows no Self here
        """Return the same set, with batches on another device."""
        return replace(self, labels=self.labels.to(device), device=torch.device(device))


@dataclass(frozen=True)
class StoredLatents(Streamed[Sharded]):
    """Latents that stay in the files of the cache."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, h, w) of a latent."""
        return self.rows.shape("mean")[1:]

    def resident(self, device: torch.device | str) -> LatentSet:
        """Return the same set, brought to a device as a whole."""
        mean, std = (
            torch.cat([part.to(device) for part in self.rows.parts(name)]).transpose(0, 1).contiguous()
            for name in ("mean", "std")
        )
        return LatentSet(mean, std, self.labels.to(device), self.digest)

    def means(self, start: int, stop: int) -> Float16[Tensor, "_ c h w"]:
        """Means of some of the images, not mirrored."""
        return self.rows.rows("mean", start, stop)[:, 0].to(self.device)

    def prefetch(self, indices: Int[Tensor, " b"]) -> None:
        """Begin to read the images that are drawn next."""
        self.rows.prefetch(indices, ("mean", "std"))

    def draw(
        self, indices: Int[Tensor, " b"], flip: Bool[Tensor, " b"], noise: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """A posterior sample of each image."""
        both = self.rows.gather(indices, ("mean", "std"))
        side = flip.long() if self.rows.shape("mean")[0] > 1 else torch.zeros_like(indices)
        mean, std = (sent(rows[torch.arange(len(side)), side], self.device) for rows in both)
        return mean.float() + std.float() * noise


def cached_latents(
    images: ImageRows,
    labels: Int[Tensor, " n"],
    *,
    autoencoder: str,
    flip: bool,
    cache: Path,
    load_autoencoder: Callable[[], Encoder],
    progress: Progress | None = None,
) -> StoredLatents:
    """Latents of `images` from `cache`, encoded now if nobody has.

    Args:
        images: what is encoded.
        labels: class of each image.
        autoencoder: digest of the autoencoder's files.
        flip: whether to encode mirrored images too.
        cache: the shared cache folder.
        load_autoencoder: called only if the cache has to be made.
        progress: hears how many images are encoded.
    """
    inputs = {
        "format": _FORMAT,
        "images": pixels_digest(images),
        "labels": array_digest(labels.numpy()),
        "autoencoder": autoencoder,
        "flip": flip,
    }
    place = place_of(cache, "latents", inputs)
    parts = place.with_name(f".{place.name}.parts")
    rows = rows_of_a_shard(int(np.prod(images.shape[1:])) // _SMALLER, BLOCK)

    def build(folder: Path) -> None:
        blocks = _Blocks(images, load_autoencoder, flip, progress)
        write_shards(folder, parts, count=len(images), rows=rows, blocks=blocks)
        (folder / _DIGEST).write_text(json.dumps(_digest(Sharded.of_folder(folder), labels)), encoding="utf-8")

    # Read back also by the run that made it: both then train on the same bytes.
    return _read(build_once(place, build, parts), labels)


def _read(folder: Path, labels: Int[Tensor, " n"]) -> StoredLatents:
    if (folder / _WHOLE).exists():
        return StoredLatents(_of_one_file(folder / _WHOLE), labels, sealed_digest(folder, _WHOLE))
    digest: str = json.loads((folder / _DIGEST).read_text(encoding="utf-8"))
    return StoredLatents(Sharded.of_folder(folder), labels, digest)


@dataclass(frozen=True)
class _Blocks:
    """Encodes images block by block."""

    images: ImageRows
    load: Callable[[], Encoder]
    flip: bool
    progress: Progress | None

    def __call__(self, start: int) -> Iterator[Block]:
        encoder = self.load()
        for part in parts_of(self.images, BLOCK, start):
            sides = [part, part[:, :, ::-1]] if self.flip else [part]
            means, stds = zip(*(encoder.encode(np.ascontiguousarray(side)) for side in sides), strict=True)
            yield {"mean": torch.stack(means, dim=1), "std": torch.stack(stds, dim=1)}
            start += len(part)
            if self.progress is not None:
                self.progress(start)


def _of_one_file(path: Path) -> Sharded:
    """Take a cache of version 0.3.0 as it is."""
    mapped = Mapped(path)
    mapped.tensors = {name: mapped.tensors[name].transpose(0, 1) for name in ("mean", "std")}
    return Sharded([mapped])


def _digest(rows: Sharded, labels: Int[Tensor, " n"]) -> str:
    """The sha256 that a file of all would have, as version 0.3.0 wrote it: checkpoints are compared by it."""
    flips, *shape = rows.shape("mean")
    header: dict[str, Any] = {"labels": {"dtype": "I64", "shape": [len(labels)], "data_offsets": [0, labels.nbytes]}}
    end, size = labels.nbytes, flips * len(labels) * int(np.prod(shape)) * torch.float16.itemsize
    for name in ("mean", "std"):
        header[name] = {"dtype": "F16", "shape": [flips, len(labels), *shape], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text + labels.numpy().tobytes())
    for name in ("mean", "std"):
        for side in range(flips):
            for part in rows.parts(name):
                digest.update(part[:, side].contiguous().numpy().data)
    return digest.hexdigest()
