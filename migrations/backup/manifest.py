"""What a backup says about itself: `manifest.json`, written last."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

MANIFEST = "manifest.json"
OBJECTS = "objects"


class BackupError(Exception):
    """A backup cannot be made or used; the message says why and what to do."""


class ObjectEntry(BaseModel):
    """An object that belongs to the backup."""

    model_config = ConfigDict(frozen=True)
    key: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a backup holds, and of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    difftune: str
    """Version of difftune that made the backup."""
    created_at: float
    revision: str
    """Revision of the tables."""
    database: Literal["sqlite", "postgresql"]
    file: str
    """Name of the dump, which lies beside this file."""
    sha256: str
    """Digest of the dump, in hex."""
    rows: dict[str, int]
    """Number of rows, by table."""
    with_objects: bool
    """Whether the objects themselves are in the backup, in `objects/`."""
    objects: list[ObjectEntry]
    missing: list[str]
    """Keys that rows name and the store did not have."""
