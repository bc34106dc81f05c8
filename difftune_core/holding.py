"""Entries of a shared cache while they are used: whoever removes what was used least recently leaves these alone.

A lock on the entry itself says that it is used, so that it ends with the process that has it, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_blocks: list[dict[Path, int]] = []
"""What each open block of `holding` has: entries, and the descriptors that hold them."""


@contextmanager
def holding() -> Iterator[None]:
    """A block until whose end all entries that are used in it stay; outside of one, `use` notes their use alone."""
    held: dict[Path, int] = {}
    _blocks.append(held)
    try:
        yield
    finally:
        _blocks.remove(held)
        for descriptor in held.values():
            os.close(descriptor)


def use(path: Path) -> bool:
    """Note that the entry at `path` is used now, and hold it for the block; whether there is one."""
    descriptor = hold(path)
    if descriptor is None:
        return False
    before = _blocks[-1].pop(path, None) if _blocks else descriptor
    if _blocks:
        _blocks[-1][path] = descriptor
    if before is not None:
        os.close(before)
    return True


def hold(path: Path) -> int | None:
    """A descriptor as long as which is open the entry at `path` stays, in a child too; None where there is none."""
    while (descriptor := _opened(path)) is not None:
        with suppress(OSError):  # a file system without locks
            _lock(descriptor, alone=False)
        if _leads_to(path, descriptor):
            with suppress(OSError):
                os.utime(path)
            return descriptor
        os.close(descriptor)  # it was removed meanwhile, and perhaps made anew
    return None


@contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether nobody uses the entry at `path`; nobody begins to in the block."""
    descriptor = _opened(path)
    if descriptor is None:
        yield False
        return
    try:
        try:
            _lock(descriptor, alone=True)
        except OSError:  # somebody does, or nobody can know
            yield False
        else:
            yield _leads_to(path, descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _lock(descriptor: int, *, alone: bool) -> None:
    import fcntl  # Unix alone has it, and commands that ask a service from elsewhere come by here

    fcntl.flock(descriptor, (fcntl.LOCK_EX | fcntl.LOCK_NB) if alone else fcntl.LOCK_SH)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
