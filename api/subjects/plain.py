"""Subjects that need no table of their own: for kinds of work of other packages, and for small ones of ours."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, TypeVar

from sqlalchemy import JSON, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from api.db import Base
from api.ids import new_id
from api.schemas import Listed, Resolved, seconds
from api.subjects import files
from api.subjects.models import Counted, OwnedSubject, one_of
from api.subjects.owned import OwnedKind
from api.subjects.schemas import Failure, Progress, Report, reports_of
from api.subjects.states import FINAL, Status
from api.work import service as work
from api.work.states import Slot

PlainT = TypeVar("PlainT", bound="PlainSubject")


class PlainSubject(Counted, OwnedSubject, Base):
    """A subject that its config tells whole. A kind has a class of its own, which says no more than its name.

    `class Count(PlainSubject): noun = "count"; __mapper_args__ = {"polymorphic_identity": "count_colours"}`
    """

    __tablename__ = "subjects"
    __table_args__ = (one_of(Status),)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_abstract": True}  # noqa: RUF012  # SQLAlchemy's own
    noun = "subject"

    kind: Mapped[str] = mapped_column(String(32), index=True)
    """Name of the kind of work."""
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    """All that the child process is told."""
    needs: Mapped[list[str]] = mapped_column(JSON)
    """Ids of the data sets, checkpoints and retention sets that it works on."""


class PlainKind(OwnedKind[PlainT]):
    """A kind of work on plain subjects."""

    prefix: ClassVar[str]
    """Beginning of the ids of the kind's subjects."""
    slot: ClassVar[Slot] = Slot.CPU
    priority: ClassVar[int] = 0
    """Priority of the subject among the tenant's own work."""

    def create(
        self,
        session: Session,
        tenant_id: str,
        config: dict[str, Any],
        *,
        needs: Sequence[str] = (),
        total: int = 0,
        metadata: dict[str, str] | None = None,
    ) -> PlainT:
        """A new subject, queued. The caller has looked at what it needs, and holds it locked."""
        subject = self.row(
            id=new_id(self.prefix),
            tenant_id=tenant_id,
            status=Status.QUEUED,
            config=config,
            needs=list(needs),
            total=total,
            metadata_=metadata,
            created_at=time.time(),
        )
        session.add(subject)
        session.flush()
        work.enqueue(session, self.name, subject.id, tenant_id=tenant_id, slot=self.slot, priority=self.priority)
        return subject

    def users(self, session: Session, tenant_id: str, ids: Collection[str]) -> list[str]:
        """Subjects that are not final and need one of these."""
        query = select(self.row).where(*self.row.seen_by(tenant_id), self.row.status.not_in(FINAL))
        return [row.id for row in session.scalars(query.order_by(self.row.id)) if not set(row.needs).isdisjoint(ids)]


class PlainReport(Report):
    """A file that the work has made."""


class PlainOut(Listed):
    """A plain subject. A kind's own class says what its `object` is."""

    object: str
    status: Status
    config: Resolved
    progress: Progress
    reports: list[PlainReport]
    metadata: dict[str, str] | None
    error: Failure | None
    created_at: int
    started_at: int | None
    finished_at: int | None


OutT = TypeVar("OutT", bound=PlainOut)


def plain_out(shape: type[OutT], path: str) -> Any:
    """Return what `Routes` needs to show plain subjects in a shape; `path` is that of their list."""

    def shown(session: Session, rows: Sequence[PlainSubject]) -> list[OutT]:
        reports = files.of(session, [row.id for row in rows])
        return [
            shape(
                id=row.id,
                object=shape.model_fields["object"].default,
                status=Status(row.status),
                config=row.config,
                progress=Progress(done=row.done, total=row.total),
                reports=reports_of(PlainReport, reports[row.id], f"{path}/{row.id}"),
                metadata=row.metadata_,
                error=Failure.of(row),
                created_at=int(row.created_at),
                started_at=seconds(row.started_at),
                finished_at=seconds(row.finished_at),
            )
            for row in rows
        ]

    return shown
