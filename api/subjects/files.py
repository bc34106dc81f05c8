"""The result files of a subject, of whatever kind: one shape, one table, one lookup."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.errors import NotFoundError, NotYetError
from api.storage import StoredFile
from api.subjects.models import Owned, OwnedSubject, ResultFile
from api.subjects.states import FINAL


@dataclass(frozen=True, kw_only=True)
class Result(StoredFile):
    """A stored file that work on a subject has made."""

    kind: str
    """`difftune_core.hooks.ArtifactEvent.kind`."""
    step: int


def add(session: Session, subject: Owned, files: Iterable[Result]) -> None:
    """Rows for results; a file of the same kind, step and name takes the place of an earlier attempt's."""
    for file in files:
        same = (ResultFile.kind == file.kind, ResultFile.step == file.step, ResultFile.filename == file.filename)
        row = session.scalars(select(ResultFile).where(ResultFile.subject_id == subject.id, *same)).one_or_none()
        if row is None:
            row = ResultFile(tenant_id=subject.tenant_id, subject_id=subject.id, kind=file.kind)
            row.step, row.filename = file.step, file.filename
            session.add(row)
        row.key, row.bytes, row.sha256, row.content_type = file.key, file.bytes, file.sha256, file.content_type
        row.created_at = time.time()
        session.flush()


def of(
    session: Session, subject_ids: Sequence[str], *, by: InstrumentedAttribute[str] = ResultFile.filename
) -> dict[str, list[ResultFile]]:
    """Result files by subject, in order of their names unless `by` says another."""
    found: dict[str, list[ResultFile]] = defaultdict(list)
    query = select(ResultFile).where(ResultFile.subject_id.in_(subject_ids)).order_by(by)
    for file in session.scalars(query):
        found[file.subject_id].append(file)
    return found


def report(session: Session, subject: OwnedSubject, filename: str) -> ResultFile:
    """The subject's file of that name.

    Raises:
        NotYetError: there is no report yet.
        NotFoundError: it has no such file; says which there are.
    """
    named = {file.filename: file for file in of(session, [subject.id])[subject.id]}
    if filename in named:
        return named[filename]
    owner = f"{subject.noun.capitalize()} {subject.id}"
    if subject.status not in FINAL:
        raise NotYetError("report_not_ready", f"{owner} is {subject.status} and has no report yet.")
    there_are = f"files: {', '.join(named)}" if named else "it has none"
    raise NotFoundError("report_not_found", f"There is no {filename!r} in the report of {owner} ({there_are}).")


def named(session: Session, subject_id: str | None = None) -> dict[str, str | None]:
    """Keys of the result files of one subject or of all, with their sha256."""
    query = select(ResultFile.key, ResultFile.sha256)
    if subject_id is not None:
        query = query.where(ResultFile.subject_id == subject_id)
    return {row.key: row.sha256 for row in session.execute(query)}


def remove(session: Session, subject_id: str, *those: ColumnElement[bool]) -> list[str]:
    """Delete the rows of the subject's files, or of `those` among them; keys to delete after the commit."""
    rows = (ResultFile.subject_id == subject_id, *those)
    keys = list(session.scalars(select(ResultFile.key).where(*rows)))
    session.execute(delete(ResultFile).where(*rows))
    return keys
