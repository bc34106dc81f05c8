"""What the service writes is for its owner's eyes: the data folder holds data sets, keys and models of others."""

from __future__ import annotations

import os
from pathlib import Path

_OWNER_ALONE = 0o077


def write_privately() -> None:
    """Give the process's new files mode 0600 and folders 0700, its children's too; call this once at its start."""
    os.umask(_OWNER_ALONE)


def make_private_folder(folder: Path) -> None:
    """Make the data folder with mode 0700, or give an empty one this mode; what holds something is left as it is."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not any(folder.iterdir()):
        folder.chmod(0o700)
