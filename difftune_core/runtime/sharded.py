"""Rows of tensors in files of bounded size: written one after another, mapped afterwards.

What a killed process has finished is not made again: each file carries a digest of its rows, and gets its name when it
is whole. Shapes: n rows, b of them asked for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from difftune_core.files import fsync
from difftune_core.runtime.mapped import Mapped
from difftune_core.runtime.tensors import save_tensors

BYTES = 128 << 20
"""Most bytes of a file, where a row is smaller: what is held in memory while it is written."""
_ROWS = 4096  # of a file, at most: what is made again after a kill
_DIGEST = "sha256"  # of the rows, in a header: one key only, since safetensors writes metadata in no fixed order
Block = Mapping[str, Tensor]
"""Some rows of each tensor."""


def rows_of_a_shard(bytes_a_row: int, block: int) -> int:
    """Return how many rows a file has: a multiple of `block`."""
    return max(block, min(_ROWS, BYTES // max(1, bytes_a_row)) // block * block)


def write_shards(folder: Path, parts: Path, *, count: int, rows: int, blocks: Callable[[int], Iterator[Block]]) -> None:
    """Write `count` rows into files of `rows` each.

    Args:
        folder: gets all of them in the end.
        parts: where they are made; those that are whole there are taken as they are. The caller removes it.
        count: of all.
        rows: of a file.
        blocks: from a multiple of `rows` to the blocks from that row on, of which a whole number makes a file.
    """
    parts.mkdir(parents=True, exist_ok=True)
    following: Iterator[Block] | None = None
    for start in range(0, count, rows):
        path, length = parts / _name(start), min(rows, count - start)
        if _is_whole(path, length):
            following = None
        else:
            following = following or blocks(start)
            _write(path, _taken(following, length))
        _link(path, folder / path.name)


class Sharded:
    """Rows in the files of a folder that `write_shards` filled; in order, and at random."""

    def __init__(self, shards: Sequence[Mapped]) -> None:
        """Take mapped files, of which all but the last have the same number of rows."""
        self._shards = shards
        self._rows = _length(shards[0])
        self._count = self._rows * (len(shards) - 1) + _length(shards[-1])
        self._arrays = [{name: tensor.numpy() for name, tensor in shard.tensors.items()} for shard in shards]

    @classmethod
    def of_folder(cls, folder: Path) -> Sharded:
        """Map the files of a folder."""
        return cls([Mapped(path) for path in sorted(folder.glob(_name("*")))])

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a row of the tensor."""
        return tuple(self._shards[0].tensors[name].shape[1:])

    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(tensor.nbytes for shard in self._shards for tensor in shard.tensors.values())

    def gather(self, indices: Int[Tensor, " b"], names: Sequence[str]) -> list[Tensor]:
        """Copy rows of some tensors to the CPU's memory; no page of the files stays in it."""
        dtypes = [self._shards[0].tensors[name].dtype for name in names]
        found = [torch.empty(len(indices), *self.shape(name), dtype=t) for name, t in zip(names, dtypes, strict=True)]
        arrays = [tensor.numpy() for tensor in found]
        touched = set()
        for row, index in enumerate(indices.tolist()):
            shard, place = divmod(index, self._rows)
            touched.add(shard)
            for array, name in zip(arrays, names, strict=True):
                array[row] = self._arrays[shard][name][place]
        for shard in touched:
            self._shards[shard].let_go()
        return found

    def prefetch(self, indices: Int[Tensor, " b"], names: Sequence[str]) -> None:
        """Have the system read some rows from the disk while something else is done."""
        for index in indices.tolist():
            shard, place = divmod(index, self._rows)
            for name in names:
                self._shards[shard].will_need(name, place)

    def parts(self, name: str) -> Iterator[Tensor]:
        """Yield all rows of a tensor, file by file; each part is only good until the next is asked for."""
        for shard in self._shards:
            yield shard.tensors[name]
            shard.let_go()

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Copy some rows that follow each other."""
        return self.gather(torch.arange(start, min(stop, len(self))), [name])[0]


class StoredRows:
    """One tensor of a `Sharded`, read like a tensor: what is asked for is copied to the CPU's memory."""

    def __init__(self, rows: Sharded, name: str) -> None:
        """Name a tensor; nothing is read yet."""
        self._rows, self._name = rows, name

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def __getitem__(self, chosen: int | Tensor) -> Tensor:
        """Read one row, or those at some places."""
        if isinstance(chosen, int):
            return self[torch.tensor([chosen % len(self)])][0]
        return self._rows.gather(chosen, [self._name])[0]

    def prefetch(self, chosen: Int[Tensor, " b"]) -> None:
        """Have the system read some rows while something else is done."""
        self._rows.prefetch(chosen, [self._name])


def _name(start: int | str) -> str:
    return f"rows-{start}.safetensors" if isinstance(start, str) else f"rows-{start:09d}.safetensors"


def _length(shard: Mapped) -> int:
    return len(next(iter(shard.tensors.values())))


def _taken(blocks: Iterator[Block], length: int) -> dict[str, Tensor]:
    """The next `length` rows."""
    taken: list[Block] = []
    while length > 0:
        taken.append(next(blocks))
        length -= len(next(iter(taken[-1].values())))
    return {name: torch.cat([block[name] for block in taken]) for name in taken[0]}


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_tensors(tensors, aside, {_DIGEST: _digest(tensors)})
        fsync(aside)
        aside.replace(path)
    finally:  # a half of it would fill a full disk further with each attempt
        aside.unlink(missing_ok=True)
    fsync(path.parent)


def _is_whole(path: Path, length: int) -> bool:
    """Return whether a file is there with as many rows, as they were written."""
    try:
        shard = Mapped(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    is_whole = _length(shard) == length and shard.metadata.get(_DIGEST) == _digest(shard.tensors)
    shard.let_go()
    return is_whole


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name].numpy()).data)
    return digest.hexdigest()


def _link(path: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system knows no such thing."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
