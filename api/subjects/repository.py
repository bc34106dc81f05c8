from __future__ import annotations

from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.errors import not_found
from api.subjects import files
from api.subjects.models import Owned, OwnedSubject, Subject
from api.work.models import WorkItem
from api.work.states import WorkState

OwnedT = TypeVar("OwnedT", bound=Owned)
SubjectT = TypeVar("SubjectT", bound=Subject)
RowT = TypeVar("RowT")
_FRESH = {"populate_existing": True}


def find(session: Session, row: type[OwnedT], tenant_id: str, id_: str, *, lock: bool = False) -> OwnedT | None:
    """The tenant's row of this id, as it is committed; locked, its status stands still until the transaction ends.

    Not its key: who only writes rows that name it, as workers do all the time, must not wait for a submission.
    """
    query = select(row).where(row.id == id_, *row.seen_by(tenant_id))
    return session.scalar(query.with_for_update(key_share=True) if lock else query, execution_options=_FRESH)


def get(session: Session, row: type[OwnedT], tenant_id: str, id_: str, *, lock: bool = False) -> OwnedT:
    """The tenant's row of this id, as `find` gives it.

    Raises:
        NotFoundError: there is none.
    """
    found = find(session, row, tenant_id, id_, lock=lock)
    if found is None:
        raise not_found(row.noun, id_)
    return found


def lock(session: Session, row: type[SubjectT], subject_id: str) -> SubjectT:
    """The subject, locked for the rest of the transaction. Its work item is locked before it.

    Raises:
        NoResultFound: there is none.
    """
    query = select(row).where(row.id == subject_id).with_for_update()
    return session.scalars(query, execution_options=_FRESH).one()


def lock_seen(session: Session, row: type[OwnedT], tenant_id: str, id_: str) -> OwnedT:
    """The tenant's row of this id, locked as above.

    Raises:
        NotFoundError: there is none, or another request has deleted it.
    """
    query = select(row).where(row.id == id_, *row.seen_by(tenant_id)).with_for_update()
    found = session.scalar(query, execution_options=_FRESH)
    if found is None:
        raise not_found(row.noun, id_)
    return found


def remove(session: Session, subject: OwnedSubject) -> list[str]:
    """Delete a locked subject with its work and its files; keys to delete after the commit."""
    keys = files.remove(session, subject.id)
    session.execute(delete(WorkItem).where(WorkItem.subject_id == subject.id))
    session.execute(delete(type(subject)).where(type(subject).id == subject.id))  # the rest goes by ON DELETE CASCADE
    return keys


def open_work(session: Session, subject_id: str) -> WorkItem | None:
    """The subject's work that is not done, locked. Claims lock the item before the subject: so must others."""
    query = select(WorkItem).where(WorkItem.subject_id == subject_id, WorkItem.state != WorkState.DONE)
    return session.scalar(query.with_for_update(), execution_options=_FRESH)


def paged(
    query: Select[RowT], by: InstrumentedAttribute[Any], *, after: Any, limit: int, ascending: bool
) -> Select[RowT]:
    """Return up to `limit` rows beyond the value `after` of the column `by`, the highest first unless `ascending`."""
    if after not in {None, ""}:
        query = query.where(by > after if ascending else by < after)
    return query.order_by(by if ascending else by.desc()).limit(limit)


def page(
    session: Session,
    row: type[OwnedT],
    tenant_id: str,
    *where: ColumnElement[bool],
    after: str | None,
    limit: int,
    order: Literal["asc", "desc"],
) -> list[OwnedT]:
    """Return up to `limit` of the tenant's rows beyond the id `after`, newest first unless `order` is `asc`."""
    query = select(row).where(*row.seen_by(tenant_id), *where)
    return list(session.scalars(paged(query, row.id, after=after, limit=limit, ascending=order == "asc")))
