"""What a backup says about itself: `manifest.json`, written last."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

MANIFEST = "manifest.json"
OBJECTS = "objects"


class BackupError(Exception):
    """It cannot be made or used; the message says why and what to do."""


class ObjectEntry(BaseModel):
    """An object that belongs to the backup."""

    model_config = ConfigDict(frozen=True)
    key: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """A backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    difftune: str
    """The version that made it."""
    created_at: float
    revision: str
    """Of the tables."""
    database: Literal["sqlite", "postgresql"]
    file: str
    """The dump, beside this file."""
    sha256: str
    """Of the dump."""
    rows: dict[str, int]
    """By table."""
    with_objects: bool
    """Whether the objects themselves are in the backup, in `objects/`."""
    objects: list[ObjectEntry]
    missing: list[str]
    """Keys that rows name and the store did not have."""
