from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from api.findings import Finding, bad, good, poor
from api.keys.service import KEY_FILE
from api.settings import SECRETS_DIR, Settings

_CHECK = "data folder"
_SECRETS = "secrets"
_LITTLE_BYTES = 10 * 2**30
_TOO_LITTLE_BYTES = 2**30
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def look(settings: Settings) -> Iterator[Finding]:
    """Find out whether the data folder is there, can be written and has room."""
    folder = settings.data_dir
    if folder.exists() and not folder.is_dir():
        yield bad(_CHECK, f"{folder} is no folder", "Name another: --data-dir, or DIFFTUNE_DATA_DIR.")
        return
    if not folder.exists():
        advice = (
            "The first start makes it. If a service ran already, name its folder: --data-dir, or DIFFTUNE_DATA_DIR."
        )
        yield poor(_CHECK, f"{folder} does not exist", advice)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield bad(_CHECK, f"{there} cannot be written by user {os.getuid()}", "Change its owner, or DIFFTUNE_DATA_DIR.")
        return
    yield from _modes(there) if there == folder else ()
    free = shutil.disk_usage(there).free
    room = f"{there} has {free / 2**30:.1f} GiB free"
    if free < _TOO_LITTLE_BYTES:
        yield bad(_CHECK, room, "Jobs fail with disk_full: make room.")
    elif free < _LITTLE_BYTES:
        yield poor(_CHECK, room, "A checkpoint of DiT-XL/2 with its optimizer takes about 11 GB.")
    else:
        yield good(_CHECK, room)


def _modes(folder: Path) -> Iterator[Finding]:
    """Find out whether others may look into the folder, and, where they may, into which of its files."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OTHERS:
        open_files = sum(bool(path.stat().st_mode & _OTHERS) for path in folder.iterdir() if path.is_file())
        seen = f"{folder} has mode {mode:04o}, and {open_files} files in it can be read by others"
        yield poor(_CHECK, seen, f"chmod -R go= {folder}")


def look_at_secrets(settings: Settings) -> Iterator[Finding]:
    """Find out whether keys are for their owner's eyes only."""
    given = os.environ.get(SECRETS_DIR)
    files = [
        settings.data_dir / KEY_FILE,
        *_files(settings.data_dir / "secrets"),
        *(_files(Path(given)) if given else []),
    ]
    files = [path for path in files if path.is_file()]
    readable = [path for path in files if path.stat().st_mode & _OTHERS]
    for path in readable:
        mode = stat.S_IMODE(path.stat().st_mode)
        yield bad(_SECRETS, f"{path} has mode {mode:04o}: others may read it", f"chmod 600 {path}")
    if not readable:
        yield good(_SECRETS, f"{len(files)} key files, each for its owner alone")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
