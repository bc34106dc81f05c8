"""What exports of all families have: a card, a README for whoever finds them elsewhere, and one form of archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

README = "README.md"
CARD = "difftune.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def licence_of(card: dict[str, Any]) -> str:
    """What to say of the base model's licence."""
    known = card.get("licence")
    return str(known) if known and known != "unknown" else "not named on its card: ask whoever published it"


def zip_folder(folder: Path, target: Path) -> None:
    """Store a folder in a zip, the same bytes for the same content."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH), path.read_bytes())
