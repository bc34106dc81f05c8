"""Stored files as they are handed out: one shape for checkpoints, results of jobs and reports of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Download:
    """An object to hand out."""

    key: str
    filename: str
    content_type: str
    bytes: int
    sha256: str
    note: str | None = None
    """What whoever takes it must know."""


class StoredRow(Protocol):
    """A row that names an object: files of jobs, comparisons and analyses."""

    filename: str
    key: str
    content_type: str
    bytes: int
    sha256: str


def saved_as(found: StoredRow, name: str, owner_id: str) -> Download:
    """The file of a job, comparison or analysis under a name that tells it from others of its kind.

    Args:
        found: the row.
        name: what people call the owner: its suffix, or the model.
        owner_id: the owner's id.
    """
    filename = f"{name}-{owner_id}-{found.filename}"
    return Download(found.key, filename, found.content_type, found.bytes, found.sha256)
