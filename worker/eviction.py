"""The shared cache of a node within its budget: what was used least recently goes first, what is used stays.

What is evicted is fetched or computed anew by the next run that needs it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from difftune_core.files import COMPUTED
from difftune_core.holding import unused
from worker.base_models import MODELS
from worker.workspace import INCOMING

_FRESH_S = 600.0  # longer than between what a run fetched or built and the moment when it holds it
_UNFINISHED_KEPT_S = 86_400.0  # of what is built: it has no lock of its own, and grows for hours
_PLACES = ("datasets/*", "retention_sets/*", "checkpoints/*", f"{MODELS}/*", f"{COMPUTED}/*/*")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, order=True)
class _Entry:
    used_at: float
    path: Path
    num_bytes: int


def evict(cache: Path, budget: int | None) -> int:
    """Remove entries until the cache fits; bytes that it had less.

    Args:
        cache: the folder that the runs of a node share.
        budget: bytes that it may have; None: as many as are free beside it.
    """
    if not cache.is_dir():
        return 0
    entries = sorted(_entries(cache))
    total = sum(entry.num_bytes for entry in entries)
    limit = _half(cache, total) if budget is None else budget
    removed = 0
    for entry in entries:
        if total - removed <= limit or time.time() - entry.used_at < _FRESH_S:
            break
        if _remove(cache, entry.path):
            removed += entry.num_bytes
            log.info("evicted", entry=entry.path.relative_to(cache).as_posix(), bytes=entry.num_bytes)
    if total - removed > limit:
        log.warning("cache_over_budget", bytes=total - removed, budget=limit)
    return removed


def _half(cache: Path, total: int) -> int:
    """Half of what the cache has and what is free, so that both are equal in the end."""
    return (total + shutil.disk_usage(cache).free) // 2


def _entries(cache: Path) -> Iterator[_Entry]:
    for place in _PLACES:
        for path in cache.glob(place):
            try:
                used_at = path.lstat().st_mtime
                is_unfinished = path.name.startswith(".")
                if is_unfinished and (not path.is_dir() or time.time() - used_at < _UNFINISHED_KEPT_S):
                    continue
                yield _Entry(used_at, path, _size_of(path))
            except OSError:  # it went meanwhile
                continue


def _size_of(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in inside)


def _remove(cache: Path, path: Path) -> bool:
    """Return whether the entry was removed: at once for all who look for it, then byte by byte."""
    aside = cache / path.relative_to(cache).parts[0] / f"{INCOMING}{secrets.token_hex(8)}"
    with unused(path) as is_unused:
        if not is_unused:
            return False
        try:
            path.rename(aside)
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        except OSError:
            log.exception("not_evicted", entry=str(path))
            return False
    return True
