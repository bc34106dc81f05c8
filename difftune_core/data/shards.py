"""Tar files within an archive, as webdataset's shards are sent: read as if their files lay in the archive itself.

One level deep, and tar files alone: a plain one is read in place, a gzipped one unpacked as it is read. All gzipped
ones together may unpack to as much as the whole archive may, so that a layer more multiplies nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

from difftune_core.data import tar_reader, zip_reader
from difftune_core.data.members import Entry, Limits, Reader, RefusedError, clean_path, is_junk
from difftune_core.hooks import TaskError

_ENDINGS = (".tar", ".tar.gz", ".tgz")
_HANDLES = 1 << 48
"""A handle is a shard's number, from 1, times this, and the file's handle in it; of the archive's own files, theirs."""
_BROKEN = (*zip_reader.BROKEN, *tar_reader.BROKEN)


class ShardReader:
    """A reader whose entries are those of another, with the files of each tar file in the place of that file."""

    def __init__(self, outer: Reader, limits: Limits, name: str, most: int) -> None:
        """Make a reader of shards; nothing is read yet. `most` bytes are unpacked of all gzipped shards."""
        self._outer, self._limits, self._name, self._left = outer, limits, name, most
        self._most: dict[str, int] = {}
        self._current: tuple[Entry, tar_reader.TarReader] | None = None
        self._shards: list[Entry] = []

    @property
    def seeks(self) -> bool:
        """Always False: one shard is open at a time, and each is read from its beginning."""
        return self._outer.seeks and not self._shards

    def entries(self) -> Iterator[Entry]:
        """Yield every entry.

        Raises:
            TaskError: the outer reader's own; `too_many_entries` of all shards together.
        """
        for count, entry in enumerate(self._flat(), start=1):
            if count > self._limits.max_entries:
                raise TaskError("too_many_entries", f"more than {self._limits.max_entries} entries", self._name)
            yield entry

    def open(self, entry: Entry) -> io.BufferedIOBase:
        """The bytes as a stream; the shard that was read last stays open, for its files lie together."""
        number, handle = divmod(entry.handle, _HANDLES)
        if not number:
            return self._outer.open(entry)
        return self._reader(self._shards[number - 1]).open(replace(entry, handle=handle))

    def close(self) -> None:
        """Close the shard that is open, and the archive."""
        self._leave()
        self._outer.close()

    def _flat(self) -> Iterator[Entry]:
        for entry in self._outer.entries():
            prefix = self._prefix(entry)
            if prefix is None:
                yield entry
            else:
                self._shards.append(entry)
                yield from self._of_shard(entry, prefix)

    def _prefix(self, entry: Entry) -> str | None:
        """The shard's path with a `/` at its end; None for an entry that is none, or that is judged as it is."""
        is_large = entry.bytes > entry.packed_bytes * self._limits.max_ratio
        if not entry.name.lower().endswith(_ENDINGS) or entry.is_folder or entry.problem or is_large:
            return None
        try:
            path = clean_path(entry.name)
            with self._outer.open(entry) as stream:
                is_tar = tar_reader.begins_as_tar(stream)
        except (RefusedError, *_BROKEN):
            return None
        return f"{path}/" if is_tar and not is_junk(path) else None

    def _of_shard(self, shard: Entry, prefix: str) -> Iterator[Entry]:
        """The shard's files; one that is damaged is an entry itself, behind what could be read of it."""
        try:
            for file in self._reader(shard).entries():
                if not file.is_folder:
                    handle = len(self._shards) * _HANDLES + file.handle
                    yield replace(file, name=prefix + file.name, handle=handle, problem=_problem(file), shard=prefix)
        except TaskError as error:
            if error.code != "damaged_archive":
                raise
            yield replace(shard, problem=RefusedError(error.code, str(error)))
        finally:
            self._left -= self._current[1].unpacked_bytes if self._current is not None else 0

    def _reader(self, shard: Entry) -> tar_reader.TarReader:
        if self._current is None or self._current[0] is not shard:
            self._leave()
            stream = self._outer.open(shard)
            most = min(self._left, tar_reader.most_unpacked(shard.packed_bytes, self._limits))
            most = self._most.setdefault(shard.name, most)  # the same whenever it is opened again
            reader = tar_reader.TarReader(stream, shard.bytes, self._limits, shard.name, most=most)
            self._current = (shard, reader)
        return self._current[1]

    def _leave(self) -> None:
        if self._current is not None:
            self._current[1].close()
            self._current = None


def _problem(file: Entry) -> RefusedError | None:
    """Return why a file of a shard is refused; its own name must be safe, whatever stands before it."""
    try:
        clean_path(file.name)
    except RefusedError as reason:
        return reason
    return file.problem
