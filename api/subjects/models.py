from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sqlalchemy import JSON, BigInteger, CheckConstraint, ColumnElement, Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.ids import new_id
from api.storage import StoredFile
from api.subjects.states import ALLOWED, Status


def one_of(statuses: Iterable[str]) -> CheckConstraint:
    """The database itself refuses an unknown status."""
    return CheckConstraint(f"status IN ({', '.join(repr(str(status)) for status in statuses)})", name="status")


class Stated:
    """A row with a status and one table of its transitions."""

    noun: ClassVar[str]
    """What such a row is called in codes of errors."""
    transitions: ClassVar[Mapping[str, frozenset[str]]] = ALLOWED
    status: Mapped[str]

    def set_status(self, status: str) -> None:
        """The one setter.

        Raises:
            ValueError: the transition is not in the table.
        """
        if status not in self.transitions[self.status]:
            raise ValueError(f"the {self.noun} cannot go from {self.status} to {status}")
        self.status = status


class Dated:
    """A row with a public id, which sorts by the time when it was made."""

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    created_at: Mapped[float] = mapped_column(Double)


class Owned(Dated):
    """A row that a tenant sees."""

    noun: ClassVar[str]
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)

    @classmethod
    def seen_by(cls, tenant_id: str) -> list[ColumnElement[bool]]:
        """Return the condition on the rows that the tenant sees."""
        return [cls.tenant_id == tenant_id]


class Subject(Dated, Stated):
    """A row on which one piece of work is done."""

    status: Mapped[str] = mapped_column(String(16), default=Status.QUEUED)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(4000))
    error_param: Mapped[str | None] = mapped_column(String(255))
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)

    def begin(self) -> None:
        """Note that a worker has claimed the work."""
        self.started_at = self.started_at or time.time()
        self.set_status(Status.RUNNING)

    def end(self, status: Status) -> None:
        """Give the subject a final status."""
        self.set_status(status)
        self.finished_at = time.time()

    def fail(self, *, code: str, message: str, param: str | None = None) -> None:
        """Let the subject fail for a reason that the user sees."""
        self.error_code, self.error_message, self.error_param = code[:64], message[:4000], param and param[:255]
        self.end(Status.FAILED)


class Labelled:
    """What the owner of a subject has written on it."""

    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSON)


class OwnedSubject(Labelled, Owned, Subject):
    """A subject that is one tenant's."""


class Counted:
    """How far the work on a subject is: `done` of `total` images."""

    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)


class ResultFile(Base):
    """A file that work on a subject has made and that lies in the store: report, samples, export.

    Whatever its subject is: a job, a comparison, an analysis. Those of jobs are listed as OpenAI files.
    """

    __tablename__ = "result_files"
    __table_args__ = (Index("ix_result_files_subject_id", "subject_id", "kind", "step"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("file"))
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    subject_id: Mapped[str] = mapped_column(String(40))
    """Id of a subject of any kind, so no foreign key: `api.subjects.files.remove` goes with the subject's end."""
    kind: Mapped[str] = mapped_column(String(32))
    """`difftune_core.hooks.ArtifactEvent.kind`."""
    step: Mapped[int] = mapped_column(default=0)
    """Step of the training that the file shows; 0 where there is none."""
    filename: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(512))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    content_type: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[float] = mapped_column(Double)

    @property
    def stored(self) -> StoredFile:
        """The file itself."""
        return StoredFile(self.key, self.filename, self.bytes, self.sha256, self.content_type)
