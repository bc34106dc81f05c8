"""Room on the data folder's disk, of which some is kept back: on a full one things can still be deleted and ended.

What is kept back are files without content. They go one by one, when deleting, ending, a heartbeat or a start needs
room, and come back when there is plenty again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_PIECES = 4
_SMALLEST_PIECE, _LARGEST_PIECE = 2 << 20, 16 << 20
_OF_THE_DISK = 256
_CHUNK = bytes(1 << 20)


class Reserve:
    """The files `reserve/*` of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        """Describe the reserve; `make` makes it."""
        self.data_dir = data_dir
        self._folder = data_dir / "reserve"

    @property
    def piece_bytes(self) -> int:
        """Size of one file: enough for the rows of a large deletion, and little of a small disk."""
        return max(_SMALLEST_PIECE, min(_LARGEST_PIECE, shutil.disk_usage(self.data_dir).total // _OF_THE_DISK))

    @property
    def free_bytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self.data_dir).free

    @property
    def is_short(self) -> bool:
        """Whether there is less room than a piece has."""
        return self.free_bytes < self.piece_bytes

    def release(self) -> bool:
        """Let a piece go; whether there was one."""
        for path in sorted(self._folder.glob("[0-9]"), reverse=True):
            with suppress(FileNotFoundError):
                path.unlink()
                return True
        return False

    def release_if_short(self) -> bool:
        """Let a piece go where the disk is full; whether one went."""
        return self.is_short and self.release()

    def make(self) -> None:
        """Make the pieces that are missing, as long as much more room than all of them is left."""
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True, mode=0o700)
            for number in range(_PIECES):
                path = self._folder / str(number)
                if path.exists():
                    continue
                if self.free_bytes < (_PIECES + 1) * self.piece_bytes:
                    return
                _fill(path, self.piece_bytes)


def shed(data_dir: Path) -> None:
    """Remove what can be had again, where nothing runs: moved logs, and copies of data sets that the store has."""
    for pattern in ("logs/*.log.1", "cache/datasets/*"):
        for path in data_dir.glob(pattern):
            with suppress(OSError):
                path.unlink()


def _fill(path: Path, size: int) -> None:
    aside = path.with_name(f".{path.name}")
    try:
        with aside.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for _ in range(size // len(_CHUNK)):
                    file.write(_CHUNK)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
