"""Folders of a node: one workspace a subject, kept between its attempts, and the shared cache of data sets."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.storage import ObjectStore, StoredFile
from difftune_core.files import fsync, sha256_file
from difftune_core.hooks import TaskError

CHECKPOINTS = "checkpoints"
INCOMING = ".incoming-"
_LOCK_WAIT_S = 5.0
_CHILD_FILE = "child.json"
_MAX_NAME = 60  # characters of at most four bytes; a file name has at most 255 bytes
Check = Callable[[], None]
"""Called now and then by whatever takes long; raises when the run must end."""


class Workspace:
    """`data_dir/work/SUBJECT/`: inputs, config and the trainer's out folder, so that a later attempt goes on here."""

    def __init__(self, data_dir: Path, subject_id: str) -> None:
        """Name the subject's folders; nothing is made yet."""
        self.folder = data_dir.resolve() / "work" / subject_id
        self.out = self.folder / "out"

    def lock(self) -> int:
        """Take the workspace for an attempt: a descriptor that the trainer inherits, and so holds on to, and that the
        supervisor closes once the trainer has started.

        A trainer of an earlier attempt, whose supervisor is frozen and has lost the lease, is killed.

        Raises:
            TaskError: `workspace_busy`, it did not go away.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def note_child(self, pid: int) -> None:
        """Remember who works here, for a successor that finds the folder locked."""
        text = json.dumps({"pid": pid, "started": _start_time(pid)})
        (self.folder / _CHILD_FILE).write_text(text, encoding="utf-8")

    def input_file(self, role: str, filename: str, cached: Path) -> Path:
        """A link to a cached file under the name that its owner gave it: reports name it so."""
        folder = self.folder / "inputs" / role
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        link = folder / (re.sub(r"[\x00-\x1f/\\]", "_", filename).strip(". ")[-_MAX_NAME:] or "data")
        link.symlink_to(cached.resolve())
        return link

    def write_config(self, config: dict[str, Any]) -> Path:
        """The child's config file."""
        path = self.folder / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    def remove(self) -> None:
        """Delete all files of the subject but its logs."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            self._kill_leftover()
            if time.monotonic() > deadline:
                raise TaskError("workspace_busy", "An earlier attempt's child process had not ended yet.")
            time.sleep(0.05)

    def _kill_leftover(self) -> None:
        try:
            noted = json.loads((self.folder / _CHILD_FILE).read_text(encoding="utf-8"))
            pid, started = int(noted["pid"]), noted["started"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if started is not None and _start_time(pid) == started:  # the same process, not a later one with its id
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Fetched:
    """A data set's file on this node."""

    path: Path
    sha256: str
    md5: str | None
    """Known only where the file was fetched just now."""


def cached_dataset(data_dir: Path, sha256: str) -> Path:
    """Return where a data set's file is kept on this node."""
    return data_dir / "cache" / "datasets" / f"{sha256}.zip"


def fetch_dataset(store: ObjectStore, parts: list[dict[str, Any]], data_dir: Path, check: Check) -> Fetched:
    """Download a file's parts in order into the cache, named by its sha256.

    Raises:
        TaskError: `object_missing` or `damaged_file`.
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    folder = cached_dataset(data_dir, "").parent
    with aside_of(folder) as aside:
        with aside.open("xb") as file:
            for part in parts:
                size = 0
                for chunk in chunks_of(store, part["key"]):
                    check()
                    sha256.update(chunk)
                    md5.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                if size != part["bytes"]:
                    raise TaskError("damaged_file", f"A part has {size} bytes in the store, not {part['bytes']}.")
        final = cached_dataset(data_dir, sha256.hexdigest())
        fsync(aside)
        aside.replace(final)
    return Fetched(final, sha256.hexdigest(), md5.hexdigest())


def ensure_dataset(store: ObjectStore, parts: list[dict[str, Any]], sha256: str, data_dir: Path, check: Check) -> Path:
    """The cached file of a validated data set, fetched if this node does not have it.

    Raises:
        TaskError: `damaged_file`, the store gives other bytes than those that were validated.
    """
    path = cached_dataset(data_dir, sha256)
    if _is_cached(path, sha256):
        return path
    fetched = fetch_dataset(store, parts, data_dir, check)
    if fetched.sha256 != sha256:
        raise TaskError("damaged_file", f"The data set's sha256 is {fetched.sha256}, not {sha256} as validated.")
    return fetched.path


def _is_cached(path: Path, sha256: str) -> bool:
    """Return whether the file is there as it was fetched; a damaged one is fetched again."""
    try:
        os.utime(path)  # last use, for eviction
        return sha256_file(path) == sha256
    except OSError:
        return False


def ensure_file(store: ObjectStore, key: str, sha256: str, path: Path, check: Check) -> Path:
    """A cached file that is named by its sha256, fetched if this node does not have it.

    Raises:
        TaskError: `object_missing` or `damaged_file`.
    """
    if _is_cached(path, sha256):
        return path
    with aside_of(path.parent) as aside:
        fetch_object(store, key, sha256, aside, check)
        fsync(aside)
        aside.replace(path)
    return path


def fetch_object(store: ObjectStore, key: str, sha256: str, path: Path, check: Check) -> None:
    """Download an object into a new file, and compare its digest.

    Raises:
        TaskError: `object_missing` or `damaged_file`.
    """
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for chunk in chunks_of(store, key):
            check()
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        message = f"The object {key} is damaged in the store: its sha256 is {digest.hexdigest()}, not {sha256}."
        raise TaskError("damaged_file", message)


def fetch_files(store: ObjectStore, files: Iterable[StoredFile], target: Path, check: Check) -> None:
    """Download files into a folder of that name; it appears whole or not at all.

    Raises:
        TaskError: `object_missing` or `damaged_file`.
    """
    with aside_of(target.parent) as aside:
        aside.mkdir()
        for file in files:
            fetch_object(store, file.key, file.sha256, aside / Path(file.filename).name, check)
        shutil.rmtree(target, ignore_errors=True)
        aside.replace(target)


@contextmanager
def aside_of(folder: Path) -> Iterator[Path]:
    """A name for something unfinished in `folder`; what is left of it at the end is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{INCOMING}{secrets.token_hex(8)}"
    try:
        yield aside
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


class LostObjectError(TaskError):
    """The store has an object no more that a row names."""

    def __init__(self, key: str) -> None:
        """`key`: the object's."""
        super().__init__("object_missing", f"The object {key} is not in the store any more.")
        self.key = key


def chunks_of(store: ObjectStore, key: str) -> Iterator[bytes]:
    try:
        yield from store.read(key)
    except FileNotFoundError:
        raise LostObjectError(key) from None


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None where there is none or no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
