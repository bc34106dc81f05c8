"""What exports of all families have: a card, a README for whoever finds them elsewhere, and one form of archive."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from difftune_core.runtime.foreign import kept

README = "README.md"
CARD = "difftune.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def stated_config(network: Any) -> dict[str, Any]:
    """Read the config of one of diffusers' networks, without where it was loaded from: a path of this machine."""
    return kept(json.loads(network.to_json_string()))


def forget_place(path: Path) -> None:
    """Take where a network was loaded from out of the config that diffusers saved."""
    stated = kept(json.loads(path.read_bytes()))
    path.write_text(json.dumps(stated, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def licence_of(card: dict[str, Any]) -> str:
    """Return what to say of the base model's licence."""
    known = card.get("licence")
    return str(known) if known and known != "unknown" else "not named on its card: ask whoever published it"


def zip_folder(folder: Path, target: Path) -> None:
    """Store a folder in a zip, the same bytes for the same content."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH), path.read_bytes())
