"""The first key's file, and which key it is: that is known even when the file is gone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from api.keys.service import KEY_FILE, id_in

_ID_FILE = Path("secrets") / "first-key-id"


def write_first(data_dir: Path, token: str) -> Path:
    """Put a key into the key file, mode 0600, in place of what is there."""
    path = data_dir / KEY_FILE
    _write(path, token)
    keep_first(data_dir, id_in(token))
    return path


def keep_first(data_dir: Path, key_id: str) -> None:
    """Note which key is in the key file."""
    if read_first_id(data_dir) != key_id:
        (data_dir / _ID_FILE).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(data_dir / _ID_FILE, key_id)


def read_first_id(data_dir: Path) -> str | None:
    """Id of the key that was put into the key file last; None where that was elsewhere."""
    try:
        return (data_dir / _ID_FILE).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _write(path: Path, line: str) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
