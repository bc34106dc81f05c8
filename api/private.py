"""What we write is for its owner's eyes: data sets, keys and models of others lie in the data folder."""

from __future__ import annotations

import os
from pathlib import Path

_OWNER_ALONE = 0o077


def write_privately() -> None:
    """Once at start of a process: its files get mode 0600, its folders 0700, and those of its children too."""
    os.umask(_OWNER_ALONE)


def make_private_folder(folder: Path) -> None:
    """Make the data folder with mode 0700, or give an empty one this mode; what holds something is left as it is."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not any(folder.iterdir()):
        folder.chmod(0o700)
