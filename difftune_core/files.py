"""Writing that survives a crash, and folders that many jobs share by content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difftune_core.holding import use
from difftune_core.hooks import FileInfo
from difftune_core.interruption import interruption_point

_CHUNK = 1 << 20
_SEAL = ".sha256.json"
_LOCK_POLL_S = 0.1
COMPUTED = "computed-2"
"""Folder within a cache folder of what runs computed, named by the version of the rule of their names."""
_UNNUMBERED = ("latents", "controls", "text", "retention", "references", "chains", "models")
"""Folders of version 0.3.0 and earlier, whose names did not tell all contents apart."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_IDENTIFYING = (".safetensors", "config.json", "vocab.json", "merges.txt", "tokenizer.json", "palette.json")
"""Ends of the names of files that decide what a model does; not `card.json`, which holds the digest."""


def sha256_file(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_info(path: Path, root: Path) -> FileInfo:
    """Size and digest of a finished file, and its path relative to `root`."""
    return FileInfo(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path))


def sha256_json(value: Any) -> str:
    """Hex digest of a value's canonical JSON: the key of shared caches."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over names and contents of a model folder's weights, configs and vocabularies, in order."""
    files = sorted(path for path in folder.rglob("*") if path.name.endswith(_IDENTIFYING))
    return sha256_json([[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files])


def whole_folder_digest(folder: Path) -> str:
    """sha256 over names and contents of every file of a folder, in order; a card among them counts too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sha256_json(sorted([path.relative_to(folder).as_posix(), sha256_file(path)] for path in files))


def fsync(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: Exception) -> bool:
    """Return whether a write failed for want of room; safetensors tells the number in its text alone."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(f"(os error {number})" in str(error) for number in _FULL)


def write_durably(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace `path` as a whole: after a crash it holds the old content or the new, which may come in pieces."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        fsync(aside)
        aside.replace(path)
    except OSError:  # a half of it would fill a full disk further with each attempt
        aside.unlink(missing_ok=True)
        raise
    fsync(path.parent)


@contextmanager
def folder_aside(final: Path) -> Iterator[Path]:
    """A folder to fill; renamed to `final` when the block ends, gone when it raises."""
    aside = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in aside.rglob("*"):
            fsync(path)
        fsync(aside)
        aside.rename(final)
        fsync(final.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def build_once(final: Path, build: Callable[[Path], None], parts: Path | None = None) -> Path:
    """The folder `final`, built by the first who needs it while others wait; if it dies, the next takes its turn.

    One whose files are not any more as they were built is built again: a damaged disk spoils no run for ever. It is
    held for the block of `difftune_core.holding` that this is in.

    Args:
        final: what is wanted.
        build: fills a folder that becomes it.
        parts: where `build` leaves what it has finished, for who comes after a kill; gone once all is built. The files
            of a damaged folder come there too: `build` tells which of them are whole.
    """
    if use(final) and _is_intact(final):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with final.with_name(f".{final.name}.lock").open("w") as lock:
        _wait_for(lock.fileno())
        if not _is_intact(final):
            if parts is not None and final.is_dir() and not parts.exists():
                final.rename(parts)
            for left in (final, *final.parent.glob(f".{final.name}.[0-9]*")):  # of builders that were killed
                shutil.rmtree(left, ignore_errors=True)
            with folder_aside(final) as aside:
                build(aside)
                _seal(aside)
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)
        use(final)
    return final


def sealed_digest(folder: Path, name: str) -> str:
    """The sha256 of a file in a built folder, which was compared with its bytes when the folder was opened."""
    try:
        digest: str = json.loads((folder / _SEAL).read_bytes())[name]
    except OSError:  # of an earlier version
        return sha256_file(folder / name)
    return digest


def _wait_for(lock: int) -> None:
    """Take a lock that another may hold for hours; a stop need not wait for it."""
    import fcntl  # Unix alone has it, and commands that ask a service from elsewhere come by here

    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            interruption_point()
            time.sleep(_LOCK_POLL_S)
        else:
            return


def outdated_caches(cache: Path) -> list[Path]:
    """Folders in a cache folder that earlier versions filled and that nothing reads any more."""
    numbered = [path for path in cache.glob("computed-*") if path.name != COMPUTED]
    return [path for path in (*numbered, *(cache / name for name in _UNNUMBERED)) if path.is_dir()]


def _seal(folder: Path) -> None:
    digests = {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
    (folder / _SEAL).write_text(json.dumps(digests), encoding="utf-8")


def _is_intact(folder: Path) -> bool:
    """Return whether a built folder is there and has the bytes of its seal; earlier versions built without one."""
    seal = folder / _SEAL
    if not seal.is_file():
        return folder.is_dir()
    try:
        digests = json.loads(seal.read_bytes())
        return all(sha256_file(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False
