"""Which objects rows name: what the sweep must not collect, and what a backup must hold."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.subjects import files
from api.subjects.kinds import owner, owners


def named_keys(session: Session) -> dict[str, str | None]:
    """Yield every object that a row names, with its sha256 where the row knows it."""
    found = files.named(session)
    for each in owners():
        found |= each.named(session)
    return found


def swept() -> list[str]:
    """The folders that are looked through, first parts of keys; everything else in the store is left alone."""
    return [each.folder for each in owners()]


def named_in(session: Session, folder: str, subject_id: str) -> set[str]:
    """The objects of a subject that rows name: its result files, whatever its kind, and what its kind has besides."""
    return {*files.named(session, subject_id), *owner(folder).named(session, subject_id)}


def owner_of(session: Session, key: str) -> str:
    """Whose an object is, in words: its key names the subject."""
    folder, _, rest = key.partition("/")
    if folder == "models":
        return f"model {rest.partition('/')[0]}"
    return owner(folder).holder_of(session, key) if folder in swept() else "nobody that is known"
